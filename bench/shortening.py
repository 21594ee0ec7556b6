"""What is left of a long row: ours against the rules of three peers, on rows in the shape of zh_cls_fudan-news.

    python bench/shortening.py --max-tokens 384

The rows are made: documents of 3,234 ± 2,547 tokens (the length that ms-swift's data set table gives for damo/zh_cls_fudan-news) cut from
the built-in texts; the instruction first, then the document, then the row's own options, then the answer. The peers' rules are written
down here from their documentation and source, not run:

- LLaMA-Factory v0.9.6.dev0, `data/processor/processor_utils.py: infer_seqlen`: the answer is kept, the prompt is cut on the right.
- ms-swift 4.6.0.dev0, `truncation_strategy`: `delete` (default) drops the row; `left` and `right` cut one end of the whole sequence.
- TRL 1.16 (`max_length`, `truncation_mode: keep_start`) and Axolotl 0.18 (`excess_length_strategy: truncate`) keep the first tokens of
  prompt and answer together; so does the tutorial for this data set (`input_ids[:384]`).
"""

import argparse
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from weitiao.config_data import DataConfig, ModelConfig
from weitiao.config_tasks import ClassificationTask
from weitiao.data.render import ChatEncoder
from weitiao.model.load import find_model, load_tokenizer
from weitiao.records import Example, Message
from weitiao.tasks.classification import Classification

ROOT = Path(__file__).parent.parent
MEAN, DEVIATION, SHORTEST, LONGEST = 3234.4, 2547.5, 91, 19548
TEMPLATE = "你是一个文本分类领域的专家，请判断下面文本的类别。\n文本：{text}\n类别选项：{labels}"
LABELS = ("体育", "财经", "天气", "农业", "航空", "计算机", "艺术", "历史", "环境", "政治")
PARTS = ("instruction", "options", "header", "answer", "end")


@dataclass(frozen=True)
class Row:
    """An encoded row: prompt and answer, and where each part's tokens lie (start, end)."""

    ids: tuple[int, ...]
    parts: dict[str, tuple[int, int]]


def rows(encoder: ChatEncoder, count: int, seed: int) -> tuple[Classification, list[Example]]:
    """Rows of the shape, with a seed: lengths by a log-normal distribution of the given mean and deviation, 3 to 6 options each."""
    lines = (ROOT / "weitiao" / "builtin" / "topic.jsonl").read_text(encoding="utf-8").splitlines()
    text = "".join(json.loads(line)["text"] for line in lines)
    characters_per_token = 20_000 / len(encoder.text(text[:20_000]))
    spread = math.sqrt(math.log(1 + (DEVIATION / MEAN) ** 2))
    draw, task = random.Random(seed), Classification(ClassificationTask(template=TEMPLATE), LABELS)
    examples = []
    for i in range(count):
        tokens = min(max(draw.lognormvariate(math.log(MEAN) - spread**2 / 2, spread), SHORTEST), LONGEST)
        start = draw.randrange(len(text) - int(LONGEST * characters_per_token) - 1)
        document = text[start : start + round(tokens * characters_per_token)]
        options = tuple(draw.sample(LABELS, draw.randint(3, 6)))
        answer = draw.choice(options)
        examples.append(Example(f"row:{i}", task.prompt(document, options), (answer,), document, "made", i + 1, options))
    return task, examples


def encoded(encoder: ChatEncoder, example: Example) -> Row:
    """The whole row and where its parts lie. What the template writes before and behind a user's text is found on two short chats."""
    before, after = TEMPLATE.split("{text}")
    one, other = (encoder.chat([Message("user", text)]) for text in "Ab")
    start = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    opening = len(one) - len(encoder.chat([Message("user", "A")], add_generation_prompt=False))
    prompt, answer = encoder.chat(example.prompt), encoder.text(example.targets[0])
    user_end = len(prompt) - (len(one) - start - 1)
    options = len(encoder.text(after.replace("{labels}", "、".join(example.candidates))))
    ids = (*prompt, *answer, encoder.end_of_answer)
    parts = {
        "instruction": (start, start + len(encoder.text(before)) - 1),  # the token at the seam may hold the document's first character
        "options": (user_end - options + 1, user_end),
        "header": (len(prompt) - opening, len(prompt)),
        "answer": (len(prompt), len(ids) - 1),
        "end": (len(ids) - 1, len(ids)),
    }
    return Row(ids, parts)


def kept(row: Row, positions: range | Sequence[int]) -> dict[str, bool]:
    """Which parts are whole among the positions that a rule keeps."""
    there = set(positions)
    return {part: all(i in there for i in range(*span)) for part, span in row.parts.items()}


def llama_factory(row: Row, most: int) -> Sequence[int]:
    """`infer_seqlen`: a target shorter than half keeps all of it; the source is cut on the right."""
    target, source = len(row.ids) - row.parts["answer"][0], row.parts["answer"][0]
    if target * 2 < most:
        longest_target = most
    elif source * 2 < most:
        longest_target = most - source
    else:
        longest_target = int(most * (target / (source + target)))
    new_target = min(longest_target, target)
    new_source = min(max(most - new_target, 0), source)
    return [*range(new_source), *range(source, source + new_target)]


def swift_delete(row: Row, most: int) -> Sequence[int]:
    """`truncation_strategy: delete`, the default: the row is gone."""
    return range(len(row.ids) if len(row.ids) <= most else 0)


def swift_left(row: Row, most: int) -> Sequence[int]:
    """`truncation_strategy: left`: the last tokens stay."""
    return range(max(0, len(row.ids) - most), len(row.ids))


def keep_start(row: Row, most: int) -> Sequence[int]:
    """TRL's `max_length`, Axolotl's `truncate`, ms-swift's `right`, the tutorial's slice: the first tokens stay."""
    return range(min(most, len(row.ids)))


RULES: dict[str, Callable[[Row, int], Sequence[int]]] = {
    "LLaMA-Factory": llama_factory,
    "ms-swift (delete, default)": swift_delete,
    "ms-swift (left)": swift_left,
    "TRL, Axolotl, ms-swift (right), tutorial": keep_start,
}


def measure(encoder: ChatEncoder, count: int, most: int, seed: int) -> dict[str, dict[str, float]]:
    """Share of the rows that keep each part, by rule; `all`: every part."""
    task, examples = rows(encoder, count, seed)
    table: dict[str, list[dict[str, bool]]] = {name: [] for name in ("weitiao", *RULES)}
    prompts = task.encode_prompts(encoder, examples, most, DataConfig())
    for example, prompt in zip(examples, prompts, strict=True):
        whole = encoded(encoder, example)
        for name, rule in RULES.items():
            table[name].append(kept(whole, rule(whole, most)))
        ours = dict.fromkeys(PARTS, False)
        if prompt is not None:
            row = encoded(encoder, prompt.example)
            same = {part: row.ids[slice(*row.parts[part])] == whole.ids[slice(*whole.parts[part])] for part in PARTS}
            ours = {part: same[part] and len(row.ids) <= most for part in PARTS}
        table["weitiao"].append(ours)
    return {
        name: {part: sum(row[part] for row in found) / count for part in PARTS} | {"all": sum(all(row.values()) for row in found) / count}
        for name, found in table.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--max-tokens", type=int, default=384)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = find_model(ModelConfig())
    encoder = ChatEncoder(load_tokenizer(folder), "builtin")
    lengths = [len(encoder.text(example.document)) for example in rows(encoder, arguments.rows, arguments.seed)[1]]
    mean = sum(lengths) / len(lengths)
    deviation = (sum((length - mean) ** 2 for length in lengths) / len(lengths)) ** 0.5
    print(f"{arguments.rows} rows, documents of {mean:.0f} ± {deviation:.0f} tokens, max_tokens {arguments.max_tokens}")
    print("| rule | " + " | ".join((*PARTS, "all")) + " |")
    print("|---|" + "---|" * (len(PARTS) + 1))
    for name, shares in measure(encoder, arguments.rows, arguments.max_tokens, arguments.seed).items():
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in shares.values()) + " |")


if __name__ == "__main__":
    main()
