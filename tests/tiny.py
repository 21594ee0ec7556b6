"""What the tests of the numeric parts share: a tokenizer and models so small that a test takes milliseconds, and rows to train on."""

import importlib.util
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from weitiao.config_methods import LoraMethod
from weitiao.config_training import OptimConfig
from weitiao.data.batch import Plan
from weitiao.data.render import CHATML
from weitiao.methods import apply_method
from weitiao.records import Encoded

torch.set_num_threads(1)  # tiny matrices lose by threads: 77 s instead of 10 s where the cores are busy

ROOT = Path(__file__).parent.parent
TEMPLATES = {name: (ROOT / "tests" / "parity" / "templates" / f"{name}.jinja").read_text(encoding="utf-8") for name in ("qwen2", "qwen2_5")}
TEMPLATES["chatml"] = CHATML
VOCABULARY = 600


def script(path: str) -> Any:
    """A program of the repository (``tools/…``, ``bench/…``) as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tokenizer(folder: Path, template: str | None) -> None:
    """A byte-level BPE of 600 entries in Qwen2's form, trained on the built-in texts, with a chat template (None: without one)."""
    tools = script("tools/builtin_tokenizer.py")
    lines = (ROOT / "weitiao" / "builtin" / "topic.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(tools.PATTERN), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    size = VOCABULARY - len(tools.SPECIAL)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [json.loads(line)["text"] for line in lines], trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    )
    tokenizer.add_special_tokens(list(tools.SPECIAL))
    assert tokenizer.get_vocab_size() == VOCABULARY
    tools.write(tokenizer, folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"chat_template": template}
    if template is None:
        del config["chat_template"]
    path.write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")


def write_model(folder: Path, tied: bool, template: str = "qwen2") -> Path:
    """A random Qwen2 of two blocks with its tokenizer. Larger initial weights than usual, so that its answers differ clearly."""
    write_tokenizer(folder, TEMPLATES[template])
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=64,
        max_position_embeddings=256, tie_word_embeddings=tied, initializer_range=0.15, bos_token_id=None, eos_token_id=VOCABULARY - 3,
    )  # fmt: skip
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms of one and biases of zero would hide a mistake in them
                parameter.add_(torch.randn_like(parameter) * 0.1)
            assert torch.isfinite(parameter).all(), name
    model.save_pretrained(folder)
    return folder


def load(folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The causal model of a folder, in evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()


def with_adapters(model: nn.Module) -> nn.Module:
    """The model under LoRA adapters that have learned something: their second halves are drawn, not zero."""
    torch.manual_seed(0)
    model = apply_method(model, LoraMethod()).eval()
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.1)
    return model


def sft_rows(lengths: Sequence[int], seed: int = 0) -> list[Encoded]:
    """Rows of random tokens whose last third (at least one token) is trained."""
    draw = random.Random(seed)
    rows = []
    for i, length in enumerate(lengths):
        answer = max(1, length // 3)
        trained = (False,) * (length - answer) + (True,) * answer
        rows.append(Encoded(f"row:{i}", tuple(draw.randrange(VOCABULARY - 3) for _ in range(length)), trained))
    return rows


def text_rows(lengths: Sequence[int], seed: int = 0) -> list[Encoded]:
    """The same random tokens, all of them trained but the first."""
    return [Encoded(row.id, row.tokens, (False,) + (True,) * (len(row.tokens) - 1)) for row in sft_rows(lengths, seed)]


def label_rows(lengths: Sequence[int], num_labels: int, seed: int = 0) -> list[Encoded]:
    """The same random tokens for a `score` head; every third row has candidates of its own."""
    rows = []
    for i, row in enumerate(sft_rows(lengths, seed)):
        label = i % num_labels
        candidates = (label, (label + 1) % num_labels) if i % 3 == 2 else ()
        rows.append(Encoded(row.id, row.tokens, (False,) * len(row.tokens), label, candidates))
    return rows


def plan(
    rows: Sequence[Encoded], batch_rows: int, num_steps: int, micro_batch_tokens: int = 100_000, seed: int = 0, num_labels: int = 0
) -> Plan:
    """A plan of so many steps."""
    return Plan(rows, batch_rows, micro_batch_tokens, 1000.0, num_steps, seed, num_labels)


STEADY = OptimConfig(schedule="constant", warmup_share=0.0, weight_decay=0.01)
"""The same learning rate at every step."""


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """‖a − b‖ / ‖b‖ in double precision (0 where both are zero)."""
    a, b = a.detach().double(), b.detach().double()
    size = float(b.norm())
    return float((a - b).norm()) / size if size else float(a.norm())


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all weights by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


MEASURED: dict[str, float] = {}
"""The largest deviation met under each name; `pytest --measured` prints them, so that a tolerance can be compared with them."""


def within(what: str, value: float, tolerance: float) -> None:
    """Assert ``value <= tolerance`` and remember the largest value."""
    MEASURED[what] = max(MEASURED.get(what, 0.0), value)
    assert value <= tolerance, f"{what}: {value:.3g} > {tolerance:.3g}"
