"""A model's structure in numbers, read from config.json and the safetensors headers: no weight is loaded and torch is not imported."""

import re
from dataclasses import dataclass
from math import prod
from typing import Any

from weitiao.config_methods import FullMethod, HeadMethod, LoraMethod
from weitiao.model.load import ModelFolder, tensor_shapes

FAMILIES = ("llama", "qwen2", "qwen3")
"""Model types whose blocks are: norm, attention with rotary positions, norm, gated MLP."""
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+)$")
_OUTPUT = "lm_head.weight"
_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "blocks": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "pairs": ("num_key_value_heads",),
    "head_size": ("head_dim",),
    "inner": ("intermediate_size", "n_inner", "ffn_dim"),
}


@dataclass(frozen=True, slots=True)
class Structure:
    """Sizes of a decoder-only model. ``elements`` are those of all weights, a shared embedding counted once."""

    hidden: int
    blocks: int
    heads: int
    pairs: int
    """Heads of keys and values."""
    head_size: int
    inner: int
    """Width of the MLP."""
    vocabulary: int
    tied: bool
    elements: int
    block_elements: int
    """Weights of the last block."""
    linears: tuple[tuple[str, int, int], ...]
    """The linear layers of all blocks: name, inputs and outputs (either way round)."""
    head_norms: bool
    """Whether queries and keys are normalised (Qwen3)."""
    by_block: bool
    """Whether model/states.py runs the model block by block."""

    @property
    def output_elements(self) -> int:
        """Weights of the matrix that makes logits."""
        return self.vocabulary * self.hidden

    def all_elements(self, method: FullMethod | HeadMethod | LoraMethod, num_labels: int | None) -> int:
        """Weights of the model with the method applied. ``num_labels``: under a `score` head of so many labels."""
        if num_labels is not None:
            return self.elements - (0 if self.tied else self.output_elements) + num_labels * self.hidden
        copied = self.output_elements if isinstance(method, HeadMethod) and self.tied else 0
        return self.elements + copied + (self.trained_elements(method, None) if isinstance(method, LoraMethod) else 0)

    def trained_elements(self, method: FullMethod | HeadMethod | LoraMethod, num_labels: int | None) -> int:
        """Weights that the method moves."""
        if isinstance(method, LoraMethod):
            chosen = [entry for entry in self.linears if method.targets is None or entry[0] in method.targets]
            return sum(method.rank * (a + b) + (b if method.dora else 0) for _, a, b in chosen)
        if isinstance(method, HeadMethod):
            head = self.output_elements if num_labels is None else num_labels * self.hidden
            return head + (method.last_blocks * self.block_elements + self.hidden if method.last_blocks else 0)
        return self.all_elements(method, num_labels)


def read_structure(folder: ModelFolder) -> Structure:
    """The structure of a checked folder. Raises ModelError for a damaged file."""
    shapes = {name: shape for file in folder.weights for name, shape in tensor_shapes(folder.path / file).items()}
    config = folder.config
    tied = bool(config.get("tie_word_embeddings", _OUTPUT not in shapes))
    found = [(int(match[1]), match[2], shape) for name, shape in shapes.items() if (match := _BLOCK.search(name))]
    last = max((number for number, _, _ in found), default=0)
    linears = tuple((name.removesuffix(".weight").rpartition(".")[2], s[1], s[0]) for _, name, s in found if len(s) == 2)
    hidden, heads = _number(config, "hidden", 1), _number(config, "heads", 1)
    return Structure(
        hidden=hidden,
        blocks=_number(config, "blocks", last + 1),
        heads=heads,
        pairs=_number(config, "pairs", heads),
        head_size=_number(config, "head_size", max(1, hidden // heads)),
        inner=_number(config, "inner", 4 * hidden),
        vocabulary=int(config.get("vocab_size") or 1),
        tied=tied,
        elements=sum(prod(shape) for name, shape in shapes.items() if not (tied and name == _OUTPUT)),
        block_elements=sum(prod(shape) for number, _, shape in found if number == last),
        linears=linears,
        head_norms=any(name.endswith("q_norm.weight") for name in shapes),
        by_block=is_known(config),
    )


def is_known(config: dict[str, Any]) -> bool:
    """Whether a model is of a family that runs block by block: full causal attention without dropout."""
    layers = set(config.get("layer_types") or ())
    return config.get("model_type") in FAMILIES and layers <= {"full_attention"} and not config.get("attention_dropout")


def _number(config: dict[str, Any], meaning: str, otherwise: int) -> int:
    """A size under one of the names that families of models give it."""
    values = [config[name] for name in _NAMES[meaning] if isinstance(config.get(name), int)]
    return int(values[0]) if values else otherwise
