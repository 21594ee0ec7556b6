"""Near-duplicates: pairs worked by hand, recall over planted edits, and what splits and data.deduplicate make of them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import clean_texts, edited
from rapidfuzz.distance import Levenshtein

from weitiao.data.similar import (
    LARGE_GROUP,
    SHORTEST,
    are_near,
    common_start,
    distinct_pairs,
    hashed_grams,
    names_of,
    near_groups,
    repeats,
    strip_common,
)
from weitiao.data.split import normalised

BASE = "在当前文档中拖动的位置绘制一个已填色的正方形在要绘制"  # 26 characters: 2 edits are a tenth or less


@pytest.mark.parametrize(
    ("other", "near"),
    [
        (BASE, True),
        (BASE[:-1] + "画", True),
        ("甲" + BASE[1:-1] + "乙", True),
        ("甲乙丙" + BASE[3:], False),  # 3 of 26
        (BASE + "甲乙", True),  # 2 of 28
        (BASE + "甲乙丙", False),  # 3 of 29
        (BASE[2:], True),
        (BASE[3:], False),
    ],
)
def test_a_tenth_of_the_characters(other: str, near: bool) -> None:
    assert are_near(BASE, other) is near
    groups = near_groups([BASE, other])
    assert (groups[0] == groups[1]) is near


def test_short_texts_are_never_near() -> None:
    text = "一二三四五六七八九十甲乙丙丁戊己庚辛壬癸"
    assert len(text) == SHORTEST
    assert are_near(text, text[:-1] + "子")
    assert not are_near(text[1:], text[1:-1] + "子")


def test_groups_are_connected_and_named_by_the_first_text() -> None:
    """b is near a and c, a and c are not near each other: one group."""
    a = "甲" * 2 + BASE
    b = "乙" * 2 + BASE
    c = "乙" * 2 + BASE[:-2] + "丙" * 2
    assert not are_near(a, c)
    assert are_near(a, b)
    assert are_near(b, c)
    assert near_groups([a, b, c, "别的"]) == [2, 2, 2, 3]
    assert min(a, b, c) == c


@given(st.lists(st.text("甲乙丙", min_size=20, max_size=24), min_size=2, max_size=8))
@settings(deadline=None, max_examples=150)
def test_what_brute_force_finds_is_found(texts: list[str]) -> None:
    """On texts that are alike all over (the hardest case: few different n-grams). Equal texts aside, groups are the connected parts."""
    groups = near_groups(texts)
    for i, one in enumerate(texts):
        for j, other in enumerate(texts[:i]):
            most = max(len(one), len(other)) // 10
            if Levenshtein.distance(one, other) == 0:
                assert groups[i] == groups[j]
            if groups[i] == groups[j]:
                continue
            missed = Levenshtein.distance(one, other) <= most
            assert not missed or len({one[k : k + 5] for k in range(len(one) - 4)}) <= 5 * (len(one) // 9)


def test_planted_edits_are_all_found_and_nothing_else() -> None:
    draw = random.Random(11)
    texts = [normalised(text) for text in draw.sample(clean_texts(), 1200)]
    copies = [edited(draw, text) for text in texts[:600]]
    groups = near_groups(texts + copies)
    assert all(groups[i] == groups[1200 + i] for i in range(600))
    assert len(set(groups)) == 1200


def test_long_texts_with_edits_all_over() -> None:
    """From 512 characters on n-grams are sampled; one character in eleven is another one."""
    draw = random.Random(5)
    texts = ["".join(draw.choices(clean_texts(), k=draw.randint(8, 60))) for _ in range(60)]
    copies = []
    for text in texts:
        characters = list(text)
        for place in range(3, len(characters), 11):
            characters[place] = "龘"
        copies.append("".join(characters))
    assert max(map(len, texts)) > 2000
    groups = near_groups(texts + copies)
    assert [groups[i] == groups[60 + i] for i in range(60)] == [True] * 60
    assert len(set(groups)) == 60


def test_a_common_beginning_does_not_make_texts_alike() -> None:
    start = "请判断下面这句话的情感倾向并且只回答正面或者负面这两个词中的一个不要解释也不要重复原文"
    texts = [start + text for text in ("今天天气很好", "这家饭店不行", "电影拍得精彩", "手机电池太差", "服务员很热情", "快递三天才到")] * 2
    texts = [text + str(i) for i, text in enumerate(texts)]
    assert common_start(texts) == start
    assert strip_common(texts)[0] == "今天天气很好0"
    assert len(set(near_groups(texts))) == 12


def test_long_texts_without_variety_have_no_sample_and_no_neighbours() -> None:
    """The few n-grams of such texts may all fall outside of the sample."""
    texts = [character * 3000 for character in "甲乙丙丁戊己庚辛"]
    assert near_groups(texts) == list(range(8))


def test_the_order_of_the_texts_does_not_matter() -> None:
    draw = random.Random(2)
    texts = [normalised(text) for text in draw.sample(clean_texts(), 200)]
    texts += [edited(draw, text) for text in texts[:50]]
    before = dict(zip(texts, names_of(texts, near_groups(texts)), strict=True))
    draw.shuffle(texts)
    assert dict(zip(texts, names_of(texts, near_groups(texts)), strict=True)) == before
    assert len(set(before.values())) == 200


def test_a_group_of_nearly_everything_is_taken_apart() -> None:
    """Rows of one template: kept together they would leave nothing for the other splits."""
    template = "这是同一个模板写出来的一句很长的话其中只有编号不一样而已第"
    texts = [f"{template[:20]}{i:03}{template[20:]}" for i in range(LARGE_GROUP + 10)]
    texts += [normalised(text) for text in clean_texts()[:100]]
    assert len(set(near_groups(texts))) == 101
    names = names_of(texts, near_groups(texts))
    assert len(set(names)) == len(texts)
    assert len(set(names_of(texts[10:], near_groups(texts[10:])))) == 101  # 50 rows are kept together


def test_hashes_are_of_n_grams_within_a_text() -> None:
    grams, owners = hashed_grams(["abcd", "", "bcd", "ab"], 3)
    assert owners.tolist() == [0, 0, 2]
    assert grams[1] == grams[2] != grams[0]
    assert [part.tolist() for part in distinct_pairs(grams[[0, 0, 1]], owners[[0, 0, 1]])] in (
        [[int(grams[0]), int(grams[1])], [0, 0]],
        [[int(grams[1]), int(grams[0])], [0, 0]],
    )
    assert hashed_grams(["ab"], 3)[0].size == 0
    assert near_groups([]) == []


def test_repeats_keep_the_first_of_a_text_and_label() -> None:
    texts, labels = ["甲", "甲", "甲", "乙"], ["x", "y", "x", "x"]
    assert repeats(texts, labels, [False] * 4, near=False) == {2: 0}


def test_given_rows_stay_and_their_copies_go() -> None:
    """Rows 2 and 3 are of a test file: both stay, and every other row with their text goes, whatever its label."""
    texts, labels = ["甲", "乙", "甲", "甲", "甲"], ["x", "x", "y", "y", "z"]
    assert repeats(texts, labels, [False, False, True, True, False], near=False) == {0: 2, 4: 2}


def test_near_repeats() -> None:
    other = BASE[:-1] + "画"
    assert repeats([BASE, other, other], ["x", "x", "y"], [False] * 3, near=True) == {1: 0}
    assert repeats([BASE, other, other], ["x", "x", "y"], [False] * 3, near=False) == {}
    assert repeats([BASE, other], ["x", "y"], [False, True], near=True) == {0: 1}
