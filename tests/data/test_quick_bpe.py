"""tiktoken beside the tokenizers library: the same ids and marks wherever it is used, and not used where it could give others."""

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from weitiao.data import quick_bpe
from weitiao.data.plain_texts import PlainTexts
from weitiao.data.quick_bpe import LONGEST_BLANK, PATTERNS, QuickBpe
from weitiao.model.plain_tokenizer import PlainTokenizer

BUILTIN = Path(quick_bpe.__file__).parents[1] / "builtin" / "model" / "tokenizer.json"


def rules(**changed: Any) -> dict[str, Any]:
    """The built-in model's rules, with changes."""
    tree: dict[str, Any] = json.loads(BUILTIN.read_text(encoding="utf-8"))
    return {**tree, "added_tokens": [], "decoder": None, **changed}


@pytest.fixture(scope="module")
def quick() -> QuickBpe:
    found = QuickBpe.of(rules())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def library() -> Tokenizer:
    return Tokenizer.from_str(json.dumps(rules()))


@pytest.fixture(scope="module")
def plain() -> PlainTexts:
    return PlainTexts(PlainTokenizer(Tokenizer.from_file(str(BUILTIN)), None, {}))


def ids(library: Tokenizer, text: str) -> list[int]:
    return library.encode(text, add_special_tokens=False).ids


SAFE = st.text(st.sampled_from("aBzé'sſ 1９½\t\n\r中文的。，！—《》①ガがｶ한Ωя😀👍🏽\u3000\xa0-_/<|>"), max_size=40)


@given(st.one_of(SAFE, st.text(max_size=30)))
@example("it's I'LL he'd 12345 a\n\n b  \n c\t\t d ")
@example("　　全角空格，“引号”……2024年12月1日 3.14％")
@settings(max_examples=400, deadline=None)
def test_any_text_that_it_takes_gets_the_librarys_ids(quick: QuickBpe, library: Tokenizer, text: str) -> None:
    if quick.takes(text):
        assert quick.ids(text) == ids(library, text)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_character_that_it_takes_is_of_the_same_kind_to_both(pattern: str) -> None:
    """Beside letters, digits, signs, spaces and line ends, a character's kind decides where words are cut."""
    changed = rules()
    changed["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern
    bpe, library = QuickBpe.of(changed), Tokenizer.from_str(json.dumps(changed))
    assert bpe is not None
    taken = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and bpe.takes(chr(code))]
    assert len(taken) > 75_000
    assert {"a", "中", "，", "\u3000", "\n", "é", "한", "😀", "ガ", "𠀀"} <= set(taken)
    assert not {"e\u0301"[1], "\u2028", "ſ", "\u2126", "\x85", "\x1c", "\ue000"} & set(taken)
    texts = [f"a{c}b1{c}2 {c} ,{c}.\n{c}\n{c}{c}'{c}" for c in taken]
    found = library.encode_batch_fast(texts, add_special_tokens=False)
    assert [text for text, one in zip(texts, found, strict=True) if bpe.ids(text) != one.ids] == []


def test_what_nfc_would_change_is_left_to_the_library(quick: QuickBpe) -> None:
    draw = random.Random(0)
    pairs = [chr(draw.randrange(0x20, 0x3100)) + chr(draw.randrange(0x20, 0x3100)) for _ in range(20_000)]
    changing = [pair for pair in pairs if unicodedata.normalize("NFC", pair) != pair]
    assert len(changing) > 50
    assert not any(map(quick.takes, changing))
    assert not quick.takes("e\u0301")


def test_much_white_space_and_very_long_texts_are_left_to_the_library(quick: QuickBpe) -> None:
    assert quick.takes(" " * (LONGEST_BLANK - 1))
    assert not quick.takes("a" + " \n" * LONGEST_BLANK)
    assert not quick.takes("a" * (quick_bpe.LONGEST_TEXT + 1))


@given(SAFE, st.data())
@settings(max_examples=300, deadline=None)
def test_the_marks_of_a_part_are_the_librarys(quick: QuickBpe, plain: PlainTexts, text: str, data: st.DataObject) -> None:
    if not quick.takes(text) or not text:
        return
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.one_of(st.just(len(text)), st.integers(start + 1, len(text))))
    plain.quick = None
    (slow,) = plain.pieces([text])
    plain.quick = quick
    (fast,) = plain.pieces([text])
    assert list(fast.ids) == list(slow.ids)
    assert fast.marks(start, end) == slow.marks(start, end)


def small(merges: list[tuple[str, str]], **changed: Any) -> dict[str, Any]:
    """Rules of all bytes and a few words, in the order of their pairs."""
    tree = rules()
    letters = sorted(quick_bpe._letters(), key=lambda letter: quick_bpe._letters()[letter])
    words = dict.fromkeys("".join(pair) for pair in merges)
    vocab = {word: number for number, word in enumerate([*letters, *words])}
    return {**tree, "model": {**tree["model"], "vocab": vocab, "merges": [list(pair) for pair in merges], **changed}}


def test_words_that_the_librarys_pairs_never_make_are_noticed() -> None:
    """``bc`` comes before ``abc`` = ``ab`` + ``c``, so the library writes ``abc`` as ``a bc``; tiktoken would join the two."""
    reachable = small([("a", "b"), ("ab", "c")])
    unreachable = small([("b", "c"), ("a", "b"), ("ab", "c")])
    assert QuickBpe.of(reachable) is not None
    assert ids(Tokenizer.from_str(json.dumps(unreachable)), "abc") == [ord("a"), 256]
    assert QuickBpe.trusted(PATTERNS[0], quick_bpe._words(unreachable) or {}).ids("abc") == [258]
    assert QuickBpe.of(unreachable) is None


def test_rules_that_are_not_known_to_agree_are_refused() -> None:
    merges = [("a", "b"), ("b", "c"), ("a", "bc")]
    swapped = small(merges)
    swapped["model"]["merges"].reverse()
    twice = small([*merges, ("ab", "c")])
    fewer_bytes = small(merges)
    del fewer_bytes["model"]["vocab"]["ā"]
    tree = rules()
    other_pattern = json.loads(json.dumps(tree["pre_tokenizer"]))
    other_pattern["pretokenizers"][0]["pattern"]["Regex"] = r"\p{L}+|\s+|."
    prefix = json.loads(json.dumps(tree["pre_tokenizer"]))
    prefix["pretokenizers"][1]["add_prefix_space"] = True
    for refused in (
        swapped, twice, fewer_bytes, small(merges, dropout=0.1), small(merges, unk_token="?"), small(merges, byte_fallback=True),
        rules(normalizer={"type": "NFKC"}), rules(pre_tokenizer=other_pattern), rules(pre_tokenizer=prefix), rules(pre_tokenizer=None),
        rules(post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}),
        rules(model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}),
    ):  # fmt: skip
        assert QuickBpe.of(refused) is None
    assert QuickBpe.of(small([("b", "c"), ("a", "b"), ("a", "bc")])) is not None
