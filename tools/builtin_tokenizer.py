"""The built-in model's tokenizer: byte-level BPE with Qwen2's normaliser, pre-tokenizer and special tokens.

Qwen2's pattern keeps a whole run of letters, hence a whole Chinese clause, as one pre-token, so merges may span words.
That is kept: encoding must follow the pattern stored in ``tokenizer.json``.

Example::

    python tools/builtin_tokenizer.py --corpus corpus/train.jsonl --out tokenizer --vocab-size 8192 --measure corpus/heldout.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END = "<|endoftext|>"
SPECIAL = (END, "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MIN_FREQUENCY = 2  # occurrences; a pair seen once is no vocabulary


def read_texts(path: Path) -> Iterator[tuple[str, str]]:
    """(source, text) of every document of a JSON-lines corpus."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            document = json.loads(line)
            yield document["source"], document["text"]


def train(corpus: Path, vocab_size: int) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` entries, of which the special tokens are the last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL),
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator((text for _, text in read_texts(corpus)), trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"the corpus yields only {tokenizer.get_vocab_size()} entries, not {vocab_size}")
    return tokenizer


def write(tokenizer: Tokenizer, out: Path) -> None:
    """``tokenizer.json`` and the ``tokenizer_config.json`` that makes transformers load it as Qwen2's."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in SPECIAL
    }
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": 32768,
        "pad_token": END,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def characters_per_token(tokenizer: Tokenizer, path: Path) -> dict[str, float]:
    """Characters per token of every source of a corpus, and of all of it."""
    characters: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for source, text in read_texts(path):
        for name in (source, "all"):
            characters[name] += len(text)
            tokens[name] += len(tokenizer.encode(text).ids)
    return {name: round(characters[name] / tokens[name], 3) for name in characters}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and writes the tokenizer; with ``--measure`` prints characters per token by source as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="train.jsonl with text and source")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tokenizer's files")
    parser.add_argument("--vocab-size", type=int, default=8192, help="entries, special tokens included")
    parser.add_argument("--measure", type=Path, help="held-out JSON lines to report characters per token on")
    options = parser.parse_args(arguments)
    tokenizer = train(options.corpus, options.vocab_size)
    write(tokenizer, options.out)
    if options.measure:
        print(json.dumps(characters_per_token(tokenizer, options.measure), ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
