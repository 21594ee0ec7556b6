"""The built-in questions and extractions, made by rule from the paragraphs of the built-in data set: real text for `qa` and `generation`.

    python tools/builtin_questions.py          writes weitiao/builtin/questions.jsonl and weitiao/builtin/extraction.jsonl

Questions. A paragraph that says "要 PURPOSE，… VERB「NAME」" (VERB: 选择 单击 点击 打开 使用 按) gives the question "要 PURPOSE，应该 VERB
什么？" on itself as the passage, with NAME as its answer. Any other paragraph with two to four different names in 「」 gives a gap to fill:
the sentence of its first name, with ____ in its place. Each fourth question of a split also stands a second time on the passage of the next
question of that split that does not hold the answer: it has none there.

Extractions. A paragraph with a menu path in 「」 (a name with " - " in it), or with two to four names, gives them as JSON: a menu path
becomes the list of its parts under "menus"; the others stand under "names", each once, in the order of the text.

Splits are those of the paragraphs, which are by help page.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BUILTIN = Path(__file__).parent.parent / "weitiao" / "builtin"
RULE = re.compile(r"要([^，。；：「」()]{3,30})，[^。；「」]{0,20}?(选择|单击|点击|打开|使用|按)「([^「」]{2,30})」")
NAME = re.compile(r"「([^「」]+)」")
SENTENCE = re.compile("(?<=[。；！？])")
Row = dict[str, Any]


def questions(rows: list[Row]) -> Iterator[Row]:
    """The questions of the paragraphs, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        text, names = row["text"], names_in(row["text"])
        if match := RULE.search(text):
            purpose, verb, name = match.groups()
            asked = f"要{purpose}，应该{verb}什么？"
        elif 2 <= len(names) <= 4:
            name = names[0]
            sentence = next((part for part in SENTENCE.split(text) if f"「{name}」" in part), text)
            asked = "填空：" + sentence.strip().replace(f"「{name}」", "____")
        else:
            continue
        found.setdefault(row["split"], []).append({"context": text, "question": asked, "answers": [name], "split": row["split"]})
    for of_split in found.values():
        for place, asked in enumerate(of_split):
            yield asked
            if place % 4 == 0:
                others = (*of_split[place + 1 :], *of_split[:place])
                other = next(one for one in others if asked["answers"][0] not in one["context"])
                yield {**asked, "context": other["context"], "answers": []}


def extractions(rows: list[Row]) -> Iterator[Row]:
    """The paragraphs with their names as JSON."""
    for row in rows:
        names = names_in(row["text"])
        menus = [[part.strip() for part in name.split(" - ")] for name in names if " - " in name]
        if menus or 2 <= len(names) <= 4:
            answer = {"menus": menus, "names": [name for name in names if " - " not in name]}
            yield {"prompt": row["text"], "completion": json.dumps(answer, ensure_ascii=False), "split": row["split"]}


def names_in(text: str) -> list[str]:
    """What stands in 「」, each once."""
    return list(dict.fromkeys(NAME.findall(text)))


def lines(rows: Iterator[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    rows = [json.loads(line) for line in (BUILTIN / "topic.jsonl").read_text(encoding="utf-8").splitlines()]
    for name, made in (("questions", questions(rows)), ("extraction", extractions(rows))):
        (BUILTIN / f"{name}.jsonl").write_text(lines(made), encoding="utf-8")


if __name__ == "__main__":
    main()
