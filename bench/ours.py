"""Our side: the package's own functions, as `weitiao train` and `weitiao evaluate` call them."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from worker import Round, clock, serve

from weitiao.config import HeadMethod, LoraMethod, OptimConfig, RunConfig
from weitiao.config_objectives import DpoObjective, GrpoObjective
from weitiao.data.batch import Batch, Plan, make_batch
from weitiao.data.render import ChatEncoder
from weitiao.evaluate.predict import Predictor
from weitiao.methods import apply_method
from weitiao.model.frozen import forget_frozen_states, keep_frozen_states
from weitiao.model.load import choose_precision, find_model, load_causal, load_tokenizer, load_with_score_head
from weitiao.model.logprobs import negative_log_likelihood
from weitiao.model.trees import base_weights, score_trees, with_reference
from weitiao.objectives.next_token import label_loss, next_token_loss
from weitiao.objectives.policy import policy_loss
from weitiao.objectives.preference import preference_loss
from weitiao.optim import Optimizer
from weitiao.records import Branch, Encoded, Example, Tree
from weitiao.tasks.classification import Classification, Prompt
from weitiao.train import train

CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True, slots=True)
class InOrder(Plan):
    """A plan that takes the rows as they come, as every side of a comparison does."""

    def steps(self, first: int = 0) -> Iterator[list[Batch]]:
        """The micro-batches of each step."""
        for number in range(first, self.num_steps):
            start = number % self.steps_per_epoch * self.batch_rows
            yield self.micro_batches(range(start, min(start + self.batch_rows, len(self.rows))))


@dataclasses.dataclass(frozen=True, slots=True)
class Groups(InOrder):
    """The same for groups of answers: a loss is a mean over answers, as where a run writes them."""

    def steps(self, first: int = 0) -> Iterator[list[Any]]:
        """The micro-batches of each step."""
        for batches in InOrder.steps(self, first):
            yield [dataclasses.replace(batch, weight=float(len(batch.advantages_M))) for batch in batches]  # type: ignore[attr-defined,call-arg]


def _load(case: dict[str, Any]) -> tuple[Any, torch.dtype]:
    config = RunConfig.model_validate({"model": {"path": case["model"]}}).model
    return find_model(config), choose_precision(config, CPU)


def sft(case: dict[str, Any], mode: str) -> tuple[dict[str, Any], Round]:
    """Supervised fine-tuning over the case's rows once a round: ``full`` or ``lora``."""
    folder, dtype = _load(case)
    torch.manual_seed(0)
    model = load_causal(folder, CPU, dtype)
    if mode == "lora":
        model = apply_method(model, LoraMethod(rank=case["rank"], alpha=case["alpha"], dropout=0.0))
    rows = [
        Encoded(str(i), tuple(ids), (False,) * (len(ids) - n) + (True,) * n)
        for i, (ids, n) in enumerate(zip(case["rows"], case["answers"], strict=True))
    ]
    tokens = max(map(len, case["rows"])) * case["batch_rows"] // case["passes"] if "passes" in case else 4096
    plan = InOrder(rows, case["batch_rows"], tokens, 1.0, None, 0)
    settings = OptimConfig(schedule="constant", warmup_share=0.0, weight_decay=0.0, clip_norm=1.0)
    first = next(iter(plan.steps()))
    with torch.no_grad():
        parts = [next_token_loss(model, batch) for batch in first]
    loss0 = sum(float(part.total) for part in parts) / sum(part.weight for part in parts)
    optimizer = Optimizer(model.parameters(), settings, case["learning_rate"])

    def one_round() -> dict[str, Any]:
        steps = list(train(model, next_token_loss, plan, optimizer))
        return {"loss": steps[-1].loss, "gradient_norm": steps[0].gradient_norm}

    return {"loss0": loss0}, one_round


def dpo(case: dict[str, Any], _mode: str) -> tuple[dict[str, Any], Round]:
    """DPO with LoRA over the case's pairs once a round; what the base model says of them is computed once, before."""
    folder, dtype = _load(case)
    torch.manual_seed(0)
    model = apply_method(load_causal(folder, CPU, dtype), LoraMethod(rank=case["rank"], alpha=case["alpha"], dropout=0.0))
    trees = [
        Tree(str(i), tuple(prompt), tuple(Branch(tuple(answer), (True,) * len(answer)) for answer in answers))
        for i, (prompt, *answers) in enumerate(case["pairs"])
    ]
    with base_weights(model) as base:
        trees = with_reference(trees, score_trees(base, trees, 4096))
    objective, plan = preference_loss(DpoObjective()), InOrder(trees, case["batch_rows"], 4096, 1.0, None, 0)
    optimizer = Optimizer(model.parameters(), OptimConfig(schedule="constant", warmup_share=0.0, weight_decay=0.0), case["learning_rate"])
    with torch.no_grad():
        parts = [objective(model, batch) for batch in next(iter(plan.steps()))]

    def one_round() -> dict[str, Any]:
        steps = list(train(model, objective, plan, optimizer))
        return {"loss": steps[-1].loss, "gradient_norm": steps[0].gradient_norm}

    return {"loss0": sum(float(part.total) for part in parts) / sum(part.weight for part in parts)}, one_round


def grpo(case: dict[str, Any], _mode: str) -> tuple[dict[str, Any], Round]:
    """The update of GRPO with LoRA, a step for each group of answers: loss, gradient, optimiser; the answers are written already. The
    first loss told is the mean −log p of their tokens: the loss itself does not depend on p while the model is the one that wrote them."""
    folder, dtype = _load(case)
    torch.manual_seed(0)
    model = apply_method(load_causal(folder, CPU, dtype), LoraMethod(rank=case["rank"], alpha=case["alpha"], dropout=0.0))
    trees = [
        Tree(
            str(i),
            tuple(one["prompt"]),
            tuple(
                Branch(tuple(answer), (True,) * len(answer), advantage=advantage)
                for answer, advantage in zip(one["answers"], one["advantages"], strict=True)
            ),
        )
        for i, one in enumerate(case["groups"])
    ]
    objective, plan = policy_loss(GrpoObjective(kl_weight=0.0)), Groups(trees, 1, 4096, 1.0, None, 0)
    optimizer = Optimizer(model.parameters(), OptimConfig(schedule="constant", warmup_share=0.0, weight_decay=0.0), case["learning_rate"])
    with torch.no_grad():
        total, tokens = objective(model, next(iter(plan.steps()))[0]).parts["entropy"]

    def one_round() -> dict[str, Any]:
        steps = list(train(model, objective, plan, optimizer))
        return {"loss": steps[-1].loss, "gradient_norm": steps[0].gradient_norm}

    return {"loss0": total / tokens}, one_round


def head(case: dict[str, Any], _mode: str) -> tuple[dict[str, Any], Round]:
    """A `score` head on the frozen trunk over some epochs, the caching pass counted."""
    folder, dtype = _load(case)
    torch.manual_seed(0)
    model = load_with_score_head(folder, tuple(case["labels"]), CPU, dtype)
    apply_method(model, HeadMethod())
    model.score.weight.data.zero_()  # type: ignore[union-attr,operator]  # the same start on every side
    rows = [
        Encoded(str(i), tuple(ids), (False,) * len(ids), n) for i, (ids, n) in enumerate(zip(case["rows"], case["targets"], strict=True))
    ]
    plan = InOrder(rows, case["batch_rows"], 4096, float(case["epochs"]), None, 0, len(case["labels"]))
    settings = OptimConfig(schedule="constant", warmup_share=0.0, weight_decay=0.0)

    def one_round() -> dict[str, Any]:
        model.score.weight.data.zero_()  # type: ignore[union-attr,operator]
        keep_frozen_states(model, [(row.tokens, row.asked) for row in rows], Path("/tmp"), 4096, lambda _: None)
        steps = list(train(model, label_loss, plan, Optimizer(model.parameters(), settings, case["learning_rate"])))
        forget_frozen_states(model)
        return {"loss": steps[-1].loss}

    with torch.no_grad():
        loss = label_loss(model, make_batch(rows[: case["batch_rows"]], len(case["labels"])))
    return {"loss0": float(loss.total) / loss.weight}, one_round


def labels(case: dict[str, Any], _mode: str) -> tuple[dict[str, Any], Round]:
    """The log-probability of every label after every prompt."""
    folder, dtype = _load(case)
    encoder = ChatEncoder(load_tokenizer(folder), str(folder.path))
    model = load_causal(folder, CPU, dtype)
    task = Classification(RunConfig().task, tuple(case["labels"]))  # type: ignore[arg-type]
    prompts = [Prompt(Example(str(i), (), (), "", "", i, ()), tuple(ids), len(ids)) for i, ids in enumerate(case["rows"])]
    predictor = Predictor(model, encoder, task, 4096)

    def one_round() -> dict[str, Any]:
        scores = predictor.score(prompts)
        return {"loss": float(-scores[0].log_probabilities[0]), "answers": [int(s.probabilities.argmax()) for s in scores]}

    return {}, one_round


def output_head(case: dict[str, Any], mode: str) -> tuple[dict[str, Any], Round]:
    """Output matrix and cross-entropy, forward and backward, with a ``trained`` or a ``frozen`` matrix."""
    hidden, weight, places, targets = output_inputs(case, mode == "trained")

    def one_round() -> dict[str, Any]:
        start = clock()
        loss = negative_log_likelihood(hidden[places], weight, targets)
        loss.backward()
        seconds = clock() - start
        hidden.grad = weight.grad = None
        return {"loss": float(loss.detach()) / len(targets), "seconds": seconds}

    return {}, one_round


def output_inputs(case: dict[str, Any], trained: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random hidden states and a random output matrix, alike on both sides."""
    torch.manual_seed(0)
    hidden = torch.randn(case["tokens"], case["hidden"]).bfloat16().requires_grad_()
    weight = (torch.randn(case["vocabulary"], case["hidden"]) * 0.02).bfloat16().requires_grad_(trained)
    places = torch.linspace(0, case["tokens"] - 1, case["supervised"]).long()
    return hidden, weight, places, torch.randint(case["vocabulary"], (case["supervised"],))


KINDS = {"sft": sft, "dpo": dpo, "grpo": grpo, "head": head, "labels": labels, "output": output_head}


if __name__ == "__main__":
    kind, _, mode = sys.argv[2].partition("-")
    serve(lambda case, _: KINDS[kind](case, mode))
