"""Which weights move, and that all others stay bit for bit."""

import pytest
import torch
from tiny import STEADY, label_rows, load, plan, sft_rows, weights
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from weitiao.config_methods import FullMethod, HeadMethod, LoraMethod
from weitiao.config_objectives import SftObjective
from weitiao.errors import ConfigError
from weitiao.methods import apply_method
from weitiao.model.checkpoint import count_parameters, publish_model, restore, trained_weights
from weitiao.objectives import choose_objective
from weitiao.optim import Optimizer
from weitiao.train import train

LENGTHS = (5, 31, 2, 17, 40, 9, 23, 12)
# Hidden size 32, 2 heads of 16, 1 key-value head, intermediate size 64, 600 tokens, 2 blocks:
BLOCK = (32 * 32 + 32) + 2 * (32 * 16 + 16) + 32 * 32 + 3 * 32 * 64 + 2 * 32  # q, k and v with biases, o, MLP, two norms
EMBEDDING = 600 * 32
TIED = EMBEDDING + 2 * BLOCK + 32  # with the final norm
LORA_RANK_8_PER_BLOCK = 8 * ((32 + 32) + 2 * (32 + 16) + (32 + 32) + 3 * (32 + 64))  # r · (in + out) of q, k, v, o, gate, up, down


def score_model(folder):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=3).eval()


def train_three_steps(model, learning_rate: float = 1e-2) -> None:
    objective = choose_objective(SftObjective(), model)
    rows = label_rows(LENGTHS, 3) if hasattr(model, "score") else sft_rows(LENGTHS)
    optimizer = Optimizer(model.parameters(), STEADY, learning_rate)
    assert len(list(train(model, objective, plan(rows, 4, 3, num_labels=3), optimizer))) == 3


def count(model) -> tuple[int, int]:
    return count_parameters(p for p in model.parameters() if p.requires_grad), count_parameters(model.parameters())


def check_moves(model, should_move) -> None:
    """After three steps exactly the weights chosen have moved; the others are equal bit for bit."""
    before = weights(model)
    train_three_steps(model)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if should_move(name)} != set()


def test_full(tiny_model, tiny_untied):
    model = apply_method(load(tiny_model), FullMethod())
    assert count(model) == (TIED, TIED)
    assert count(apply_method(load(tiny_untied), FullMethod())) == (TIED + EMBEDDING, TIED + EMBEDDING)
    check_moves(model, lambda _: True)


@pytest.mark.parametrize(
    ("last_blocks", "trained", "moves"),
    [
        (0, 3 * 32, ("score.",)),
        (1, 3 * 32 + BLOCK + 32, ("score.", "model.layers.1.", "model.norm.")),
        (2, 3 * 32 + 2 * BLOCK + 32, ("score.", "model.layers.", "model.norm.")),
    ],
)
def test_score_head(last_blocks, trained, moves, tiny_model):
    model = apply_method(score_model(tiny_model), HeadMethod(last_blocks=last_blocks))
    assert count(model) == (trained, TIED + 3 * 32)
    check_moves(model, lambda name: name.startswith(moves))


@pytest.mark.parametrize(
    ("last_blocks", "trained", "moves"), [(0, EMBEDDING, ()), (1, EMBEDDING + BLOCK + 32, ("model.layers.1.", "model.norm."))]
)
def test_output_matrix_of_its_own(last_blocks, trained, moves, tiny_untied):
    model = apply_method(load(tiny_untied), HeadMethod(last_blocks=last_blocks))
    assert count(model) == (trained, TIED + EMBEDDING)
    check_moves(model, lambda name: name.startswith(("lm_head.", *moves)))


def test_head_refuses_a_tied_model(tiny_model):
    model = load(tiny_model)
    with pytest.raises(ConfigError, match=r"untie=true"):
        apply_method(model, HeadMethod())


def test_more_blocks_than_there_are(tiny_untied):
    with pytest.raises(ConfigError, match=r"last_blocks.*2"):
        apply_method(load(tiny_untied), HeadMethod(last_blocks=3))


def test_untied_head_reloads_in_plain_transformers(tiny_model, tmp_path):
    model = apply_method(load(tiny_model), HeadMethod(untie=True))
    assert count(model) == (EMBEDDING, TIED + EMBEDDING)
    embedding = model.model.embed_tokens.weight.clone()
    check_moves(model, lambda name: name == "lm_head.weight")
    assert torch.equal(model.model.embed_tokens.weight, embedding)

    from transformers import AutoTokenizer

    publish_model(tmp_path / "model", model, AutoTokenizer.from_pretrained(tiny_model), {})
    again, facts = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32, output_loading_info=True)
    assert again.config.tie_word_embeddings is False
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
    assert torch.equal(again.get_input_embeddings().weight, embedding)
    assert torch.equal(again.get_output_embeddings().weight, model.lm_head.weight)
    assert not torch.equal(again.get_output_embeddings().weight, embedding)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)


@pytest.mark.parametrize("options", [{}, {"dora": True}, {"rslora": True}, {"targets": ("q_proj", "v_proj")}], ids=str)
def test_lora(options, tiny_model):
    model = apply_method(load(tiny_model), LoraMethod(**options))
    trained = 2 * LORA_RANK_8_PER_BLOCK
    if "targets" in options:
        trained = 2 * 8 * ((32 + 32) + (32 + 16))
    if options.get("dora"):  # a magnitude for each output of each layer
        trained += 2 * (32 + 2 * 16 + 32 + 2 * 64 + 32)
    assert count(model) == (trained, TIED + trained)
    check_moves(model, lambda name: "lora_" in name)


def _shift(folder, **options) -> torch.Tensor:
    """How far adapters of given random weights move the logits."""
    base, ids = load(folder), torch.arange(20)[None]
    with torch.no_grad():
        before = base(ids).logits
        model = apply_method(base, LoraMethod(**options)).eval()
        assert torch.allclose(model(ids).logits, before, atol=1e-5)  # an adapter starts without effect
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                parameter.normal_(std=0.02)
        return model(ids).logits - before


def test_the_adapter_options_have_their_effect(tiny_model):
    plain = _shift(tiny_model)
    assert float((_shift(tiny_model, alpha=32.0) - plain).norm()) > 0.5 * float(plain.norm())  # twice as far
    # alpha/sqrt(rank) with alpha = 16/sqrt(8) is alpha/rank with alpha = 16.
    assert torch.allclose(_shift(tiny_model, rslora=True, alpha=16 / 8**0.5), plain, atol=1e-5)
    assert float((_shift(tiny_model, rslora=True) - plain).norm()) > 0.5 * float(plain.norm())
    assert float((_shift(tiny_model, dora=True) - plain).norm()) > 1e-3 * float(plain.norm())


def test_fractional_alpha_is_kept(tiny_model):
    model = apply_method(load(tiny_model), LoraMethod(rank=4, alpha=2.5))
    scaling = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}
    assert scaling == {2.5 / 4}


@pytest.mark.parametrize("target", ["q_prj", "embed_tokens", "lm_head"])
def test_unknown_targets(target, tiny_model):
    """The output matrix is no target either: the loss reads the matrix itself, an adapter beside it would never be trained."""
    with pytest.raises(ConfigError, match=rf"{target}.*\n.*q_proj"):
        apply_method(load(tiny_model), LoraMethod(targets=("q_proj", target)))


def test_best_weights_can_be_put_back(tiny_model):
    model = apply_method(load(tiny_model), LoraMethod())
    train_three_steps(model)
    kept = trained_weights(model)
    train_three_steps(model)
    assert any(not torch.equal(p, kept[name]) for name, p in model.named_parameters() if name in kept)
    restore(model, kept)
    assert all(torch.equal(p, kept[name]) for name, p in model.named_parameters() if p.requires_grad)
