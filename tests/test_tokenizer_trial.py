"""Tokenizers from elsewhere: the usual ones are taken, others tried out in a process of their own, bombs refused."""

import json
import subprocess
from pathlib import Path

import pytest
from commands import command
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from weitiao import language
from weitiao.commands import line
from weitiao.errors import ModelError
from weitiao.model.load import BUILTIN_FOLDER
from weitiao.model.tokenizer_trial import require_harmless_tokenizer


@pytest.fixture(autouse=True)
def _english():
    language.use("en")
    yield
    language.use(None)


def test_the_usual_rules_need_no_trial(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(subprocess, "run")
    for folder in (BUILTIN_FOLDER, tiny_model):
        require_harmless_tokenizer(folder / "tokenizer.json")


def with_sentence_pieces() -> Tokenizer:
    """As Llama 2 and Mistral have it: blanks as ▁, bytes for what is unknown, a first token before each text."""
    vocabulary = {"<unk>": 0, "<s>": 1, **{f"<0x{i:02X}>": i + 2 for i in range(256)}, "▁": 258, "a": 259, "▁a": 260}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "a")], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def with_own_patterns() -> Tokenizer:
    """As DeepSeek has it: several patterns one after another."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(sorted(alphabet))}, []))
    patterns = [
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ]
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def with_scores() -> Tokenizer:
    """As T5 and XLM-R have it."""
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("a", -2.0), ("b", -2.5)], unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    return tokenizer


@pytest.mark.parametrize("make", [with_sentence_pieces, with_own_patterns, with_scores])
def test_other_families_pass_their_trial(tmp_path: Path, make) -> None:
    path = tmp_path / "tokenizer.json"
    make().save(str(path))
    require_harmless_tokenizer(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}}, "retry-limit"),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}}, "tokens"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}}, "takes too much memory or crashes"),
        ({"added_tokens": [{"content": "x" * 2000}]}, "added tokens"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 101 + [{"type": "Evil"}]}}, "tried out"),
    ],
)
def test_a_bomb_is_refused(tiny_model: Path, tmp_path: Path, change: dict, said: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads((tiny_model / "tokenizer.json").read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        require_harmless_tokenizer(path)


def test_more_lists_than_any_tokenizer_has(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"[" + b"[]," * 2_000_000 + b"1]")
    with pytest.raises(ModelError, match="2,000,001 objects and lists"):
        require_harmless_tokenizer(path)


class PanicException(BaseException):
    """Stands for pyo3's, which is no Exception either."""


def test_what_a_text_sets_off_later_is_an_error_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*_: object, **__: object) -> None:
        raise PanicException("retry-limit-in-match over")

    monkeypatch.setattr(line, "app", gives_up)
    result = command("runs")
    assert (result.code, result.err) == (1, "error: the tokenizer's library gave up: retry-limit-in-match over\n")
