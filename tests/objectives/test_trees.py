"""Several answers behind one prompt: as if each stood alone, in every number and every gradient."""

import pytest
import torch
from tiny import load, relative, within

from weitiao.data.batch import make_batch, make_trees, split_tree
from weitiao.model import logprobs
from weitiao.model.logprobs import differentiable_log_probabilities
from weitiao.model.trees import answer_log_probabilities, score_trees
from weitiao.objectives.next_token import next_token_loss
from weitiao.records import Branch, Encoded, Tree

TREES = [
    Tree("a", (5, 6, 7, 8), (Branch((9, 10, 11), (False, True, True)), Branch((9, 12), (True, True)), Branch((13,) * 7, (True,) * 7))),
    Tree("b", (20,), (Branch((21, 22), (True, True)), Branch((23, 24, 25, 26), (True, False, False, True)))),
]


def alone(tree: Tree) -> list[Encoded]:
    return [Encoded(tree.id, tree.prefix + b.tokens, (False,) * len(tree.prefix) + b.trained) for b in tree.branches]


def gradients(model, loss) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("model_fixture", ["tiny_model", "tiny_untied"])
def test_loss_and_every_gradient_are_those_of_the_answers_alone(model_fixture, request):
    model = load(request.getfixturevalue(model_fixture)).requires_grad_(True)
    shared = -answer_log_probabilities(model, make_trees(TREES)).sum()
    found = gradients(model, shared)
    separate = sum(next_token_loss(model, make_batch([row])).total for tree in TREES for row in alone(tree))  # a batch each
    expected = gradients(model, separate)
    within("shared prompt: loss", relative(shared, separate), 1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        within("shared prompt: gradient", relative(found[name], gradient), 1e-5)  # key biases nearly cancel; the others 1e-6


def test_scores_are_per_answer_and_in_order(tiny_model):
    model = load(tiny_model)
    scores = score_trees(model, TREES, most_tokens=12)
    assert [[len(s) for s in tree] for tree in scores] == [[2, 2, 7], [2, 2]]
    for tree, of_tree in zip(TREES, scores, strict=True):
        for row, values in zip(alone(tree), of_tree, strict=True):
            expected = -next_token_loss(model, make_batch([row])).total.item()
            assert sum(values) == pytest.approx(expected, rel=1e-5)


def test_a_temperature_divides_the_logits(tiny_model):
    model = load(tiny_model)
    batch = make_trees(TREES[1:])
    logits = model(input_ids=torch.tensor([[20, 21, 22]])).logits[0, :2] / 0.5
    expected = logits.log_softmax(-1)[[0, 1], [21, 22]]
    found = answer_log_probabilities(model, batch, temperature=0.5)[:2]
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_prompt_is_computed_once():
    tree = Tree("x", tuple(range(100)), (Branch((200, 201), (True, True)),) * 2 + (Branch((202,) * 5, (True,) * 5),) * 6)
    batch = make_trees([tree])
    assert batch.num_tokens == len(tree.tokens) == 100 + 2 * 2 + 6 * 5
    assert len(batch.rows.layout.origin_T) <= 99 + 8 * 6  # the prompt's last token is asked for in every row


def test_a_tree_that_is_too_large_is_split_between_answers():
    tree = TREES[0]
    parts = split_tree(tree, 9)
    assert [len(part.tokens) for part in parts] == [9, 11]  # 4 + 3 + 2, then 4 + 7, which no limit can make smaller
    assert tuple(b for part in parts for b in part.branches) == tree.branches
    assert {part.prefix for part in parts} == {tree.prefix}
    assert split_tree(tree, 100) == [tree]


@pytest.mark.parametrize("cached", [1 << 19, 1], ids=["whole", "pieces"])
def test_log_probabilities_and_their_gradient_in_double_precision(cached, monkeypatch):
    monkeypatch.setattr(logprobs, "CHUNK_ROWS", 1)
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 600 * 7)
    monkeypatch.setattr(logprobs, "CACHED_ELEMENTS", cached)
    monkeypatch.setattr(logprobs, "CACHED_ROWS", 100)
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 32, requires_grad=True), torch.randn(600, 32, requires_grad=True)
    targets, upstream = torch.randint(600, (50,)), torch.randn(50)
    exact_hidden, exact_weight = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    exact = torch.log_softmax(exact_hidden @ exact_weight.T, -1)[torch.arange(50), targets]
    (exact * upstream).sum().backward()
    ours = differentiable_log_probabilities(hidden, weight, targets)
    (ours * upstream).sum().backward()
    within("differentiable log p", (ours - exact).abs().max().item(), 1e-5)  # nats of up to 30
    within("differentiable log p: hidden gradient", relative(hidden.grad, exact_hidden.grad), 1e-6)
    within("differentiable log p: weight gradient", relative(weight.grad, exact_weight.grad), 1e-6)
