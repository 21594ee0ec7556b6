"""Run a command line within the test's process, and what every failing one must look like."""

import contextlib
import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weitiao import language
from weitiao.commands.line import run_command

CHINESE = re.compile("[\u4e00-\u9fff]")
ENGLISH_SENTENCE = re.compile(r"[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}")
"""Three words in a row: no key, path or name looks like this."""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON object that it must be."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def command(*arguments: object, lang: language.Language = "en") -> Result:
    """One command line in one language."""
    out, err = io.StringIO(), io.StringIO()
    try:
        language.use(lang)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command([str(argument) for argument in arguments])
    finally:
        language.use(None)
    return Result(code, out.getvalue(), err.getvalue())


def refused(*arguments: object, lang: language.Language = "en") -> str:
    """The message of a command that must be refused as the user's mistake: code 2, no traceback, where, cause and remedy, in one
    language."""
    result = command(*arguments, lang=lang)
    assert result.code == 2, result.err
    assert result.out == ""
    assert "Traceback" not in result.err, result.err
    lines = result.err.strip().splitlines()
    if lang == "zh":
        assert lines[0].startswith("错误: ")
        assert lines[-1].startswith("  怎么办: ")
        assert CHINESE.search(lines[0].partition("错误: ")[2])
        assert not ENGLISH_SENTENCE.search(result.err), result.err
    else:
        assert lines[0].startswith("error: ")
        assert lines[-1].startswith("  What to do: ")
    return result.err


def copied(folder: Path, target: Path) -> Path:
    """A copy of a model or run folder to spoil."""
    shutil.copytree(folder, target)
    return target


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
