"""A freshly initialised Qwen2-architecture model beside a tokenizer: the start of the built-in base model's pre-training.

python tools/builtin_init.py TOKENIZER_DIR OUT_DIR
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

LARGEST_BYTES = 20_000_000


def main() -> None:
    """Write config, weights (bfloat16) and tokenizer into OUT_DIR."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=320)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--intermediate", type=int, default=960)
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=1, help="key-value heads")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=arguments.hidden,
        intermediate_size=arguments.intermediate,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.pairs,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    parameters = sum(p.numel() for p in model.parameters())
    if 2 * parameters > LARGEST_BYTES:
        raise SystemExit(f"{2 * parameters:,} bytes of weights, at most {LARGEST_BYTES:,}")
    model.save_pretrained(arguments.out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(arguments.tokenizer / name, arguments.out / name)
    print(f"{parameters:,} parameters, {2 * parameters:,} bytes")


if __name__ == "__main__":
    main()
