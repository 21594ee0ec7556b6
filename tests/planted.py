"""Faults planted into clean data, one kind for each check: each gives the data and how many of them the check must count.

``python tests/planted.py 1000 SEED`` plants so many of each kind and prints what was found; `make audit-recall` runs it.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from weitiao.audit.checks import CHECKS
from weitiao.audit.findings import AuditInput
from weitiao.audit.texts import script_of
from weitiao.data.similar import near_groups
from weitiao.data.split import normalised
from weitiao.records import Encoded, Example, Message

TOPICS = Path(__file__).parents[1] / "weitiao" / "builtin" / "topic.jsonl"
LABELS = ("电子表格", "文字处理", "演示文稿")
HAN = "山水云风花木石田禾竹米衣食住行车马舟桥路城镇村屋门窗灯火炉茶酒饭菜果瓜豆麦棉麻丝布纸笔墨书画琴棋歌舞"
Plant = tuple[AuditInput, int]
FUNCTIONS = dict(CHECKS)


@cache
def clean_texts() -> tuple[str, ...]:
    """Real paragraphs of 30 to 400 characters (punctuation and white space aside) without near-duplicates, none inside another."""
    texts = [json.loads(line)["text"] for line in TOPICS.read_text(encoding="utf-8").splitlines()]
    texts = [text for text in texts if 30 <= len(normalised(text)) <= 400 and script_of(text) == "zh"]
    groups = near_groups([normalised(text) for text in texts])
    sizes = Counter(groups)
    texts = [text for text, group in zip(texts, groups, strict=True) if sizes[group] == 1]
    pieces = [{key[i : i + 13] for i in range(len(key) - 12)} for key in map(normalised, texts)]
    holders = Counter(piece for own in pieces for piece in own)
    return tuple(text for text, own in zip(texts, pieces, strict=True) if sum(holders[piece] > 1 for piece in own) < 0.6 * len(own))


def example(split: str, line: int, text: str, label: str) -> Example:
    return Example(f"{split}:{line}", (Message("user", text),), (label,), text, f"{split}.jsonl", line)


class Rows:
    """Rows to plant into. ``fresh`` gives a clean text that no row has."""

    def __init__(self, size: int, seed: int) -> None:
        self.draw = random.Random(seed)
        self.pool = list(clean_texts())
        self.draw.shuffle(self.pool)
        self.texts: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
        self.ledger: dict[str, Any] = {"files": [], "totals": {"rows_in": 10 * size, "used": 10 * size, "rejected": 0, "shortened": 0}}
        self.untrained: set[int] = set()
        for i in range(max(60, 6 * size // 5)):
            self.add("train", self.fresh(), LABELS[i % 3])
        for i in range(max(6, size // 8)):
            self.add("validation", self.fresh(), LABELS[i % 3])
            self.add("test", self.fresh(), LABELS[i % 3])

    def fresh(self) -> str:
        if self.pool:
            return self.pool.pop()
        parts = [part for text in self.draw.sample(clean_texts(), 12) for part in text.split("。")]  # more than there are: new mixtures
        return "。".join(self.draw.sample(parts, min(len(parts), 9)))

    def add(self, split: str, text: str, label: str = LABELS[0]) -> None:
        self.texts[split].append((text, label))

    def train(self, number: int) -> list[tuple[str, str]]:
        """Different training rows."""
        return self.draw.sample(self.texts["train"], number)

    def input(self, labels: Sequence[str] = LABELS) -> AuditInput:
        splits: Any = {name: [example(name, i + 1, *row) for i, row in enumerate(rows)] for name, rows in self.texts.items()}
        rows = [Encoded(one.id, (1, 2), (False, i not in self.untrained)) for i, one in enumerate(splits["train"])]
        return AuditInput(splits, tuple(labels), rows, self.ledger, ("<|im_end|>", "<|endoftext|>"))


def edited(draw: random.Random, text: str) -> str:
    """The normalised text with one to three characters substituted, inserted or deleted (it has 30 or more)."""
    characters, before = list(normalised(text)), normalised(text)
    while "".join(characters) == before:
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(characters))
            match draw.choice("sid"):
                case "s":
                    characters[place] = draw.choice(HAN)
                case "i":
                    characters.insert(place, draw.choice(HAN))
                case _:
                    del characters[place]
    return "".join(characters)


def disguised(draw: random.Random, text: str) -> str:
    """What `normalised` sees through: white space, punctuation, width, case."""
    way = draw.randrange(4)
    wide = "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" or "0" <= c <= "9" else c for c in text)
    return (text, f"  {text}！", wide, text.upper())[way]


# ------------------------------------------------------------------------------------------------------------ copies


def leakage(rows: Rows, n: int) -> Plant:
    for text, label in rows.train(n):
        rows.add("test", disguised(rows.draw, text), label)
    return rows.input(), n


def leakage_validation(rows: Rows, n: int) -> Plant:
    for text, label in rows.train(n):
        rows.add("validation", disguised(rows.draw, text), label)
    return rows.input(), n


def near_leakage(rows: Rows, n: int) -> Plant:
    for text, label in rows.train(n):
        rows.add("test", edited(rows.draw, text), label)
    return rows.input(), n


def contamination(rows: Rows, n: int) -> Plant:
    for text, label in rows.train(n):
        inner = "".join(rows.draw.choices(HAN, k=60))
        rows.add("test", inner, label)
        rows.add("train", text[: len(text) // 2] + inner + text[len(text) // 2 :], label)
    return rows.input(), n


def duplicates(rows: Rows, n: int) -> Plant:
    for text, label in rows.train(n):
        rows.add("train", disguised(rows.draw, text), label)
    return rows.input(), n


def near_duplicates(rows: Rows, n: int) -> Plant:
    for text, label in rows.train(n):
        rows.add("train", edited(rows.draw, text), label)
    return rows.input(), n


def conflicting_labels(rows: Rows, n: int) -> Plant:
    for text, label in rows.train(n):
        rows.add("train", disguised(rows.draw, text), LABELS[(LABELS.index(label) + 1) % 3])
    return rows.input(), 2 * n


# ------------------------------------------------------------------------------------------------------------ labels


def names(draw: random.Random, n: int) -> list[str]:
    """Different label names of six characters, any two of which differ in two or more."""
    found: dict[str, None] = {}
    while len(found) < n:
        half = "".join(draw.sample(HAN, 3))
        found[half + half[::-1]] = None
    return list(found)


def label_typos(rows: Rows, n: int) -> Plant:
    labels = list(LABELS)
    for i, name in enumerate(names(rows.draw, n)):
        place = rows.draw.randrange(6)
        wrong = (name[:place] + "龘" + name[place + 1 :], name[:place] + name[place + 1 :], name + " ", f"{name[:3]} {name[3:]}")[i % 4]
        labels += [name, wrong]
        for k in range(20):
            rows.add("train", f"{i}的{k}", name)
        rows.add("train", f"{i}的错", wrong)
    return rows.input(labels), n


def rare_labels(rows: Rows, n: int) -> Plant:
    labels = names(rows.draw, n)
    for i, name in enumerate(labels):
        for k in range(rows.draw.randint(0, 9)):
            rows.add("train", f"{i}少{k}", name)
    return rows.input([*LABELS, *labels]), n


def untested_labels(rows: Rows, n: int) -> Plant:
    labels = names(rows.draw, n)
    for i, name in enumerate(labels):
        rows.add("train", f"{i}没有测试", name)
    return rows.input([*LABELS, *labels]), n


def imbalance(rows: Rows, n: int) -> Plant:
    top = 10 * max(1, n)
    rows.texts["train"] = [(f"多{i}", LABELS[0]) for i in range(top)] + [(f"少{i}", LABELS[1]) for i in range(max(1, n))]
    return rows.input(LABELS[:2]), top


# ---------------------------------------------------------------------------------------------------------- accounts


def untrained_rows(rows: Rows, n: int) -> Plant:
    rows.untrained = set(rows.draw.sample(range(len(rows.texts["train"])), n))
    return rows.input(), n


def rejected_rows(rows: Rows, n: int) -> Plant:
    lost = [{"line": i + 1, "reason": rows.draw.choice(("bad_row", "no_text", "no_label", "too_long"))} for i in range(n)]
    wanted = [{"line": n + 1, "reason": "over_limit"}, {"line": n + 2, "reason": "duplicate", "detail": "a:1"}]
    rows.ledger["files"] = [{"path": "train.jsonl", "split": "train", "rejected_rows": [*lost, *wanted], "shortened_rows": []}]
    return rows.input(), n


def shortened_rows(rows: Rows, n: int) -> Plant:
    short = [{"line": i + 1, "tokens_before": 400, "tokens_after": 300} for i in range(n)]
    rows.ledger["files"] = [{"path": "train.jsonl", "split": "train", "rejected_rows": [], "shortened_rows": short}]
    return rows.input(), n


# ------------------------------------------------------------------------------------------------------------- texts


def texts_with(make: Callable[[random.Random, str, int], str]) -> Callable[[Rows, int], Plant]:
    def plant(rows: Rows, n: int) -> Plant:
        for i in range(n):
            rows.add(rows.draw.choice(("train", "test")), make(rows.draw, rows.fresh(), i))
        return rows.input(), n

    return plant


def empty(draw: random.Random, _text: str, i: int) -> str:
    return draw.choice(("。" * (i % 7 + 1), "…… ……", "N/A", "null", " - ", "？！", "#REF!", "无", "\u200b", "——"))


def damaged(draw: random.Random, text: str, i: int) -> str:
    place = draw.randrange(len(text))
    whole = (
        text[:place] + "\ufffd" + text[place:],
        text[:place] + "锟斤拷" + text[place:],
        text.encode().decode("latin-1"),
        text.encode().decode("cp1252", "ignore"),
        text.encode().decode("gb18030", "ignore"),
        text[:place] + draw.choice("\x00\x07\x1b\x7f") + text[place:],
        draw.choice(("Itâ€™s", "CafÃ© au lait", "naÃ¯ve", "Â£20", "â€œyesâ€\u009d")) + text,
    )
    return whole[i % len(whole)]


def spelled(draw: random.Random, text: str, _i: int) -> str:
    place = draw.randrange(len(text))
    return text[:place] + draw.choice(("<|im_end|>", "<|im_start|>user", "[INST]", "<|endoftext|>", "<start_of_turn>")) + text[place:]


def boilerplate(rows: Rows, n: int) -> Plant:
    part = "".join(rows.draw.choices(HAN, k=24))
    way = rows.draw.randrange(3)
    for _ in range(max(n, 20)):
        text = rows.fresh()
        rows.add("train", (part + text, text + part, f"{text[:20]}\n{part}\n{text[20:]}")[way])
    return rows.input(), max(n, 20)


def foreign(draw: random.Random, _text: str, i: int) -> str:
    words = ("table", "cell", "chart", "print", "slide", "window", "value", "string", "format", "insert")
    return " ".join(draw.choices(words, k=12)) if i % 2 else "".join(draw.choices("かきくけこさしすせそたちつてとデータ", k=30))


def low_diversity(rows: Rows, n: int) -> Plant:
    size = max(n, 200)
    rows.texts["train"] = [
        (f"请问{rows.draw.choice(HAN)}{rows.draw.choice(HAN)}的价格是多少，我想买{i % 10}个，什么时候能送到家里来", LABELS[i % 3])
        for i in range(size * 4)
    ]
    return rows.input(), size * 4


SEA = "海豚 珊瑚 潮汐 海藻 礁石 鲸鱼 浮游 洋流 海星 贝壳 水母 海龟 灯塔 渔网 帆船 港湾 沙滩 海鸥 盐度 深海".split()  # noqa: SIM905


def about_the_sea(draw: random.Random) -> str:
    return "，".join("".join(draw.choices(SEA, k=3)) for _ in range(6))


def dominant_topic(rows: Rows, n: int) -> Plant:
    size = max(n, 200)
    rows.texts["train"] = [(about_the_sea(rows.draw), LABELS[i % 3]) for i in range(size)] + rows.texts["train"][: size // 5]
    return rows.input(), size


def untrained_topics(rows: Rows, n: int) -> Plant:
    for _ in range(200 - min(200, len(rows.texts["train"]))):
        rows.add("train", rows.fresh())
    for i in range(max(n, 20)):
        rows.add("test", about_the_sea(rows.draw), LABELS[i % 3])
    return rows.input(), max(n, 20)


# ---------------------------------------------------------------------------------------------------------- personal


def identity_number(draw: random.Random) -> str:
    """By GB 11643: the weights are 7 9 10 5 8 4 2 1 6 3 7 9 10 5 8 4 2."""
    digits = f"{draw.choice((11, 31, 44, 51, 65))}{draw.randrange(10000):04}{draw.randint(1930, 2020)}{draw.randint(1, 12):02}"
    digits += f"{draw.randint(1, 28):02}{draw.randrange(1000):03}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return digits + "10X98765432"[sum(int(d) * w for d, w in zip(digits, weights, strict=True)) % 11]


def phone_number(draw: random.Random) -> str:
    a, b, c = f"1{draw.randint(3, 9)}{draw.randrange(10)}", f"{draw.randrange(10000):04}", f"{draw.randrange(10000):04}"
    return draw.choice((a + b + c, f"{a} {b} {c}", f"{a}-{b}-{c}", f"+86 {a}{b}{c}", f"86{a}{b}{c}"))


def card_number(draw: random.Random) -> str:
    start, length = draw.choice((("62", 19), ("62", 16), ("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16), ("2300", 16)))
    digits = start + "".join(str(draw.randrange(10)) for _ in range(length - len(start) - 1))
    doubled = sum(sum(divmod(2 * int(d), 10)) if i % 2 == 0 else int(d) for i, d in enumerate(reversed(digits)))
    whole = digits + str(-doubled % 10)
    grouped = " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))
    return grouped if draw.random() < 0.3 and length == 16 else whole


def email_address(draw: random.Random) -> str:
    return (
        f"{draw.choice(('li.lei', 'han_mm', 'w+x', 'a'))}{draw.randrange(1000)}@{draw.choice(('qq.com', 'mail.163.com', 'uni-a.edu.cn'))}"
    )


def access_key(draw: random.Random) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz"
    body = "a1" + "".join(draw.choices(letters, k=60))
    kind = draw.randrange(8)
    forms = ("AKIA" + body[2:18].upper(), "LTAI" + body[:20], "ghp_" + body[:36], "sk-" + body[:48], "AIza" + body[:35])
    return (*forms, "hf_" + body[:34], "sk-proj-" + body[:40], "-----BEGIN RSA PRIVATE KEY-----")[kind]


def told(make: Callable[[random.Random], str]) -> Callable[[Rows, int], Plant]:
    def into(draw: random.Random, text: str, _i: int) -> str:
        place = draw.randrange(len(text))
        return f"{text[:place]}，号码{make(draw)}，{text[place:]}" if draw.random() < 0.5 else f"{text} ({make(draw)})"

    return texts_with(into)


PLANTS: dict[str, Callable[[Rows, int], Plant]] = {
    "leakage": leakage,
    "near_leakage": near_leakage,
    "contamination": contamination,
    "leakage_validation": leakage_validation,
    "duplicates": duplicates,
    "near_duplicates": near_duplicates,
    "conflicting_labels": conflicting_labels,
    "label_typos": label_typos,
    "rare_labels": rare_labels,
    "untested_labels": untested_labels,
    "imbalance": imbalance,
    "untrained_rows": untrained_rows,
    "rejected_rows": rejected_rows,
    "shortened_rows": shortened_rows,
    "empty_texts": texts_with(empty),
    "encoding_damage": texts_with(damaged),
    "control_tokens": texts_with(spelled),
    "boilerplate": boilerplate,
    "languages": texts_with(foreign),
    "low_diversity": low_diversity,
    "dominant_topic": dominant_topic,
    "untrained_topics": untrained_topics,
    "secret_key": told(access_key),
    "personal_id": told(identity_number),
    "personal_card": told(card_number),
    "personal_phone": told(phone_number),
    "personal_email": told(email_address),
}
MONOTONE = {"imbalance", "low_diversity", "boilerplate", "dominant_topic", "untrained_topics"}
"""Properties of the whole data: the number says in how many rows."""


def size_for(name: str, n: int) -> int:
    """Clean rows to plant into: of another language must be few, of boilerplate at least a tenth."""
    return {"languages": 4 * n, "boilerplate": 2 * n}.get(name, n)


def planted(name: str, n: int, seed: int) -> tuple[int, int]:
    """(rows that the check found, rows that were planted)."""
    data, expected = PLANTS[name](Rows(size_for(name, n), seed), n)
    found = FUNCTIONS[name](data)
    return (found.count if found else 0), expected


def main(n: int, seed: int) -> int:
    """The table; the exit code is 1 unless all were found and clean data stay silent."""
    start = time.perf_counter()
    faults = 0
    print(f"{'check':20} {'planted':>8} {'found':>8} {'on clean data':>14}   seconds")
    clean = Rows(n, seed).input()
    for name, check in CHECKS:
        begun = time.perf_counter()
        found, expected = planted(name, n, seed)
        finding = check(clean)
        silent = finding.count if finding else 0
        faults += found != expected or silent != 0
        print(f"{name:20} {expected:8} {found:8} {silent:14}   {time.perf_counter() - begun:.1f}", flush=True)
    print(f"{len(CHECKS)} checks, {faults} with a fault, {time.perf_counter() - start:.0f} s, seed {seed}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
