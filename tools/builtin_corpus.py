"""Pre-training text for the built-in Chinese base model, made from free packages, and its leakage check.

The packages (Debian ``.deb`` and npm ``.tgz`` files, fetched beforehand) are read as data and never installed. The most
valuable source is LibreOffice's Chinese help, but the model is later judged on paragraphs of that very help, so every
page holding a dev or test row is withheld, every near-duplicate paragraph of such a row is dropped, and ``--check``
looks for leaks again with code that shares nothing with the filter.

Example::

    python tools/builtin_corpus.py --packages debs --topic-data topic.jsonl --out corpus --check
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from builtin_sources import HELP, SOURCES, Source, archive_members, archive_version, find_archive, read_member, to_simplified

GRAM = 5  # characters; the unit of both the filter and the check
FILTER_CONTAINMENT = 0.6  # share of a row's 5-grams in one paragraph; stricter than the check, so the check has a margin
CHECK_CONTAINMENT = 0.8  # the same share as the leakage report counts it
SHORT_ROW = 12  # normalised characters; shorter rows are everyday phrases and count only as whole paragraphs
LONG_PARAGRAPH = 16  # normalised characters; repeats are dropped from here on, shorter headings may recur
DOCUMENT_CHARS = 6000  # longer pages are cut between paragraphs
HELDOUT_SHARE = 0.01  # of a source's documents
HELDOUT_CHARS = 60_000  # per source
MIN_DOCUMENT = 40  # characters; what is left of a shorter document teaches little
MIN_CHINESE = 0.15  # share of Chinese characters a Chinese document must reach


# ---------------------------------------------------------------- filtering


def normalise(text: str) -> str:
    """Letters and digits only, NFKC and lower case: what two paragraphs must share to be the same."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if unicodedata.category(c)[0] in "LN")


class RowFilter:
    """Recognises paragraphs that hold (nearly) one of the given rows."""

    def __init__(self, rows: Iterable[str]) -> None:
        self._rows = [normalise(row) for row in rows]
        self._whole = set(self._rows)
        self._needed: list[float] = []
        self._by_gram: dict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(self._rows):
            grams = _grams(row) if len(row) >= SHORT_ROW else set()
            self._needed.append(FILTER_CONTAINMENT * len(grams))
            for gram in grams:
                self._by_gram[gram].append(index)

    def matches(self, paragraph: str) -> bool:
        """Whether a row equals the paragraph or has most of its 5-grams in it."""
        text = normalise(paragraph)
        shared = Counter(index for gram in _grams(text) for index in self._by_gram.get(gram, ()))
        return text in self._whole or any(count >= self._needed[index] for index, count in shared.items())


def _grams(text: str) -> set[str]:
    return {text[i : i + GRAM] for i in range(len(text) - GRAM + 1)}


def is_foreign(paragraph: str) -> bool:
    """Whether a paragraph of a Chinese document is untranslated prose (eight or more words, no Chinese)."""
    return not re.search(r"[\u3400-\u9fff]", paragraph) and len(re.findall(r"[A-Za-z]{2,}", paragraph)) >= 8


def chinese_share(text: str) -> float:
    """Chinese characters per non-space character."""
    return len(re.findall(r"[\u3400-\u9fff]", text)) / max(1, len(re.sub(r"\s", "", text)))


def page_splits(paragraphs: Sequence[str], rows: dict[str, str]) -> Counter[str]:
    """How many rows of each split a help page holds; rows of 20+ normalised characters also count across blocks."""
    normalised = [normalise(p) for p in paragraphs]
    whole, joined = set(normalised), "".join(normalised)
    return Counter(split for row, split in rows.items() if row in whole or (len(row) >= 20 and row in joined))


# ---------------------------------------------------------------- building


@dataclass
class Tally:
    """What became of one source, for ``sources.json``; sizes in documents and characters."""

    source: str
    package: str
    version: str
    licence: str
    train_documents: int = 0
    train_characters: int = 0
    heldout_documents: int = 0
    heldout_characters: int = 0
    pages_withheld: int = 0
    paragraphs_overlapping_rows: int = 0
    paragraphs_repeated: int = 0


@dataclass
class Builder:
    """Turns sources into clean documents; remembers paragraphs already used and help pages withheld."""

    topic: list[dict[str, str]]
    seen: set[str] = field(default_factory=set)
    withheld: dict[str, str] = field(default_factory=dict)
    train: list[tuple[str, str]] = field(default_factory=list)
    heldout: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.splits = {normalise(row["text"]): row["split"] for row in self.topic}
        self.train_filter = RowFilter(row["text"] for row in self.topic if row["split"] != "train")
        self.heldout_filter = RowFilter(row["text"] for row in self.topic if row["split"] == "test")

    def clean(self, paragraphs: Iterable[str], tally: Tally, heldout: bool, strings: bool) -> list[str]:
        """The paragraphs that neither hold a protected row nor repeat an earlier long one (or any interface string)."""
        rows, kept = self.heldout_filter if heldout else self.train_filter, []
        for raw in paragraphs:
            paragraph = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\ufeff\ufffd]+", " ", raw).strip()
            key = normalise(paragraph)
            if rows.matches(paragraph):
                tally.paragraphs_overlapping_rows += 1
            elif key in self.seen and (strings or len(key) >= LONG_PARAGRAPH):
                tally.paragraphs_repeated += 1
            else:
                self.seen.add(key)
                kept.append(paragraph)
        return kept

    def read(self, source: Source, archive: Path, tally: Tally) -> tuple[list[list[str]], list[list[str]]]:
        """(documents for training, whole help pages held out), uncleaned; test pages are in neither."""
        documents: list[list[str]] = []
        dev_pages: list[list[str]] = []
        for path, data in archive_members(archive, source.pattern):
            page = path.split("/text/")[-1]
            for document in read_member(source.kind, data):
                if source.traditional:
                    document = [to_simplified(paragraph) for paragraph in document]
                if source.name == HELP:
                    found = page_splits(document, self.splits)
                    if found["test"] or found["dev"]:
                        self.withheld[page] = "test" if found["test"] else "dev"
                    if found["dev"] > found["train"] and not found["test"]:
                        dev_pages.append(document)
                if source.package.startswith(HELP) and page in self.withheld:
                    tally.pages_withheld += 1
                else:
                    documents += split_document(document)
        return documents, dev_pages

    def add(self, source: Source, packages: Path) -> list[Tally]:
        """Reads, cleans and files one source; the help's dev pages are tallied as a source of their own."""
        archive = find_archive(packages, source.package)
        tally = Tally(source.name, source.package, archive_version(archive), source.licence)
        documents, dev_pages = self.read(source, archive, tally)
        english = source.package.endswith("en-us")
        strings = source.kind in {"mo", "xcd", "strings"}
        if not english:
            documents, dev_pages = ([[p for p in d if not is_foreign(p)] for d in part] for part in (documents, dev_pages))
            documents = [document for document in documents if chinese_share("".join(document)) >= MIN_CHINESE]
        documents.sort(key=_digest)
        held = 0 if source.name == HELP or len(documents) < 20 else max(1, round(HELDOUT_SHARE * len(documents)))
        self.file(documents[held:], tally, source.limit, heldout=False, strings=strings)
        self.file(documents[:held], tally, HELDOUT_CHARS, heldout=True, strings=strings)
        if source.name != HELP:
            return [tally]
        dev = Tally(f"{HELP} (dev pages)", tally.package, tally.version, tally.licence)
        self.file(dev_pages, dev, source.limit, heldout=True, strings=False)
        return [tally, dev]

    def add_train_rows(self) -> Tally:
        """Train rows that stand on withheld pages: theirs to train on, so filed in documents of some 1,000 characters."""
        tally = Tally("topic data (train rows)", "libreoffice-help-zh-cn", "", "MPL-2.0")
        groups: list[list[str]] = [[]]
        for row in self.topic:
            if row["split"] == "train" and normalise(row["text"]) not in self.seen:
                groups[-1].append(row["text"])
                if sum(map(len, groups[-1])) >= 1000:
                    groups.append([])
        self.file(groups, tally, 10**9, heldout=False, strings=False)
        return tally

    def file(self, documents: Iterable[list[str]], tally: Tally, limit: int, *, heldout: bool, strings: bool) -> None:
        """Cleans documents into the training or held-out text until the limit (characters) is reached."""
        size = 0
        for document in documents:
            text = "\n".join(self.clean(document, tally, heldout, strings))
            if size + len(text) > limit:
                break
            if len(text) < MIN_DOCUMENT:
                continue
            size += len(text)
            (self.heldout if heldout else self.train).append((text, tally.source))
            if heldout:
                tally.heldout_documents += 1
                tally.heldout_characters += len(text)
            else:
                tally.train_documents += 1
                tally.train_characters += len(text)


def split_document(paragraphs: Sequence[str]) -> list[list[str]]:
    """The document cut between paragraphs into parts of at most about ``DOCUMENT_CHARS`` characters."""
    parts: list[list[str]] = [[]]
    size = 0
    for paragraph in paragraphs:
        if size + len(paragraph) > DOCUMENT_CHARS and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(paragraph)
        size += len(paragraph)
    return parts


def _digest(paragraphs: Sequence[str]) -> str:
    """An order of documents that is random in effect and the same on every machine."""
    return hashlib.sha1("\n".join(paragraphs).encode()).hexdigest()


def read_lines(path: Path) -> list[dict[str, str]]:
    """The objects of a JSON-lines file (split at line feeds only: texts may hold other line separators)."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_documents(path: Path, documents: Sequence[tuple[str, str]]) -> None:
    """One JSON object with text and source a line."""
    lines = (json.dumps({"text": text, "source": source}, ensure_ascii=False) for text, source in documents)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


IN_DOMAIN = (
    "libreoffice-help",
    "libreoffice-l10n-zh-cn (strings)",
    "libreoffice-l10n-zh-cn (commands)",
    "libreoffice-help (Traditional)",
    "libreoffice-l10n-zh-tw (strings)",
    "topic data (train rows)",
)
IN_DOMAIN_COPIES = 3
"""How often the text of the built-in task's own field stands in an epoch: it is 17 % of the text and what the model will be tuned on. Four
passes over repeated text cost little (Muennighoff et al. 2023, arXiv:2305.16264)."""


def build(packages: Path, topic: list[dict[str, str]], out: Path) -> None:
    """Writes ``train.jsonl``, ``heldout.jsonl`` and ``sources.json``; training documents are in shuffled order."""
    builder = Builder(topic)
    tallies = [tally for source in SOURCES for tally in builder.add(source, packages)]
    tallies.append(builder.add_train_rows())
    in_domain = [document for document in builder.train if document[1] in IN_DOMAIN]
    builder.train += in_domain * (IN_DOMAIN_COPIES - 1)
    random.Random(0).shuffle(builder.train)
    out.mkdir(parents=True, exist_ok=True)
    write_documents(out / "train.jsonl", builder.train)
    write_documents(out / "heldout.jsonl", builder.heldout)
    report = json.dumps([asdict(tally) for tally in tallies], ensure_ascii=False, indent=1)
    (out / "sources.json").write_text(report + "\n", encoding="utf-8")


# ---------------------------------------------------------------- the check, sharing no code with the filter


def squash(text: str) -> str:
    """The check's own normalisation: NFKC, lower case, every non-word character and underscore removed."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


def find_rows(rows: Sequence[str], documents: Sequence[str]) -> list[set[str]]:
    """For each row the ways it is in the documents: ``line``, ``substring`` (of a line), ``across`` lines, ``near``.

    Exact but for ``near``, which means that one line has at least ``CHECK_CONTAINMENT`` of the row's distinct 5-grams.
    Rows under ``SHORT_ROW`` squashed characters are looked for as whole lines only.
    """
    wanted = [squash(row) for row in rows]
    lines = sorted({squash(line) for document in documents for line in document.split("\n")})
    whole, in_lines = set(lines), "\n".join(lines)
    in_documents = "\n".join(squash(document) for document in documents)
    near = _near(wanted, lines)
    found = []
    for index, row in enumerate(wanted):
        ways = {"line"} if row in whole else set()
        if len(row) >= SHORT_ROW:
            ways |= {"substring"} if row in in_lines else set()
            ways |= {"across"} if row in in_documents else set()
            ways |= {"near"} if index in near else set()
        found.append(ways)
    return found


def _near(wanted: Sequence[str], lines: Sequence[str]) -> set[int]:
    """Rows with enough of their 5-grams in one line, by an inverted index from 5-gram to line numbers."""
    needed = {row[i : i + GRAM] for row in wanted for i in range(len(row) - GRAM + 1)}
    postings: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        for gram in {line[i : i + GRAM] for i in range(len(line) - GRAM + 1)} & needed:
            postings[gram].append(number)
    near = set()
    for index, row in enumerate(wanted):
        grams = {row[i : i + GRAM] for i in range(len(row) - GRAM + 1)}
        shared = Counter(number for gram in grams for number in postings[gram])
        if shared and max(shared.values()) >= CHECK_CONTAINMENT * len(grams):
            near.add(index)
    return near


def plant(rows: Sequence[str], documents: Sequence[str], seed: int = 0) -> tuple[list[str], list[str]]:
    """(200 rows, documents with them hidden inside): even ones verbatim, odd ones with one character replaced.

    Edited rows are taken from those of 30 or more squashed characters: one edit breaks five 5-grams, which leaves a
    shorter row under the containment the check asks for. Half of each kind stands inside a longer line.
    """
    draw = random.Random(seed)
    shuffled = draw.sample(list(rows), len(rows))
    edited = [row for row in shuffled if len(squash(row)) >= 30][:100]
    verbatim = [row for row in shuffled if row not in set(edited) and len(squash(row)) >= SHORT_ROW][: len(edited)]
    chosen = [row for pair in zip(verbatim, edited, strict=True) for row in pair]
    planted = list(documents)
    for number, row in enumerate(chosen):
        middle = len(row) // 2
        text = row[:middle] + "某" + row[middle + 1 :] if number % 2 else row
        text = f"另请注意：{text}详见下文。" if number % 4 >= 2 else text
        place = draw.randrange(len(planted))
        planted[place] += "\n" + text
    return chosen, planted


def check(train: Path, topic: list[dict[str, str]], out: Path) -> None:
    """Re-reads the training text and writes ``leakage.json``: protected rows found per split, and the planted proof."""
    documents = [document["text"] for document in read_lines(train)]
    report: dict[str, object] = {"gram": GRAM, "containment": CHECK_CONTAINMENT, "short_row": SHORT_ROW}
    for split in ("dev", "test"):
        rows = [row["text"] for row in topic if row["split"] == split]
        found = find_rows(rows, documents)
        short = sum(len(squash(row)) < SHORT_ROW for row in rows)
        counts: dict[str, object] = {way: sum(way in ways for ways in found) for way in ("line", "substring", "across", "near")}
        examples = [row for row, ways in zip(rows, found, strict=True) if ways][:10]
        report[split] = {"rows": len(rows), "short_rows": short, **counts, "examples": examples}
    chosen, planted = plant([row["text"] for row in topic if row["split"] == "dev"], documents)
    found = find_rows(chosen, planted)
    exact = sum(bool(ways & {"line", "substring"}) for ways in found[::2])
    near = sum("near" in ways for ways in found[1::2])
    report["planted"] = {"verbatim": len(found[::2]), "found": exact, "edited": len(found[1::2]), "edited_found": near}
    out.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds the text when ``--packages`` is given and checks it when ``--check`` is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--packages", type=Path, help="folder of downloaded .deb and .tgz files; without it, only check")
    parser.add_argument("--topic-data", type=Path, required=True, help="JSON lines with text, label and split")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.jsonl, heldout.jsonl and the reports")
    parser.add_argument("--check", action="store_true", help="write leakage.json for OUT/train.jsonl")
    options = parser.parse_args(arguments)
    topic = read_lines(options.topic_data)
    if options.packages:
        build(options.packages, topic, options.out)
    if options.check:
        check(options.out / "train.jsonl", topic, options.out / "leakage.json")


if __name__ == "__main__":
    main()
