"""Reinforcement with group-relative advantages. Each loss is a sum over the tokens of answers that the model wrote itself.

    A     an answer's advantage: by how much its reward is above the mean of its group, with `grpo` and `dapo` in units of the group's
          standard deviation
    ρ     p(token) now / p(token) when it was drawn
    loss = −Σ w [ min(ρ A, clip(ρ, 1 − clip_low, 1 + clip_high) A) − kl_weight ρ (p₀/p − log(p₀/p) − 1) ]        p₀: by the base model

    grpo      w = 1 / tokens of the answer, divided by the number of answers      Shao et al. 2024, arXiv:2402.03300
    dr_grpo   w = 1 / answer_tokens, divided by the number of answers             Liu et al. 2025, arXiv:2503.20783
    dapo      w = 1, divided by the number of tokens of the step                  Yu et al. 2025, arXiv:2503.14476
    KL        the estimate that is never below 0                                  Schulman 2020, http://joschu.net/blog/kl-approx.html
              times ρ, so that its gradient is that of the KL divergence          DeepSeek-V3.2, arXiv:2512.02556

Left out: a value model (ppo).
"""

import torch
from torch import nn

from weitiao.config_objectives import GrpoObjective
from weitiao.data.batch import TreeBatch
from weitiao.model.trees import answer_log_probabilities
from weitiao.records import Loss
from weitiao.train import Objective


def policy_loss(config: GrpoObjective) -> Objective:
    """The loss of a micro-batch of rollouts. ``parts``: what the batch knows of them, the KL to the base model, an estimate of the entropy
    (−log p of the drawn tokens), the share of tokens that are pushed no further."""

    def loss(model: nn.Module, batch: TreeBatch) -> Loss:
        logs_N = answer_log_probabilities(model, batch, config.temperature)
        sampled_N = logs_N.detach() if batch.sampled_N is None else batch.sampled_N
        advantages_N = batch.advantages_M[batch.owners_N]
        ratios_N = torch.exp(logs_N - sampled_N)
        clipped_N = ratios_N.clamp(1 - config.clip_low, 1 + config.clip_high) * advantages_N
        losses_N = -torch.minimum(ratios_N * advantages_N, clipped_N)
        tokens = float(len(logs_N))
        parts = {"entropy": (-float(logs_N.detach().sum()), tokens)}
        if batch.sampled_N is not None:
            parts["clipped"] = (float((clipped_N < ratios_N * advantages_N).sum()), tokens)
        if batch.reference_N is not None:
            away_N = batch.reference_N - logs_N
            divergences_N = torch.expm1(away_N) - away_N
            losses_N = losses_N + config.kl_weight * ratios_N * divergences_N
            parts["kl"] = (float(divergences_N.detach().sum()), tokens)
        return Loss((losses_N * _weights(config, batch)).sum(), batch.weight, {**batch.facts, **parts})

    return loss


def _weights(config: GrpoObjective, batch: TreeBatch) -> torch.Tensor:
    """How much each token counts, [N] or one number for all."""
    if config.form == "grpo":
        return (1.0 / batch.counts_M)[batch.owners_N]
    return batch.advantages_M.new_tensor(1.0 / config.answer_tokens if config.form == "dr_grpo" else 1.0)
