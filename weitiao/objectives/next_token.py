"""Next-token prediction: pre-training (every token) and supervised fine-tuning (the answer's tokens) are one objective with other masks.

loss = −Σ w_j log p(token_j | tokens_<j)   over trained j; w_j is the weight of the row's label (1 without class weights)
"""

import torch
from torch import nn

from weitiao.data.batch import Batch
from weitiao.model.heads import output_matrix
from weitiao.model.logprobs import negative_log_likelihood
from weitiao.model.states import states
from weitiao.records import Loss


def next_token_loss(model: nn.Module, batch: Batch) -> Loss:
    """The sum of −log p over the trained tokens of a micro-batch. Only the hidden states before a trained token reach the output matrix."""
    hidden_NH = states(model, batch.layout)
    return Loss(negative_log_likelihood(hidden_NH, output_matrix(model), batch.targets_N, batch.weights_N), batch.weight)


def label_loss(model: nn.Module, batch: Batch) -> Loss:
    """The sum over rows of −w log softmax(score)[label], the softmax running over the labels that the row may take, w the row's weight."""
    scores_NL = model.score(states(model, batch.layout)).float()  # type: ignore[operator]
    if batch.allowed_NL is not None:
        scores_NL = scores_NL.masked_fill(~batch.allowed_NL, float("-inf"))
    if batch.weights_N is None:
        return Loss(torch.nn.functional.cross_entropy(scores_NL, batch.targets_N, reduction="sum"), batch.weight)
    losses_N = torch.nn.functional.cross_entropy(scores_NL, batch.targets_N, reduction="none")
    return Loss((losses_N * batch.weights_N).sum(), batch.weight)
