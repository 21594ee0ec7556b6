"""Put the result of the pre-training into the package, with a model card made from the records of its runs (one per stage, in order).

python tools/builtin_publish.py STAGE_1 STAGE_2 STAGE_3 weitiao/builtin/model
"""

import json
import shutil
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LARGEST_BYTES = 20_000_000


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def curve(run: Path) -> str:
    """Held-out loss over training as a Markdown table."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    tokens = {line["step"]: line["tokens"] for line in lines if line["type"] == "step"}
    rows = [
        f"| {line['step']:,} | {tokens[line['step']] / 1e6:.2f} M | {line['epoch']:.2f} | {line['loss']:.4f} | "
        f"{line['bits_per_character']:.4f} |"
        for line in lines
        if line["type"] == "validation"
    ]
    return "\n".join(["| step | tokens seen | epoch | loss (nats per token) | bits per character |", "|---:|---:|---:|---:|---:|", *rows])


def sources(corpus: Path) -> str:
    """The text's sources as a Markdown table."""
    entries = json.loads((corpus / "sources.json").read_text(encoding="utf-8"))
    rows = [
        f"| {e['source']} | {e['package']} {e['version']} | {e['licence']} | {e['train_characters']:,} | {e['heldout_characters']:,} |"
        for e in entries
    ]
    return "\n".join(["| part | package | licence | training characters | held-out characters |", "|---|---|---|---:|---:|", *rows])


def stages(runs: list[Path]) -> str:
    """What each stage took, as a Markdown table."""
    rows = []
    for number, run in enumerate(runs, 1):
        training = read(run / "run.json")["training"]
        rows.append(
            f"| {number} | {training['tokens']:,} | {training['epochs']:.2f} | {training['steps']:,} | {training['best_step']:,} | "
            f"{training['flops']:.3g} | {training['seconds'] / 60:.0f} | {training['tokens_per_second']:,.0f} | "
            f"{training['peak_memory_bytes'] / 1e9:.2f} |"
        )
    head = "| stage | tokens seen | epochs | steps | best step, kept | floating-point operations | minutes | tokens/s | peak memory, GB |"
    return "\n".join([head, "|---" + "|---:" * 8 + "|", *rows])


def found(corpus: Path) -> str:
    """What the leakage check of a text found, as JSON."""
    leakage = read(corpus / "leakage.json")
    rows = {split: {k: leakage[split][k] for k in ("rows", "line", "substring", "across", "near")} for split in ("dev", "test")}
    return json.dumps(rows | {"planted": leakage["planted"]}, ensure_ascii=False)


def card(runs: list[Path], corpus: Path, origins: Path) -> str:
    """The model card."""
    record = read(runs[-1] / "run.json")
    base = record["base_model"]
    curves = "\n\n".join(f"Stage {number}:\n\n{curve(run)}" for number, run in enumerate(runs, 1))
    return f"""# weitiao built-in base model

A Qwen2-architecture language model of {base["parameters"]:,} parameters ({base["dtype"]}), trained from scratch by this project's own
self-supervised objective (`recipes/builtin_base.yaml`, `builtin_base_2.yaml`, `builtin_base_3.yaml`) on freely licensed, mostly Chinese
text about software. It exists so that the whole path of fine-tuning can be run, tested and measured offline on a laptop. It is far too
small for anything else: it knows little, and what it writes is not to be relied on.

- Machine: {record["hardware"]["cores"]} cores of {record["hardware"]["processor"]}, shared with other work.
- Versions: {", ".join(f"{k} {v}" for k, v in record["versions"].items() if k != "platform")}.
- Held-out text of stages 1 and 2: the help pages of the built-in data's dev split and about 1 % of every other source; of stage 3: about
  1 % of its paragraphs with their origins, so its figures are not those of the stages before. The weights of the best step are kept.
- **What the third stage teaches**: its text is paragraphs and interface strings of the same packages, each followed by a line with its
  origin, `出处：LibreOffice Calc《单元格保护》`, taken from the path inside the package. So this base has read which program a help page
  or an interface string is of, for pages that hold no dev or test row. The built-in task asks for just that (which application is this
  paragraph about?), and it profits, at a price on other text; a base without this stage is measured beside it in docs/en/results.md.
- The first stage of the published weights was trained before the parts from Traditional Chinese packages (`…-zh-tw`, converted with OpenCC)
  were added to the text; `make builtin-base` trains every stage on all of it.
- The chat tokens `<|im_start|>` and `<|im_end|>` do not occur in the text; after the training their rows were set to that of
  `<|endoftext|>` ({END_SCALE} times for `<|im_end|>`), see `tools/builtin_publish.py`.
- Licence of the weights: Apache-2.0, as the project; the texts' own licences are below and in NOTICE. The texts are not included.

## Stages

{stages(runs)}

## Held-out loss over training

{curves}

## No page of the dev and test splits is in the training text

`make builtin-base` builds the text and checks it (`tools/builtin_corpus.py --check`): rows of the splits found in the training text as a
whole line, as part of a line, across lines, or as a near-duplicate (80 % of a row's character 5-grams in one paragraph); to prove that the
check finds what it looks for, rows are planted into a copy.

Stages 1 and 2, then stage 3:

```json
{found(corpus)}
{found(origins)}
```

## Text

Stages 1 and 2; the parts about the office suite (marked in `tools/builtin_corpus.py`, IN_DOMAIN) stand three times in an epoch. Stage 3 has
the suite's parts and up to 24,000 characters of each of the others, each paragraph with its origin (`tools/builtin_origins.py`).

{sources(corpus)}

Rebuild everything: `make builtin-base`.
"""


END_SCALE = 1.25


def give_chat_tokens_a_start(path: Path) -> None:
    """Plain text has no chat, so the rows of ``<|im_start|>`` and ``<|im_end|>`` are still as they were initialised and the model has
    learned to give them no probability. Let them start where their nearest relative is: ``<|im_end|>`` means what ``<|endoftext|>`` means,
    a little stronger (END_SCALE), so that an answer ends with it; ``<|im_start|>`` is read like ``<|endoftext|>``, the beginning of
    something new."""
    with safe_open(path / "model.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    tokens = {t["content"]: t["id"] for t in json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]}
    embedding = weights["model.embed_tokens.weight"]
    end = embedding[tokens["<|endoftext|>"]]
    embedding[tokens["<|im_start|>"]] = end
    embedding[tokens["<|im_end|>"]] = end * END_SCALE
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def main(runs: list[Path], out: Path) -> None:
    """Copy the last stage's model and write README.md, sources.json and leakage.json beside it."""
    run = runs[-1]
    size = (run / "model" / "model.safetensors").stat().st_size
    if size > LARGEST_BYTES:
        sys.exit(f"{size:,} bytes of weights, at most {LARGEST_BYTES:,}")
    corpus, origins = run.parent / "corpus", run.parent / "corpus-origins"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name in FILES:
        if (run / "model" / name).is_file():
            shutil.copyfile(run / "model" / name, out / name)
    give_chat_tokens_a_start(out)
    for name in ("sources.json", "leakage.json"):
        shutil.copyfile(corpus / name, out / name)
    shutil.copyfile(origins / "leakage.json", out / "leakage-origins.json")
    (out / "README.md").write_text(card(runs, corpus, origins), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main([Path(name) for name in sys.argv[1:-1]], Path(sys.argv[-1]))
