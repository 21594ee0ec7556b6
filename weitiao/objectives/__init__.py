"""What the training pushes on."""

from torch import nn

from weitiao.model.heads import has_score_head
from weitiao.objectives.next_token import label_loss, next_token_loss
from weitiao.train import Objective


def choose_objective(model: nn.Module) -> Objective:
    """The loss that belongs to the model's head: labels for a `score` head, tokens for a language model (pretrain and sft differ in which
    tokens their rows mark as trained)."""
    return label_loss if has_score_head(model) else next_token_loss
