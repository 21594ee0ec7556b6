"""The third stage's text: paragraphs, each followed by a line that says where it stood, and its leakage check.

A help page or a string of an interface belongs to a program, and its reader sees which: in the window's title, in the page's path. Plain
text loses it. Here every paragraph of the office suite is a document of its own that ends with its origin, 出处：LibreOffice
Calc《单元格保护》, so that to predict the next token is also to tell the origin from the text. (Gao et al. 2025, arXiv:2501.01956, put such
metadata in front.) Origins come from the paths inside the packages; nobody labelled them for a task. Pages with a dev or test row are
withheld in every language, and near-duplicates of such rows are dropped, as in the text of the first stages.

Example::

    python tools/builtin_origins.py --packages debs --topic-data topic.jsonl --out corpus-origins
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from builtin_corpus import RowFilter, check, chinese_share, is_foreign, normalise, page_splits, read_lines, write_documents
from builtin_sources import HELP, SOURCES, Source, archive_members, find_archive, read_member, to_simplified

SUITE = "libreoffice"
MODULES = {
    "scalc": "Calc", "sc": "Calc", "swriter": "Writer", "sw": "Writer", "simpress": "Impress", "sd": "Impress", "sdraw": "Draw",
    "schart": "Chart", "chart": "Chart", "smath": "Math", "sm": "Math", "sbasic": "Basic", "basctl": "Basic", "sb": "Basic",
    "sdatabase": "Base", "dba": "Base",
}  # fmt: skip
"""Folders of the help and catalogues of the interface, and the program that they are of; all others are the whole suite's."""
SHORTEST = 4  # normalised characters of a string or paragraph: shorter ones belong to every program
OTHERS_CHARS = 24_000  # characters of each source outside the suite, and of its English help: enough to tell it from the others
PIECE = 200  # characters up to which the paragraphs of those are joined
MIN_CHINESE = 0.15  # share of Chinese characters in a Chinese document
HELDOUT_SHARE = 0.01


class Origins:
    """Collects documents for training and held out, as (text, source)."""

    def __init__(self, topic: list[dict[str, str]], packages: Path) -> None:
        self.packages = packages
        self.rows = RowFilter(row["text"] for row in topic if row["split"] != "train")
        self.seen: set[tuple[str, str]] = set()
        self.train: list[tuple[str, str]] = []
        self.heldout: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.withheld = self._withheld(topic)

    def _withheld(self, topic: list[dict[str, str]]) -> set[str]:
        """The help pages that hold a row of dev or test, by their path below ``text/``, the same in every language."""
        splits = {normalise(row["text"]): row["split"] for row in topic if row["split"] != "train"}
        pages = set()
        for source in (s for s in SOURCES if s.package.startswith(HELP)):
            for path, paragraphs in self.documents(source):
                if page_splits(paragraphs, splits):
                    pages.add(path.split("/text/")[-1])
        return pages

    def documents(self, source: Source) -> Iterator[tuple[str, list[str]]]:
        """(path, paragraphs) of a source; Traditional text in the script and wording of the mainland."""
        for path, data in archive_members(find_archive(self.packages, source.package), source.pattern):
            for document in read_member(source.kind, data):
                paragraphs = [to_simplified(p) for p in document] if source.traditional else document
                yield path, [re.sub(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\ufeff\ufffd]+", " ", p).strip() for p in paragraphs]

    def add(self, source: Source) -> None:
        """Files one source."""
        english, size = source.package.endswith("en-us"), 0
        for path, document in self.documents(source):
            paragraphs = [p for p in document if english or not is_foreign(p)]
            if not english and chinese_share("".join(paragraphs)) < MIN_CHINESE:
                continue
            if source.package.startswith(HELP) and path.split("/text/")[-1] in self.withheld:
                self.counts[f"{source.name}: pages withheld"] += 1
                continue
            ours, title = SUITE in source.package and not english, document[0] if document else ""
            for text in paragraphs if ours else pieces(paragraphs):
                if not ours and size + len(text) > OTHERS_CHARS:
                    return
                size += self.file(source, text, origin(source, path, title if text != title else ""))

    def file(self, source: Source, text: str, line: str) -> int:
        """Files one paragraph with its origin; the number of its characters, 0 for one that is short, known or a row's."""
        key = (normalise(text), line.partition("《")[0])
        if len(key[0]) < SHORTEST or key in self.seen:
            return 0
        self.seen.add(key)
        if any(self.rows.matches(part) for part in text.split("\n")):
            self.counts[f"{source.name}: paragraphs like a row"] += 1
            return 0
        held = random.Random(key[0]).random() < HELDOUT_SHARE
        (self.heldout if held else self.train).append((f"{text}\n{line}", source.name))
        self.counts[f"{source.name}: {'held out' if held else 'documents'}"] += 1
        return len(text)


def origin(source: Source, path: str, title: str) -> str:
    """The line under a paragraph that stood at ``path``: program or package, and the page's title where there is one."""
    if SUITE not in source.package:
        return f"出处：{source.package}"
    program = MODULES.get(path.split("/text/")[-1].split("/")[0] if source.kind == "html" else Path(path).stem)
    name = f"LibreOffice {program}" if program else "LibreOffice"
    return f"出处：{name}《{title}》" if source.kind == "html" and title else f"出处：{name}"


def pieces(paragraphs: Sequence[str]) -> Iterator[str]:
    """Paragraphs joined up to ``PIECE`` characters."""
    part: list[str] = []
    for paragraph in paragraphs:
        part.append(paragraph)
        if sum(map(len, part)) >= PIECE:
            yield "\n".join(part)
            part = []
    if part:
        yield "\n".join(part)


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds the text and checks it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of downloaded .deb and .tgz files")
    parser.add_argument("--topic-data", type=Path, required=True, help="JSON lines with text, label and split")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.jsonl, heldout.jsonl, counts.json and leakage.json")
    options = parser.parse_args(arguments)
    topic = read_lines(options.topic_data)
    origins = Origins(topic, options.packages)
    for source in SOURCES:
        origins.add(source)
    options.out.mkdir(parents=True, exist_ok=True)
    random.Random(0).shuffle(origins.train)
    write_documents(options.out / "train.jsonl", origins.train)
    write_documents(options.out / "heldout.jsonl", origins.heldout)
    (options.out / "counts.json").write_text(json.dumps(origins.counts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    check(options.out / "train.jsonl", topic, options.out / "leakage.json")


if __name__ == "__main__":
    main()
