"""Where the built-in model's pre-training text comes from: free packages, read as data and never installed.

`SOURCES` names the packages (Debian ``.deb`` and npm ``.tgz`` files, fetched beforehand) with the licence found in each
package's copyright file; the readers turn their help pages, manuals, catalogues and poems into lists of paragraphs.
"""

from __future__ import annotations

import gzip
import html
import json
import re
import struct
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

UI_DOCUMENT_CHARS = 1000  # strings of one user-interface module are grouped into documents of this size
HELP = "libreoffice-help"
HELP_PATH = r"help/zh-CN/text/.*\.html$"
CHINESE = r"\u3400-\u9fff\uff00-\uffef\u3000-\u303f"


@dataclass(frozen=True)
class Source:
    """Where one part of the text comes from.

    ``pattern`` selects archive members, ``limit`` caps training characters, ``traditional`` marks text in Taiwan's script and wording,
    which is converted to that of the mainland.
    """

    name: str
    package: str
    kind: str
    pattern: str
    licence: str
    limit: int = 10**9
    traditional: bool = False


def _interface(package: str, licence: str, kind: str = "mo", pattern: str = r"zh_CN/LC_MESSAGES/.*\.mo$") -> Source:
    return Source(f"{package} (strings)", package, kind, pattern, licence)


POETRY = r"dist/(songci/ci\.song|shijing/|yuanqu/|lunyu/|chuci/|wudaishici/|nalanxingde/|caocaoshiji/|youmengying/).*json$"
SOURCES = (
    Source(HELP, "libreoffice-help-zh-cn", "html", HELP_PATH, "MPL-2.0"),
    _interface("libreoffice-l10n-zh-cn", "MPL-2.0"),
    Source("libreoffice-l10n-zh-cn (commands)", "libreoffice-l10n-zh-cn", "xcd", r"res/.*zh-CN\.xcd$", "MPL-2.0"),
    Source("libreoffice-help (English)", "libreoffice-help-en-us", "html", r"help/en-US/text/.*\.html$", "MPL-2.0", 450_000),
    _interface("gnumeric-common", "GPL-2.0-or-later"),
    _interface("gnucash-common", "GPL-2.0-or-later"),
    _interface("calligra-data", "GPL-2.0-or-later and LGPL-2.0-or-later"),
    _interface("abiword-common", "GPL-2.0-or-later", "strings", r"strings/zh-CN\.strings$"),
    _interface("kmymoney-common", "GPL-2.0-or-later"),
    _interface("homebank-data", "GPL-2.0-or-later"),
    _interface("grisbi-common", "GPL-2.0-or-later"),
    _interface("planner-data", "GPL-2.0-or-later"),
    _interface("dia-common", "GPL-2.0-or-later"),
    _interface("glabels-data", "GPL-2.0-or-later"),
    _interface("libqalculate-data", "GPL-2.0-or-later"),
    _interface("lyx-common", "GPL-2.0-or-later"),
    _interface("okular", "GPL-2.0-or-later and LGPL-2.0-or-later"),
    _interface("inkscape", "GPL-2.0-or-later"),
    _interface("krita-l10n", "GPL-2.0-or-later and LGPL-2.0-or-later"),
    _interface("digikam-data", "GPL-2.0-or-later"),
    _interface("gimp-data", "GPL-3.0-or-later"),
    _interface("libgtk-3-common", "LGPL-2.0-or-later"),
    _interface("geany-common", "GPL-2.0-or-later"),
    _interface("nautilus-data", "GPL-3.0-or-later"),
    _interface("gnome-control-center-data", "GPL-2.0-or-later"),
    _interface("evolution-common", "LGPL-2.0-or-later"),
    _interface("gedit-common", "GPL-2.0-or-later"),
    _interface("evince-common", "GPL-2.0-or-later"),
    _interface("gramps", "GPL-2.0-or-later"),
    _interface("pspp", "GPL-3.0-or-later"),
    _interface("r-base-core", "GPL-2.0-or-later"),
    _interface("skrooge-common", "GPL-2.0 or GPL-3.0"),
    _interface("zim", "GPL-2.0-or-later"),
    _interface("kig", "GPL-2.0-or-later"),
    _interface("kmplot", "GPL-2.0-or-later"),
    _interface("cantor", "GPL-2.0-or-later"),
    _interface("kdenlive-data", "GPL-2.0-or-later"),
    _interface("audacity-data", "GPL-2.0-or-later"),
    _interface("vlc-l10n", "GPL-2.0-or-later"),
    _interface("git", "GPL-2.0"),
    _interface("aptitude-common", "GPL-2.0-or-later"),
    _interface("synaptic", "GPL-2.0-or-later"),
    _interface("coreutils", "GPL-3.0-or-later"),
    _interface("dpkg", "GPL-2.0-or-later"),
    _interface("gcc-12-locales", "GPL-3.0-or-later"),
    _interface("binutils-common", "GPL-3.0-or-later"),
    Source("gnome-user-docs", "gnome-user-docs", "html", r"help/zh_CN/.*\.page$", "CC-BY-SA-3.0"),
    Source("gimp-help-zh-cn", "gimp-help-zh-cn", "html", r"help/zh_CN/[^/]*\.html$", "GFDL-1.2-or-later, no invariants"),
    Source("debian-reference-zh-cn", "debian-reference-zh-cn", "html", r"(ch|ap|pr)\w+\.zh-cn\.html$", "GPL-2.0-or-later"),
    Source("debian-handbook", "debian-handbook", "html", r"html/zh-CN/.*\.html$", "GPL-2.0-or-later or CC-BY-SA-3.0"),
    Source("debian-edu-doc-zh-cn", "debian-edu-doc-zh-cn", "html", r"bookworm-manual\.html$", "GPL-2.0-or-later"),
    Source("debian-faq-zh-cn", "debian-faq-zh-cn", "html", r"\.zh-cn\.html$", "Debian FAQ licence (free, GNU-manual style)"),
    Source("maint-guide-zh-cn", "maint-guide-zh-cn", "html", r"\.zh-cn\.html$", "GPL-2.0-or-later"),
    Source("debmake-doc", "debmake-doc", "html", r"\.zh-cn\.html$", "MIT (Expat)"),
    Source("installation-guide", "installation-guide-amd64", "html", r"/zh_CN/.*\.html$", "GPL-2.0"),
    Source("manpages-zh", "manpages-zh", "man", r"man/zh_CN/man\d/.*\.gz$", "GFDL-1.2-or-later, no invariants"),
    Source("fortunes-zh (poems)", "fortunes-zh", "fortune", r"fortunes/(tang300|song100)$", "GPL-3.0-or-later"),
    Source("chinese-poetry", "chinese-poetry", "poetry", POETRY, "MIT", 380_000),
    Source("libreoffice-help (Traditional)", "libreoffice-help-zh-tw", "html", r"help/zh-TW/text/.*\.html$", "MPL-2.0", traditional=True),
    Source("libreoffice-l10n-zh-tw (strings)", "libreoffice-l10n-zh-tw", "mo", r"zh_TW/LC_MESSAGES/.*\.mo$", "MPL-2.0", traditional=True),
)
TERMS = {"儲存格": "單元格", "試算表": "電子表格", "簡報": "演示文稿", "預設": "默認"}
"""Words of the office suite that differ between Taiwan and the mainland and that OpenCC's general dictionary does not know."""


def to_simplified(text: str) -> str:
    """Taiwan's Chinese in the script and wording of the mainland (OpenCC ``tw2sp`` after ``TERMS``)."""
    for taiwan, mainland in TERMS.items():
        text = text.replace(taiwan, mainland)
    converted: str = _converter().convert(text)
    return converted


@cache
def _converter() -> Any:
    import opencc

    return opencc.OpenCC("tw2sp")


# ---------------------------------------------------------------- reading archives


def find_archive(packages: Path, package: str) -> Path:
    """The downloaded file of a package (``name_version_arch.deb`` or ``name-version.tgz``)."""
    found = sorted([*packages.glob(f"{package}_*.deb"), *packages.glob(f"{package}-[0-9]*.tgz")])
    if not found:
        raise FileNotFoundError(f"no archive of package {package} in {packages}")
    return found[-1]


def archive_version(archive: Path) -> str:
    """The package version as its own metadata (deb) or file name (npm) states it."""
    if archive.suffix == ".deb":
        field = ["dpkg-deb", "-f", str(archive), "Version"]
        return subprocess.run(field, check=True, capture_output=True, text=True).stdout.strip()
    return archive.stem.rsplit("-", 1)[1]


def archive_members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the regular files whose path matches, in path order, without unpacking to disk."""
    data = archive.read_bytes()
    if archive.suffix == ".deb":
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            stream = tar.extractfile(member) if member.isfile() and re.search(pattern, member.name) else None
            if stream is not None:
                yield member.name, stream.read()


# ---------------------------------------------------------------- from files to paragraphs


class Blocks(HTMLParser):
    """Collects the block-level text of HTML, DocBook HTML or Mallard pages as paragraphs in reading order."""

    BLOCK = frozenset(
        {
            "p",
            "div",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "li",
            "td",
            "th",
            "tr",
            "pre",
            "dt",
            "dd",
            "title",
            "item",
            "note",
            "table",
            "section",
        }
    )
    SKIP = frozenset({"script", "style", "nav", "header", "footer", "aside", "button", "info", "noscript"})
    SKIP_CLASS = frozenset({"navheader", "navfooter", "docnav", "toc", "index-label"})

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._text: list[str] = []
        self._skipping: tuple[str, int] | None = None
        self._verbatim = False

    def flush(self) -> None:
        """Ends the current paragraph; line breaks inside Chinese text are joined without a space."""
        text = "".join(self._text)
        self._text = []
        for line in text.split("\n") if self._verbatim else [text]:
            joined = re.sub(rf"(?<=[{CHINESE}])[ \t]*\n\s*(?=[{CHINESE}])", "", line)
            clean = re.sub(r"\s+", " ", joined).strip()
            if clean and (not self.paragraphs or clean != self.paragraphs[-1]):
                self.paragraphs.append(clean)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipping:
            name, depth = self._skipping
            self._skipping = (name, depth + (tag == name))
            return
        values = dict(attrs)
        if tag in self.SKIP or values.get("id") == "banner" or self.SKIP_CLASS & set((values.get("class") or "").split()):
            self._skipping = (tag, 1)
        elif tag == "br":
            self._text.append("\n" if self._verbatim else " ")
        elif tag in self.BLOCK:
            self.flush()
            self._verbatim = self._verbatim or tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            name, depth = self._skipping
            depth -= tag == name
            self._skipping = (name, depth) if depth else None
        elif tag in self.BLOCK:
            self.flush()
            self._verbatim = self._verbatim and tag != "pre"

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._text.append(data)


def read_html(data: bytes) -> list[list[str]]:
    """One document: the page's title, headings and paragraphs."""
    blocks = Blocks()
    blocks.feed(data.decode("utf-8", "replace"))
    blocks.close()
    blocks.flush()
    return [blocks.paragraphs]


def interface_text(message: str) -> str:
    """A user-interface string without accelerators (``~X``, ``_X``, ``(_F)``), markup and surrounding space."""
    text = re.sub(r"\s*\([~_&][A-Za-z0-9]\)", "", html.unescape(message))
    text = re.sub(r"</?(br|p|li|tr|h\d)\b[^<>]*>", " ", text)
    text = re.sub(r"<[^<>]{1,120}>", "", text).replace("%PRODUCTNAME", "LibreOffice")
    text = re.sub(r"~(?=\w)|(?<!\w)[_&](?=[A-Za-z\u3400-\u9fff])", "", text)
    return re.sub(r"[ \t]+", " ", text).strip()


def group_strings(messages: Iterable[str]) -> list[list[str]]:
    """Documents of about ``UI_DOCUMENT_CHARS`` characters out of Chinese user-interface strings in file order."""
    documents: list[list[str]] = [[]]
    size = 0
    for message in messages:
        lines = [line for raw in message.split("\n") if re.search(r"[\u3400-\u9fff]", line := interface_text(raw))]
        documents[-1] += lines
        size += sum(map(len, lines))
        if size >= UI_DOCUMENT_CHARS:
            documents.append([])
            size = 0
    return documents


def read_mo(data: bytes) -> list[list[str]]:
    """The translations of a gettext catalogue (first plural form), in file order."""
    order = "<" if data[:4] == b"\xde\x12\x04\x95" else ">"
    count, _, table = struct.unpack(order + "3I", data[8:20])
    messages = []
    for index in range(1, count):
        length, start = struct.unpack_from(order + "2I", data, table + 8 * index)
        messages.append(data[start : start + length].split(b"\0")[0].decode("utf-8", "replace"))
    return group_strings(messages)


def read_man(data: bytes) -> list[list[str]]:
    """One document out of a gzipped roff manual page; font and spacing escapes are dropped."""
    paragraphs: list[str] = [""]
    for line in gzip.decompress(data).decode("utf-8", "replace").splitlines():
        if line.startswith(('.\\"', "'", ".so")):
            continue
        macro = re.match(r"\.\s*([A-Za-z]+)\s*(.*)", line)
        body = macro.group(2).replace('"', "") if macro else line
        if macro and macro.group(1) not in {"B", "I", "BR", "IR", "RB", "RI", "BI", "IB", "SB", "SM"}:
            heading = macro.group(1) in {"SH", "SS", "Sh", "Ss", "TH", "Dt"}
            paragraphs += [body, ""] if heading else [""]
            continue
        body = re.sub(r"\\(f(\(..|\[\w*\]|.)|s[+-]?\d|[&,/|^:c]|\((bu|em)|\*\(..)", "", body)
        body = body.replace("\\-", "-").replace("\\e", "\\").replace("\\(aq", "'").replace("\\ ", " ").replace("\\~", " ")
        glue = "" if re.search(rf"[{CHINESE}]$", paragraphs[-1]) and re.match(rf"[{CHINESE}]", body) else " "
        paragraphs[-1] += glue + body if body.strip() else ""
        if not body.strip():
            paragraphs.append("")
    return [[re.sub(r"\s+", " ", text).strip() for text in paragraphs if text.strip()]]


def read_fortune(data: bytes) -> list[list[str]]:
    """One document per ``%``-separated entry, without terminal colours."""
    text = re.sub(r"\x1b\[[\d;]*m", "", data.decode("utf-8", "replace"))
    return [[line.strip() for line in entry.splitlines() if line.strip()] for entry in text.split("\n%\n")]


def read_poetry(data: bytes) -> list[list[str]]:
    """One document per poem: title with author, then its lines."""
    loaded = json.loads(data)
    documents = []
    for poem in loaded if isinstance(loaded, list) else []:
        lines = poem.get("paragraphs") or poem.get("content") or poem.get("para")
        if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
            title = " ".join(str(poem[key]) for key in ("title", "rhythmic", "chapter", "author") if poem.get(key))
            documents.append([title, *lines])
    return documents


def read_member(kind: str, data: bytes) -> list[list[str]]:
    """The documents (lists of paragraphs) in one archive member."""
    if kind in {"xcd", "strings"}:
        pattern = r"<value[^>]*>([^<]*)</value>" if kind == "xcd" else r'="([^"]*)"'
        return group_strings(html.unescape(text) for text in re.findall(pattern, data.decode("utf-8", "replace")))
    readers = {"html": read_html, "mo": read_mo, "man": read_man, "fortune": read_fortune, "poetry": read_poetry}
    return readers[kind](data)
