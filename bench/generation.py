"""Tokens written per second: weitiao's generator against `generate` of transformers on the same prompts, weights and settings.

    python bench/generation.py [MODEL] [--prompts 32] [--rounds 3]        MODEL: a folder; default the built-in model

Three pieces of work, each run in turn by both, `--rounds` times; the median counts. transformers gets batches of 32 prompts in the order of
the file, padded on the left, as its documentation shows. Only real tokens count: those up to the end token of each answer.

- greedy: prompts of unlike length, answers that end where the model ends them, 64 tokens at most
- group:  16 drawn answers to each of two prompts of 500 tokens, 64 tokens at most (rollouts); transformers: num_return_sequences=16
- prefix: prompts that share their first 300 tokens, 16 tokens at most
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from weitiao.config import ModelConfig
from weitiao.config_decoding import DecodingConfig
from weitiao.data.render import ChatEncoder
from weitiao.evaluate.generate import generate
from weitiao.model.load import choose_precision, find_model, load_causal, load_tokenizer
from weitiao.records import Message

TEXTS = Path(__file__).parent.parent / "weitiao" / "builtin" / "topic.jsonl"
Prompts = list[tuple[int, ...]]
Answers = list[tuple[int, ...]]


def ours(model: nn.Module, prompts: Prompts, ends: Sequence[int], decoding: DecodingConfig, samples: int) -> Answers:
    """Our answers, their end tokens included."""
    return [answer.tokens for group in generate(model, prompts, ends, decoding, 0, 65536, samples) for answer in group]


def theirs(model: nn.Module, prompts: Prompts, ends: Sequence[int], decoding: DecodingConfig, samples: int) -> Answers:
    """Those of transformers, cut behind the end token."""
    answers: Answers = []
    drawn = {"do_sample": True, "temperature": decoding.temperature, "top_k": 0} if decoding.temperature else {"do_sample": False}
    for start in range(0, len(prompts), 32):
        batch = prompts[start : start + 32]
        width = max(map(len, batch))
        tokens = torch.tensor([[0] * (width - len(p)) + list(p) for p in batch])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
        out = model.generate(
            tokens, attention_mask=mask, max_new_tokens=decoding.max_new_tokens, eos_token_id=list(ends), pad_token_id=ends[0],
            num_return_sequences=samples, use_cache=True, **drawn,
        )  # fmt: skip
        for row in out[:, width:].tolist():
            end = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
            answers.append(tuple(row[:end]))
    return answers


def work(encoder: ChatEncoder, number: int) -> dict[str, tuple[Prompts, DecodingConfig, int]]:
    """The three pieces of work."""
    texts = [json.loads(line)["text"] for line in TEXTS.read_text(encoding="utf-8").splitlines()]
    long = encoder.text("".join(texts[:400]))
    chats = [encoder.chat((Message("user", text),)) for text in texts[:number]]
    return {
        "greedy": (chats, DecodingConfig(max_new_tokens=64), 1),
        "group": ([long[:500], long[500:1000]], DecodingConfig(max_new_tokens=64, temperature=1.0), 16),
        "prefix": ([long[:300] + chat for chat in chats], DecodingConfig(max_new_tokens=16), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="builtin")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    config = ModelConfig(path=arguments.model)
    folder = find_model(config)
    model = load_causal(folder, torch.device("cpu"), choose_precision(config, torch.device("cpu")))
    encoder = ChatEncoder(load_tokenizer(folder), str(folder.path))
    ends = [encoder.end_of_answer, encoder.end_of_text]
    for name, (prompts, decoding, samples) in work(encoder, arguments.prompts).items():
        speeds: dict[str, list[float]] = {"weitiao": [], "transformers": []}
        answers: dict[str, Answers] = {}
        for _ in range(arguments.rounds):
            for who, write in (("weitiao", ours), ("transformers", theirs)):
                start = time.perf_counter()
                answers[who] = write(model, prompts, ends, decoding, samples)
                speeds[who].append(sum(map(len, answers[who])) / (time.perf_counter() - start))
        same = sum(a == b for a, b in zip(*answers.values(), strict=True))
        mine, other = (statistics.median(values) for values in speeds.values())
        row = {"work": name, "rows": len(answers["weitiao"]), "weitiao": round(mine, 1), "transformers": round(other, 1)}
        print(json.dumps(row | {"times": round(mine / other, 2), "same_answers": same if samples == 1 else None}))


if __name__ == "__main__":
    main()
