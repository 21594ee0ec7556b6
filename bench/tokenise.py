"""From a file of chats to the first batch: ours, cold and warm, beside TRL with datasets on the same rows and the same tokenizer.

    python bench/tokenise.py --rows 100000 --peer /path/to/venv/bin/python

The rows are made from the built-in texts: clauses drawn by seed, 300 tokens a chat on average, one question and one answer. What is timed
is a process of its own, from before the data are read to the first batch of 32 rows (imports aside, those of transformers too; they are
shown beside; `processor`: seconds of all its threads and of the processes that it starts). Ours reads, divides and audits the rows, as
`weitiao train` does, and says how long each took; TRL's is `load_dataset`, `SFTTrainer` and its data loader with its defaults but for the
length. TRL 1.16 cannot mark the assistant's tokens of this template, so that all tokens are trained there, which spares it work.
`--peer-processes` sets its `dataset_num_proc`.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "weitiao" / "builtin" / "model"

OURS = """
import json, resource, sys, time
start = time.perf_counter()
def worked_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
from weitiao.config import build_config
from weitiao.data.batch import Plan
from weitiao.data.examples import load_dataset
from weitiao.data.render import ChatEncoder
from weitiao.model.load import find_model, load_tokenizer
from weitiao import prepare
from transformers import AutoTokenizer
imported, worked = time.perf_counter(), worked_seconds()
marks = {}
def timed(module, name):
    inner = getattr(module, name)
    def outer(*arguments):
        begun = time.perf_counter()
        result = inner(*arguments)
        marks[name] = marks.get(name, 0.0) + time.perf_counter() - begun
        return result
    setattr(module, name, outer)
timed(prepare, "load_dataset")
timed(prepare, "encode")
config = build_config({"task": "generation", "data": {"train": sys.argv[1], "max_tokens": 2048}}, "bench")
folder = find_model(config.model)
encoder = ChatEncoder(load_tokenizer(folder), "bench")
prepared = prepare.prepare(config, encoder, folder.config)
audited = time.perf_counter()
prepare.audit(prepared, encoder)
marks["audit"] = time.perf_counter() - audited
batch = next(Plan(prepared.rows, 32, 65536, 1.0, 1, 0).steps())[0]
done = time.perf_counter()
tokens = sum(prepared.passages["train"].rows.lengths)
print(json.dumps({"import": imported - start, "first_batch": done - imported, "processor": worked_seconds() - worked,
                  "parts": marks, "tokens": tokens, "rows": {split: len(rows) for split, rows in prepared.passages.items()}}))
"""

PEER = """
import json, sys, time
start = time.perf_counter()
import datasets, trl
from trl import SFTConfig, SFTTrainer
imported, worked = time.perf_counter(), time.process_time()
path, model, out, processes = sys.argv[1:]
rows = datasets.load_dataset("json", data_files=path, split="train", cache_dir=out)
loaded = time.perf_counter()
args = SFTConfig(output_dir=out, max_length=2048, per_device_train_batch_size=32, use_cpu=True, bf16=False, report_to="none",
                 dataset_num_proc=int(processes) or None)
trainer = SFTTrainer(model=model, args=args, train_dataset=rows)
next(iter(trainer.get_train_dataloader()))
done = time.perf_counter()
tokens = sum(map(len, trainer.train_dataset["input_ids"]))
print(json.dumps({"import": imported - start, "first_batch": done - imported, "processor": time.process_time() - worked,
                  "parts": {"load_dataset": loaded - imported}, "tokens": tokens,
                  "rows": len(trainer.train_dataset), "trl": trl.__version__, "datasets": datasets.__version__}))
"""


def write(path: Path, rows: int) -> None:
    """The chats."""
    lines = (ROOT / "weitiao" / "builtin" / "topic.jsonl").read_text(encoding="utf-8").splitlines()
    clauses = [part for line in lines for part in re.split(r"(?<=[。，；：、\n])", json.loads(line)["text"]) if part]
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            question, answer = ("".join(draw.choices(clauses, k=draw.randint(*span))) for span in ((2, 12), (8, 36)))
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")


def run(python: str, code: str, arguments: list[str], **variables: str) -> dict[str, Any]:
    """One timed process; the last line that it prints is its result."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"} | variables
    done = subprocess.run([python, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peer", help="a Python with trl and datasets")
    parser.add_argument("--peer-processes", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"date": date.today().isoformat(), "cores": len(os.sched_getaffinity(0)), "rows": arguments.rows, "rounds": []}
    for _ in range(arguments.rounds):
        folder = Path(tempfile.mkdtemp())
        try:
            write(folder / "chats.jsonl", arguments.rows)
            data, cache = str(folder / "chats.jsonl"), str(folder / "cache")
            ours = {name: run(sys.executable, OURS, [data], PYTHONPATH=str(ROOT), WEITIAO_CACHE=cache) for name in ("cold", "warm")}
            if arguments.peer:
                peer = [data, str(MODEL), str(folder / "peer"), str(arguments.peer_processes)]
                ours |= {name: run(arguments.peer, PEER, peer) for name in ("trl cold", "trl warm")}
            found["rounds"].append(ours)
        finally:
            shutil.rmtree(folder)
        print(json.dumps(ours, indent=1), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
