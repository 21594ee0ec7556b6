"""The Predictor, which shares prompts and beginnings of labels, against one plain forward pass per prompt and label."""

import numpy as np
import pytest
import torch
from tiny import load, with_adapters, within
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from weitiao.config_data import DataConfig
from weitiao.config_tasks import ClassificationTask
from weitiao.data.render import ChatEncoder
from weitiao.evaluate.predict import Predictor, answer_tree
from weitiao.records import Example
from weitiao.tasks.classification import Classification

SHARED = ("电子", "电子表格", "电子表格函数", "电话", "a", "ab", "abc def", "文字处理")
"""Labels that begin alike, and labels that are whole beginnings of others."""
TEXTS = ("短", "这是一段比较长的文本，" * 7, "x", "LibreOffice Calc 里的函数", "第三行\n有换行", "", "😀 emoji")
CANDIDATES = ((), ("电子", "电话"), ("a",), (), ("abc def", "文字处理", "ab"), SHARED[::-1], ())


def _encoder(folder) -> ChatEncoder:
    return ChatEncoder(AutoTokenizer.from_pretrained(folder), str(folder))


def _prompts(encoder: ChatEncoder, task: Classification, own_candidates: bool):
    examples = [
        Example(f"test:{i}", task.prompt(text, candidates), ("?",), text, "f", i, candidates)
        for i, (text, candidates) in enumerate(zip(TEXTS, CANDIDATES if own_candidates else ((),) * len(TEXTS), strict=True))
    ]
    return task.encode_prompts(encoder, examples, 256, DataConfig())


def _brute_force(model, prompt, answer) -> float:
    """log p of an answer's tokens after a prompt by one forward pass of its own, without cache, mask or padding."""
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        logs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].double(), -1)
    return sum(logs[len(prompt) + i - 1, token].item() for i, token in enumerate(answer))


def _single_tokens(encoder: ChatEncoder, count: int) -> tuple[str, ...]:
    return tuple([c for c in "abcdefghijklmn" if len(encoder.text(c)) == 1][:count])


@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
@pytest.mark.parametrize(
    ("labels", "own_candidates"), [(SHARED, False), (SHARED, True), ("single", False)], ids=["shared", "candidates", "single"]
)
@pytest.mark.parametrize("method", ["tied", "untied", "lora"])
def test_scores_equal_a_forward_per_label(method, labels, own_candidates, batch_tokens, tiny_model, tiny_untied):
    folder = tiny_untied if method == "untied" else tiny_model
    model, encoder = load(folder), _encoder(folder)
    if method == "lora":
        model = with_adapters(model)
    task = Classification(ClassificationTask(), _single_tokens(encoder, 5) if labels == "single" else labels)
    prompts = _prompts(encoder, task, own_candidates)
    done = []
    scores = Predictor(model, encoder, task, batch_tokens).score(prompts, done.append)
    assert sum(done) == len(prompts)
    assert len(done) == {1: 7, 100_000: 1}.get(batch_tokens, len(done))
    for prompt, score in zip(prompts, scores, strict=True):
        assert (score.id, score.candidates) == (prompt.example.id, prompt.example.candidates or task.labels)
        answers = [(*encoder.text(label), encoder.end_of_answer) for label in score.candidates]
        assert score.answer_tokens == tuple(map(len, answers))
        expected = np.array([_brute_force(model, prompt.ids, answer) for answer in answers])
        within("label scores (nats)", float(np.abs(score.log_probabilities - expected).max()), 1e-5)  # measured 3.7e-6
        share = np.exp(expected - expected.max())
        within("label probabilities", float(np.abs(score.probabilities - share / share.sum()).max()), 1e-5)  # measured 2.9e-7
        assert score.probabilities.sum() == pytest.approx(1, abs=1e-12)
        assert score.prediction == score.candidates[int(expected.argmax())]


def test_the_tree_by_hand():
    tree = answer_tree([(1, 2, 9), (1, 2, 3, 9), (4, 9), (5,)])
    # Inner nodes, a node after its parent: 1 → 2 → 3, and 4. Last tokens (9, 9, 9, 5) need no state of their own.
    assert (tree.tokens, tree.parents, tree.depths) == ((1, 2, 3, 4), (-1, 0, 1, -1), (0, 1, 2, 0))
    edges = [[tree.edges[e] for e in answer] for answer in tree.answers]
    assert edges == [[(0, 1), (1, 2), (2, 9)], [(0, 1), (1, 2), (2, 3), (3, 9)], [(0, 4), (4, 9)], [(0, 5)]]
    assert len(tree.edges) == len(set(tree.edges)) == 8  # the shared two are made once


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
@pytest.mark.parametrize("own_candidates", [False, True])
def test_score_head_equals_transformers_own(own_candidates, batch_tokens, tiny_model):
    torch.manual_seed(0)
    encoder = _encoder(tiny_model)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, dtype=torch.float32, num_labels=len(SHARED)).eval()
    model.config.pad_token_id = encoder.tokenizer.pad_token_id
    task = Classification(ClassificationTask(), SHARED)
    prompts = _prompts(encoder, task, own_candidates)
    width = max(len(p.ids) for p in prompts)
    ids = torch.tensor([[*p.ids] + [encoder.tokenizer.pad_token_id] * (width - len(p.ids)) for p in prompts])
    mask = torch.tensor([[1] * len(p.ids) + [0] * (width - len(p.ids)) for p in prompts])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits.double()
    for row, prompt, score in zip(logits, prompts, Predictor(model, encoder, task, batch_tokens).score(prompts), strict=True):
        expected = torch.log_softmax(row[[SHARED.index(label) for label in task.choices(prompt.example)]], -1).numpy()
        within("score head (nats)", float(np.abs(score.log_probabilities - expected).max()), 2e-6)  # measured 8.2e-7
        assert score.probabilities.sum() == pytest.approx(1, abs=1e-12)
        assert set(score.answer_tokens) == {1}
