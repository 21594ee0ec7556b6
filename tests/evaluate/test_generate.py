"""Written answers: equal to transformers' own on greedy, whatever the batch; drawn from the right distribution; ended by the end token."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from scipy.stats import chisquare
from torch import nn
from transformers import MistralConfig, MistralForCausalLM

from weitiao.config_decoding import DecodingConfig
from weitiao.errors import NonFiniteError
from weitiao.evaluate.generate import Answer, choose_tokens, generate

LENGTHS = (3, 40, 1, 17, 9, 40, 28)
GREEDY = DecodingConfig(max_new_tokens=12)
DRAWN = DecodingConfig(max_new_tokens=12, temperature=1.3, top_p=0.9, top_k=50)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> nn.Module:
    return tiny.load(tiny_model)


@pytest.fixture(scope="module")
def prompts() -> list[tuple[int, ...]]:
    return [row.tokens for row in tiny.text_rows(LENGTHS)]


def transformers_answer(model: nn.Module, prompt: tuple[int, ...], end: int, new: int) -> tuple[int, ...]:
    """What transformers writes after one prompt alone."""
    tokens = torch.tensor([prompt])
    out = model.generate(
        tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, do_sample=False, eos_token_id=end, pad_token_id=0
    )
    return tuple(out[0, len(prompt) :].tolist())


def frequent_end(model: nn.Module, prompts: list[tuple[int, ...]]) -> int:
    """A token that ends some of the greedy answers, not all."""
    answers = [transformers_answer(model, prompt, -1, 12) for prompt in prompts]
    return Counter(token for answer in answers for token in set(answer[2:-2])).most_common(1)[0][0]


@pytest.mark.parametrize("most_tokens", [1, 100, 100_000])
def test_greedy_equals_transformers(model: nn.Module, prompts: list[tuple[int, ...]], most_tokens: int) -> None:
    end = frequent_end(model, prompts)
    expected = [transformers_answer(model, prompt, end, 12) for prompt in prompts]
    done: list[int] = []
    answers = generate(model, prompts, [end], GREEDY, 0, most_tokens, progress=done.append)
    assert [answer.tokens for (answer,) in answers] == expected
    assert [answer.ended for (answer,) in answers] == [tokens[-1] == end for tokens in expected]
    assert len({answer.ended for (answer,) in answers}) == 2
    assert sum(done) == len(prompts)


def test_a_model_with_a_window_equals_transformers() -> None:
    """Sliding-window attention: no common beginning is shared, the window counts columns."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=64,
        sliding_window=8, initializer_range=0.2,
    )  # fmt: skip
    windowed = MistralForCausalLM(config).eval()
    beginning = tuple(range(20))
    prompts = [(*beginning, 30 + i, *range(40, 40 + i)) for i in range(5)]
    answers = generate(windowed, prompts, [99], GREEDY, 0, 100_000)
    assert [answer.tokens for (answer,) in answers] == [transformers_answer(windowed, prompt, 99, 12) for prompt in prompts]


def test_log_probabilities_are_the_model_s(model: nn.Module, prompts: list[tuple[int, ...]]) -> None:
    for decoding in (GREEDY, DRAWN):
        for prompt, (answer,) in zip(prompts, generate(model, prompts, [597], decoding, 0, 1000), strict=True):
            with torch.no_grad():
                logs = model(torch.tensor([prompt + answer.tokens])).logits[0].log_softmax(-1)
            expected = [float(logs[len(prompt) - 1 + i, token]) for i, token in enumerate(answer.tokens)]
            np.testing.assert_allclose(answer.log_probabilities, expected, atol=2e-5)


def test_a_common_beginning_changes_nothing(model: nn.Module, prompts: list[tuple[int, ...]]) -> None:
    """The same beginning of 20 tokens before all, shared, against one prompt at a time, where nothing is."""
    longer = [prompts[1][:20] + prompt for prompt in prompts]
    together = generate(model, longer, [597], GREEDY, 0, 100_000)
    alone = [generate(model, [prompt], [597], GREEDY, 0, 100_000)[0] for prompt in longer]
    assert [a.tokens for (a,) in together] == [a.tokens for (a,) in alone]
    np.testing.assert_allclose(together[1][0].log_probabilities, alone[1][0].log_probabilities, atol=2e-5)


def test_drawn_answers_follow_the_seed_not_the_batch(model: nn.Module, prompts: list[tuple[int, ...]]) -> None:
    first = generate(model, prompts, [597], DRAWN, 7, 100_000, samples=3)
    small = generate(model, prompts, [597], DRAWN, 7, 1, samples=3)
    assert [[a.tokens for a in group] for group in first] == [[a.tokens for a in group] for group in small]
    assert first == generate(model, prompts, [597], DRAWN, 7, 100_000, samples=3)
    other = generate(model, prompts, [597], DRAWN, 8, 100_000, samples=3)
    assert [a.tokens for a in first[0]] != [a.tokens for a in other[0]]
    assert len({a.tokens for a in first[0]}) > 1
    assert all(len(group) == 3 for group in first)


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        (DecodingConfig(temperature=1.0), [0.4, 0.3, 0.2, 0.1]),
        (DecodingConfig(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),  # squares
        (DecodingConfig(temperature=1.0, top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (DecodingConfig(temperature=1.0, top_p=0.75), [4 / 9, 3 / 9, 2 / 9, 0]),  # 0.4 + 0.3 < 0.75: the third still belongs to it
        (DecodingConfig(temperature=1.0, top_k=3, top_p=0.5), [4 / 7, 3 / 7, 0, 0]),  # of 4/9 3/9 2/9 the first two
        (DecodingConfig(temperature=0.0, top_k=3, top_p=0.5), [1, 0, 0, 0]),
    ],
)
def test_tokens_are_drawn_as_the_settings_say(decoding: DecodingConfig, expected: list[float]) -> None:
    draws = torch.tensor(np.random.default_rng(0).random(20_000))
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(len(draws), -1) + 5.0
    chosen, logs = choose_tokens(logits, draws, decoding)
    counts = np.bincount(chosen.numpy(), minlength=4)
    possible = np.array(expected) > 0
    assert not counts[~possible].any()
    if possible.sum() > 1:
        assert chisquare(counts[possible], np.array(expected)[possible] * len(draws)).pvalue > 0.001
    np.testing.assert_allclose(logs.exp(), np.array([0.4, 0.3, 0.2, 0.1])[chosen], rtol=1e-5)


def test_the_largest_draw_takes_a_possible_token() -> None:
    drawn = torch.tensor([np.nextafter(1.0, 0.0), 0.0], dtype=torch.float64)
    logits = torch.tensor([[0.0, 0.0, -1e9], [-1e9, 0.0, 0.0]])
    assert choose_tokens(logits, drawn, DecodingConfig(temperature=1.0))[0].tolist() == [1, 1]


def test_an_answer_without_its_end_token() -> None:
    assert Answer((5, 6, 2), (0.0,) * 3, True).content == (5, 6)
    assert Answer((5, 6), (0.0,) * 2, False).content == (5, 6)


def test_a_broken_model_is_refused(tiny_model: Path) -> None:
    broken = tiny.load(tiny_model)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="NaN"):
        generate(broken, [(1, 2)], [597], GREEDY, 0, 1000)


def test_an_answer_stops_where_the_model_s_positions_end(model: nn.Module) -> None:
    """The tiny model has 256 positions."""
    prompts = [tuple(range(2, 252)), (1, 2, 3)]
    long, short = generate(model, prompts, [-1], GREEDY, 0, 100_000)
    assert (len(long[0].tokens), long[0].ended) == (6, False)
    assert (len(short[0].tokens), short[0].ended) == (12, False)
