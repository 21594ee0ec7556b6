"""Make tests/parity/trl_oracle.safetensors: losses and gradients of TRL 1.16's own trainers on the batches of tests/parity/trl_cases.py.

    python -m pip install --target trl_site --no-deps trl==1.16.0 datasets==5.2.0 dill multiprocess pandas python-dateutil tzdata xxhash
    PYTHONPATH=.:tests:tests/parity:trl_site python tests/parity/trl_oracle.py

TRL is no dependency of the tests: what it says of fixed weights and fixed tokens does not change, and importing it takes longer than they.
"""

import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import save_file
from tiny import write_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer
from trl_cases import CLIP, DPO, GROUP, GRPO, PAIRS, ROLLOUTS, TEMPERATURE, kept, set_weights

COMMON = {"bf16": False, "report_to": [], "per_device_train_batch_size": 4, "gradient_checkpointing": False, "use_cpu": True}


def padded(rows: list[tuple[int, ...]], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask."""
    width = max(map(len, rows))
    ids, mask = torch.zeros((len(rows), width), dtype=torch.long), torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        part = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, part], mask[i, part] = torch.tensor(row), 1
    return ids, mask


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients of the chosen weights."""
    model.zero_grad()
    loss.backward()
    return kept({name: p.grad for name, p in model.named_parameters()})


def dpo(folder: Path, loss_type: str, beta: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """TRL's DPO loss of the pairs."""
    model = set_weights(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 8
    config = DPOConfig(output_dir=str(folder / "dpo"), loss_type=[loss_type], beta=beta, precompute_ref_log_probs=True, **COMMON)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer = DPOTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    answers = [pair.branches[i] for i in (0, 1) for pair in PAIRS]
    prompts = [pair.prefix for _ in (0, 1) for pair in PAIRS]
    ids, mask = padded([p + a.tokens for p, a in zip(prompts, answers, strict=True)])
    completion, _ = padded([(0,) * len(p) + (1,) * len(a.tokens) for p, a in zip(prompts, answers, strict=True)])
    references = torch.tensor([sum(a.reference) for a in answers])
    chosen, rejected = references.chunk(2)
    inputs = {"input_ids": ids, "attention_mask": mask, "completion_mask": completion}
    inputs |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    model.eval()
    loss = trainer._compute_loss(model, inputs, False)
    return loss.detach(), gradients(model, loss)


def grpo(folder: Path, form: str, beta: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """TRL's GRPO loss of the rollouts."""
    model = set_weights(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    config = GRPOConfig(
        output_dir=str(folder / "grpo"), loss_type=form, beta=beta, epsilon=CLIP[0], epsilon_high=CLIP[1], num_generations=GROUP,
        max_completion_length=6, temperature=TEMPERATURE, num_iterations=2, **COMMON,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=config,
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 8), processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    pairs = [(tree.prefix, branch) for tree in ROLLOUTS for branch in tree.branches]
    prompts, prompt_mask = padded([p for p, _ in pairs], left=True)
    answers, answer_mask = padded([b.tokens for _, b in pairs])

    def filled(values: list[tuple[float, ...]]) -> torch.Tensor:
        return torch.tensor([list(v) + [0.0] * (answers.shape[1] - len(v)) for v in values])

    inputs = {
        "prompt_ids": prompts, "prompt_mask": prompt_mask, "completion_ids": answers, "completion_mask": answer_mask,
        "advantages": torch.tensor([b.advantage for _, b in pairs]), "old_per_token_logps": filled([b.sampled for _, b in pairs]),
        "ref_per_token_logps": filled([b.reference for _, b in pairs]), "num_items_in_batch": answer_mask.sum(),
    }  # fmt: skip
    model.eval()
    trainer.model.eval()
    loss = trainer._compute_loss(model, inputs)
    return loss.detach(), gradients(model, loss)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_model(Path(temporary), tied=True)
        found: dict[str, torch.Tensor] = {}
        for name, (loss_type, beta, _) in DPO.items():
            loss, grads = dpo(folder, loss_type, beta)
            found |= {f"{name}/loss": loss, **{f"{name}/{key}": value for key, value in grads.items()}}
        for name, (form, beta) in GRPO.items():
            loss, grads = grpo(folder, form, beta)
            found |= {f"{name}/loss": loss, **{f"{name}/{key}": value for key, value in grads.items()}}
    save_file(found, Path(__file__).with_suffix(".safetensors"))
    for name, value in found.items():
        print(name, tuple(value.shape), float(value.norm()))


if __name__ == "__main__":
    main()
