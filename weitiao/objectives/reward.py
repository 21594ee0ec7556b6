"""A reward model: one number for an answer, read off its last token, higher for the better answer of a pair.

loss = −Σ log σ(s(better) − s(worse))   over pairs        Bradley & Terry 1952; Ouyang et al. 2022, arXiv:2203.02155
"""

from torch import nn
from torch.nn.functional import logsigmoid

from weitiao.data.batch import TreeBatch
from weitiao.model.trees import answer_scores
from weitiao.records import Loss


def reward_loss(model: nn.Module, batch: TreeBatch) -> Loss:
    """The loss of a micro-batch of pairs. ``parts``: how often and by how much the better answer is ahead."""
    better_P, worse_P = answer_scores(model, batch).view(-1, 2).unbind(1)
    margins_P = better_P - worse_P
    pairs = float(len(margins_P))
    parts = {"pair_accuracy": (float((margins_P > 0).sum()), pairs), "margin": (float(margins_P.detach().sum()), pairs)}
    return Loss(-logsigmoid(margins_P).sum(), batch.weight, parts)
