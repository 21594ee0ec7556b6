"""What the training pushes on."""

from torch import nn

from weitiao.config_objectives import DpoObjective, GrpoObjective, ObjectiveConfig, OrpoObjective, RewardObjective, SimpoObjective
from weitiao.model.heads import has_score_head
from weitiao.objectives.next_token import label_loss, next_token_loss
from weitiao.objectives.policy import policy_loss
from weitiao.objectives.preference import preference_loss
from weitiao.objectives.reward import reward_loss
from weitiao.train import Objective


def choose_objective(config: ObjectiveConfig, model: nn.Module) -> Objective:
    """The loss that belongs to the objective, and for answers that are learned as they are to the model's head: labels for a `score` head,
    tokens for a language model (pretrain and sft differ in which tokens their rows mark as trained)."""
    match config:
        case DpoObjective() | OrpoObjective() | SimpoObjective():
            return preference_loss(config)
        case GrpoObjective():
            return policy_loss(config)
        case RewardObjective():
            return reward_loss
        case _:
            return label_loss if has_score_head(model) else next_token_loss
