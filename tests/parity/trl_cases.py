"""The weights and batches on which TRL and this package are compared."""

import random

import numpy as np
import torch
from torch import nn

from weitiao.config_objectives import DpoObjective, GrpoObjective
from weitiao.records import Branch, Tree

NAMES = (
    "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.v_proj.bias",
    "model.layers.1.mlp.down_proj.weight", "model.norm.weight",
)  # fmt: skip
"""Weights from the bottom to the top whose gradients are kept."""
EMBEDDING_ROWS = 20
"""Of the embedding, which is the output matrix too, every so many rows are kept."""
GROUP, TEMPERATURE, CLIP = 2, 0.8, (0.2, 0.28)
DPO = {
    "dpo sigmoid": ("sigmoid", 0.3, DpoObjective(beta=0.3)),
    "dpo ipo": ("ipo", 0.4, DpoObjective(loss="ipo", beta=0.4, lengths="mean")),
    "dpo sigmoid_norm": ("sigmoid_norm", 2.0, DpoObjective(beta=2.0, lengths="mean")),
}
GRPO = {"grpo": ("grpo", 0.04), "dr_grpo": ("dr_grpo", 0.0), "dapo": ("dapo", 0.1)}


def grpo_objective(form: str, beta: float) -> GrpoObjective:
    """Our configuration of a case."""
    settings = {"form": form, "kl_weight": beta, "temperature": TEMPERATURE, "clip_low": CLIP[0], "clip_high": CLIP[1], "answer_tokens": 6}
    return GrpoObjective.model_validate({"group": GROUP, "updates": 2, **settings})


def kept(gradients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The chosen gradients."""
    return {name: gradients[name][:: EMBEDDING_ROWS if name == NAMES[0] else 1].clone() for name in NAMES}


def set_weights(model: nn.Module) -> nn.Module:
    """Weights that depend on no library's random numbers: a sine of the place."""
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
            places = np.arange(parameter.numel(), dtype=np.float64)
            values = 0.15 * np.sin(places * 12.9898 + number * 78.233) + (1.0 if parameter.ndim == 1 and parameter.numel() == 32 else 0.0)
            parameter.copy_(torch.from_numpy(values).to(parameter.dtype).view_as(parameter))
    return model.eval().requires_grad_(True)


def _tree(name: str, draw: random.Random, prompt: int, answers: list[int]) -> Tree:
    def tokens(n: int) -> tuple[int, ...]:
        return tuple(draw.randrange(1, 590) for _ in range(n))

    def logs(n: int) -> tuple[float, ...]:
        return tuple(round(-6.4 + draw.uniform(-0.4, 0.4), 3) for _ in range(n))

    branches = [Branch(tokens(n), (True,) * n, logs(n), logs(n), round(draw.uniform(-1.5, 1.5), 3)) for n in answers]
    return Tree(name, tokens(prompt), tuple(branches))


_DRAW = random.Random(0)
PAIRS = [_tree(f"pair{i}", _DRAW, 4 + i, [3 + i, 6 - i]) for i in range(4)]
ROLLOUTS = [_tree(f"rollout{i}", _DRAW, 5 - i, [2 + i, 5]) for i in range(2)]
