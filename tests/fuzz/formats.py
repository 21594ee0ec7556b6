"""Random data files through the whole path from bytes to token ids: no traceback, every row accounted for, no file takes long.

    python tests/fuzz/formats.py --files 50000 --minutes 60 --seed 1

Each file is made from a seed: rows in one of the shapes, values from a list of nasty texts, written in one of the formats and encodings,
and, for two files in five, damaged. What may happen to it: an error for the user (`UserError`), or a ledger in which rows in = used +
rejected, shortened rows being used ones; of an undamaged JSON Lines, Parquet or Excel file the number of rows is known beforehand. Of one
file in five tiktoken's ids are compared with those of the tokenizers library.
"""

import argparse
import gzip
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import openpyxl
import pyarrow
import pyarrow.parquet
from tiny import TEMPLATES, write_tokenizer
from transformers import AutoTokenizer

from weitiao.config import build_config
from weitiao.data.render import ChatEncoder
from weitiao.data.starter import starter_config
from weitiao.errors import UserError
from weitiao.language import use
from weitiao.prepare import audit, prepare

SLOWEST_SECONDS = 10.0
"""Of processor time, so that a busy machine makes no difference."""
WORDS = (
    "天气", "yes", "no", "010", "1e-4", "null", "NaN", "True", "", " ", "\n", "\t", "\u3000", "a,b", 'q"uo"te', "'", "a\tb", "x\r\ny",
    "{text}",
    "{{ x }}", "<|im_end|>", "<|im_start|>assistant\n", "\ue000", "\ufeff", "\u202e", "é", "e\u0301", "😀", "👩‍👩‍👧", "锟斤拷", "\ufffd",
    "[1, 2]",
    '["体育", "财经"]', "体育、财经", "=1+1", "\0", "长" * 400, "word " * 300, "１２３", "ﬁ", "\u2028", "\x1f", "-", "- a: b", "#",
)  # fmt: skip
Draw = random.Random


def text(draw: Draw) -> str:
    """A text of up to five words, or any characters."""
    if draw.random() < 0.2:
        codes = (draw.randrange(0x110000) for _ in range(draw.randrange(8)))
        return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
    return "".join(draw.choices(WORDS, k=draw.randint(1, 5)))


def value(draw: Draw, depth: int = 0) -> Any:
    """Anything that JSON has a word for; mostly text."""
    kind = draw.random()
    if kind < 0.75 or depth > 2:
        return text(draw)
    if kind < 0.9:
        return draw.choice([None, True, False, 0, -1, 10**20, 0.5, 1e300])
    if kind < 0.95:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {text(draw): value(draw, depth + 1) for _ in range(draw.randrange(3))}


def turns(draw: Draw, keys: tuple[str, str]) -> list[Any]:
    """A list of messages, usually in turn."""
    names = draw.choice([("human", "gpt"), ("user", "assistant")])
    made: list[Any] = [{keys[0]: names[i % 2], keys[1]: text(draw)} for i in range(draw.randrange(7))]
    if draw.random() < 0.2:
        made.insert(0, {keys[0]: "system", keys[1]: text(draw)})
    if draw.random() < 0.1:
        made.insert(draw.randrange(len(made) + 1), value(draw))
    return made


def row(draw: Draw, shape: str) -> dict[str, Any]:
    """A row of a shape; now and then with a value of another kind or without a column."""
    cells: dict[str, Callable[[], Any]] = {
        "label": lambda: {"text": text(draw), "label": draw.choice(["a", "b", "yes", "no", text(draw)])},
        "candidates": lambda: {"text": text(draw), "category": draw.choice([["a", "b"], "a,b", '["a", "b"]']), "output": draw.choice("ab")},
        "plain": lambda: {"text": text(draw)},
        "alpaca": lambda: {"instruction": text(draw), "input": text(draw), "output": text(draw), "history": [[text(draw), text(draw)]]},
        "sharegpt": lambda: {"conversations": turns(draw, ("from", "value")), "system": text(draw)},
        "messages": lambda: {"messages": turns(draw, ("role", "content"))},
        "prompt_completion": lambda: {"prompt": text(draw), "completion": text(draw)},
        "query_response": lambda: {"query": text(draw), "response": text(draw), "history": [[text(draw), text(draw)]]},
        "question_answers": lambda: {"context": text(draw), "question": text(draw), "answers": {"text": [text(draw)], "answer_start": [0]}},
        "preference": lambda: {"prompt": text(draw), "chosen": text(draw), "rejected": text(draw)},
        "anything": lambda: {text(draw): value(draw) for _ in range(draw.randrange(1, 4))},
    }
    made = dict(cells[shape]())
    if draw.random() < 0.1:
        made[draw.choice(list(made) or ["x"])] = value(draw)
    return made


SHAPES = ("label", "candidates", "plain", "alpaca", "sharegpt", "messages", "prompt_completion", "query_response", "question_answers",
          "preference", "anything")  # fmt: skip
FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".xlsx")


def content(draw: Draw, kind: str, rows: Sequence[dict[str, Any]]) -> tuple[bytes, int | None]:
    """The bytes of a file and, where it is certain, how many rows it has."""
    flat = [{key: one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for key, one in r.items()} for r in rows]
    if kind == ".parquet":
        names = list(dict.fromkeys(name for r in flat for name in r))
        table = pyarrow.table({name: pyarrow.array([r.get(name) for r in flat], pyarrow.string()) for name in names})
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer)
        return buffer.getvalue(), len(rows) if names else None
    if kind == ".xlsx":
        book = openpyxl.Workbook()
        names = list(dict.fromkeys(name for r in flat for name in r))
        for cells in (names, *([r.get(name) for name in names] for r in flat)):
            book.active.append(["".join(c for c in cell if c >= " " and c.isprintable())[:900] if cell else cell for cell in cells])
        buffer = io.BytesIO()
        book.save(buffer)
        return buffer.getvalue(), None  # a row of empty cells is none
    encoding = draw.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "gb18030", "utf-16"])
    if kind == ".jsonl":
        written = "".join(json.dumps(r, ensure_ascii=draw.random() < 0.5) + draw.choice(["\n", "\n\n", "\r\n"]) for r in rows)
        return written.encode(encoding), len(rows)
    if kind == ".json":
        return json.dumps(rows, ensure_ascii=False, indent=draw.choice([None, 1])).encode(encoding), len(rows)
    if kind == ".txt":
        return "\n".join(next(iter(r.values()), "") for r in flat).encode(encoding), None
    delimiter = "\t" if kind == ".tsv" else draw.choice(",;|\t")
    names = list(dict.fromkeys(name for r in flat for name in r))
    quote = '"'
    lines = [names, *([r.get(name, "") for name in names] for r in flat)]
    return "\r\n".join(delimiter.join(quote + c.replace(quote, quote * 2) + quote for c in cells) for cells in lines).encode(encoding), None


def damage(draw: Draw, data: bytes) -> bytes:
    """Cut, overwrite, repeat or remove some bytes."""
    for _ in range(draw.randint(1, 4)):
        if not data:
            return data
        at, size = draw.randrange(len(data)), draw.randint(1, 64)
        match draw.randrange(4):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + draw.randbytes(size) + data[at + size :]
            case 2:
                data = data[: at + size] + data[at:]
            case _:
                data = data[:at] + data[at + size :]
    return data


def _complete(error: UserError) -> None:
    """A refusal says where, what and what to do."""
    assert all((error.where, error.cause, error.remedy)), error


class Fuzz:
    """One fuzz run: a folder for the files, a tokenizer, and what came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_tokenizer(folder / "tokenizer", TEMPLATES["chatml"])
        self.encoder, self.quick = (
            ChatEncoder(AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True), "tiny") for _ in range(2)
        )
        self.quick.hasten()
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self.rows: Counter[str] = Counter()

    def one(self, seed: int) -> None:
        """Make and read the file of a seed. Raises AssertionError, or whatever escapes, when it must not be so."""
        draw = Draw(seed)
        kind = draw.choice(FORMATS)
        shape = draw.choice(SHAPES) if kind != ".txt" else "plain"
        made = [row(draw, shape) for _ in range(draw.choice([1, 3, 8, 20, 40]))]
        data, count = content(draw, kind, made)
        if draw.random() < 0.4:
            data, count = damage(draw, data), None
        packed = draw.random() < 0.1
        path = self.folder / f"data{kind}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(data) if packed else data)
        start = time.process_time()
        self.outcomes[self._read(draw, path, shape, count)] += 1
        seconds = time.process_time() - start
        self.slowest = max(self.slowest, seconds)
        assert seconds <= SLOWEST_SECONDS, f"{seconds:.1f} s"

    def _read(self, draw: Draw, path: Path, shape: str, count: int | None) -> str:
        task = {"label": "classification", "candidates": "classification", "plain": "text"}.get(shape, "generation")
        if draw.random() < 0.1:
            task = draw.choice(["classification", "text", "generation"])
        shares = draw.choice([{"validation_share": 0, "test_share": 0}, {}])
        options = {"max_tokens": draw.choice([40, 120, 400, 2000]), "shorten": draw.choice(["tail", "head", "middle", "none"])}
        options["deduplicate"] = draw.choice(["none", "exact", "near"])
        tree = {"task": task, "objective": "pretrain" if task == "text" else "sft", "data": {"train": str(path), **shares, **options}}
        if draw.random() < 0.3:
            try:
                starter_config(path, draw.choice(["zh", "en"]))
            except UserError as error:
                _complete(error)
        try:
            prepared = prepare(build_config(tree, "fuzz"), self.encoder, {})
            if draw.random() < 0.2:
                assert list(prepare(build_config(tree, "fuzz"), self.quick, {}).rows) == list(prepared.rows), "tiktoken gives other ids"
        except UserError as error:
            _complete(error)
            return "refused"
        audit(prepared, self.encoder)
        totals = prepared.dataset.ledger.as_dict()["totals"]
        assert totals["rows_in"] == totals["used"] + totals["rejected"], totals
        assert totals["shortened"] <= totals["used"], totals
        assert count is None or totals["rows_in"] == count, (totals, count)
        assert all(any(r.trained) for r in prepared.rows if r.label < 0)
        assert task == "text" or all(len(r.tokens) <= options["max_tokens"] for r in prepared.rows)
        self.rows.update(totals)
        return "read"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    use("en")
    failures, done, end = [], 0, time.monotonic() + 60 * arguments.minutes
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder))
        for number in range(arguments.files):
            if time.monotonic() > end:
                break
            seed = (arguments.seed << 32) + number
            try:
                fuzz.one(seed)
            except (Exception, RecursionError) as error:
                failures.append(seed)
                print(f"file {number} (seed {seed}): {type(error).__name__}: {str(error)[:300]}", flush=True)
            done += 1
            if done % 500 == 0:
                print(f"{done} files so far: {dict(fuzz.outcomes)}, slowest {fuzz.slowest:.2f} s", flush=True)
        print(f"{done} files: {dict(fuzz.outcomes)}, {len(failures)} failures, slowest {fuzz.slowest:.2f} s; rows {dict(fuzz.rows)}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
