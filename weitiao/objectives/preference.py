"""Learning from pairs of a better and a worse answer. Each loss is a sum over pairs, divided by their number.

    c, r      log-probabilities of the better and the worse answer: sums over their tokens, or means (`lengths: mean`)
    c₀, r₀    the same by the base model, computed once before the training
    σ         the logistic function

    dpo, sigmoid   −(1 − ε) log σ(x) − ε log σ(−x),   x = β ((c − c₀) − (r − r₀))        Rafailov et al. 2023, arXiv:2305.18290
                   ε: the share of pairs taken to be the wrong way round                  Mitchell 2023 (conservative DPO)
    dpo, ipo       ((c − c₀) − (r − r₀) − 1 / 2β)²                                        Azar et al. 2023, arXiv:2310.12036
    + sft          −w · mean log p of the better answer's tokens                          Pang et al. 2024, arXiv:2404.19733
    orpo           −mean c − λ log σ(log odds(mean c) − log odds(mean r))                 Hong et al. 2024, arXiv:2403.07691
    simpo          −log σ(β (mean c − mean r) − γ)                                        Meng et al. 2024, arXiv:2405.14734

Left out: KTO, whose loss of one row depends on an estimate over the other rows of its micro-batch, so that splitting a step differently
would change it.
"""

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from weitiao.config_objectives import DpoObjective, OrpoObjective, SimpoObjective
from weitiao.data.batch import TreeBatch
from weitiao.model.trees import answer_log_probabilities
from weitiao.records import Loss
from weitiao.train import Objective


def preference_loss(config: DpoObjective | OrpoObjective | SimpoObjective) -> Objective:
    """The loss of a micro-batch of pairs. ``parts``: how often and by how much the better answer is ahead (against the base where the loss
    knows it), and the mean log-probability of its tokens."""

    def loss(model: nn.Module, batch: TreeBatch) -> Loss:
        logs_N, counts_M = answer_log_probabilities(model, batch), batch.counts_M
        sums_P2, means_P2 = (x.view(-1, 2) for x in (batch.sums(logs_N), batch.sums(logs_N) / counts_M))
        if isinstance(config, DpoObjective):
            assert batch.reference_N is not None  # computed before the training
            ratios_M = batch.sums(logs_N - batch.reference_N)
            ahead_P = _ahead(ratios_M / counts_M if config.lengths == "mean" else ratios_M)
            losses_P = _dpo(config, ahead_P) - config.sft_weight * means_P2[:, 0]
            margins_P = config.beta * ahead_P
        elif isinstance(config, OrpoObjective):
            margins_P = _ahead(means_P2 - torch.log(-torch.expm1(means_P2)))
            losses_P = -means_P2[:, 0] - config.odds_weight * logsigmoid(margins_P)
        else:
            margins_P = config.scale * _ahead(means_P2)
            losses_P = -logsigmoid(margins_P - config.margin)
        pairs = float(len(losses_P))
        parts = {
            "pair_accuracy": (float((margins_P > 0).sum()), pairs),
            "margin": (float(margins_P.detach().sum()), pairs),
            "chosen_logp": (float(sums_P2[:, 0].detach().sum()), float(counts_M[::2].sum())),
        }
        return Loss(losses_P.sum(), batch.weight, parts)

    return loss


def _ahead(scores: torch.Tensor) -> torch.Tensor:
    """By how much the better answer of each pair is ahead [P]; answers lie pair by pair, the better one first."""
    better, worse = scores.view(-1, 2).unbind(1)
    return better - worse


def _dpo(config: DpoObjective, ahead_P: torch.Tensor) -> torch.Tensor:
    if config.loss == "ipo":
        return (ahead_P - 1 / (2 * config.beta)) ** 2
    x, e = config.beta * ahead_P, config.label_smoothing
    return -(1 - e) * logsigmoid(x) - e * logsigmoid(-x)
