"""The other sides. Each runs in an interpreter of its own and gets the very token ids that our side gets.

trainer   transformers' Trainer as in the SwanLab tutorial: bfloat16 weights, peft, gradient checkpointing, padding to the longest row
trl       TRL's SFTTrainer: ``defaults``, or ``best``: no checkpointing (what else it offers on a CPU makes no difference)
llamafactory  LLaMA-Factory's own arguments, model, adapter, collator and trainer, as its `sft` stage puts them together; ``defaults``, or
          ``best``: no checkpointing. On a CPU it starts with ``bf16`` (autocast over the bfloat16 weights), without torchvision and with
          an empty module in place of torchaudio
dpo       TRL's DPOTrainer, ``defaults`` or ``best`` likewise
grpo      the loss of TRL's GRPOTrainer, ``defaults`` or ``best`` likewise, its gradient and a step of AdamW
frozen    transformers' Trainer on a frozen trunk with a `score` head
lm_eval   lm-eval's Hugging Face backend, one request per prompt and label
generate  transformers' generate, greedy, with padding on the left
torch     all logits, float32 cross-entropy with ignored positions
"""

import sys
from typing import Any

import torch
from worker import Round, clock, serve


def _columns(case: dict[str, Any]) -> Any:
    from datasets import Dataset

    rows = [
        {"input_ids": ids, "labels": [-100] * (len(ids) - n) + ids[len(ids) - n :]}
        for ids, n in zip(case["rows"], case["answers"], strict=True)
    ]
    return Dataset.from_list(rows)


def _arguments(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "output_dir": "/tmp/bench-out", "per_device_train_batch_size": case["batch_rows"] // case.get("passes", 1),
        "gradient_accumulation_steps": case.get("passes", 1), "num_train_epochs": case.get("epochs", 1),
        "learning_rate": case["learning_rate"], "lr_scheduler_type": "constant", "weight_decay": 0.0, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True, "train_sampling_strategy": "sequential",
    }  # fmt: skip


def _lora(case: dict[str, Any]) -> Any:
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", r=case["rank"], lora_alpha=case["alpha"], lora_dropout=0.0, target_modules="all-linear")


def _rounds(make: Any) -> tuple[dict[str, Any], Round]:
    """A round is one call of ``train`` of a fresh trainer over the same model; the loss of the first step comes from a first one."""
    first = make()
    first.args.max_steps = 1  # of these arguments only: every trainer gets its own
    first.train()
    loss0 = first.state.log_history[0]["loss"]

    def one_round() -> dict[str, Any]:
        trainer = make()
        start = clock()
        trainer.train()
        seconds = clock() - start
        logs = [line for line in trainer.state.log_history if "loss" in line]
        return {"seconds": seconds, "loss": logs[-1]["loss"], "gradient_norm": float(logs[0].get("grad_norm", 0))}

    return {"loss0": loss0}, one_round


def trainer(case: dict[str, Any], mode: str) -> tuple[dict[str, Any], Round]:
    """The tutorial's way."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(case["model"], dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(case["model"])
    model.enable_input_require_grads()
    if mode == "lora":
        model = get_peft_model(model, _lora(case))
    data, collator = _columns(case), DataCollatorForSeq2Seq(tokenizer=tokenizer, padding=True)

    def make() -> Any:
        arguments = TrainingArguments(**_arguments(case), gradient_checkpointing=True)
        return Trainer(model=model, args=arguments, train_dataset=data, data_collator=collator)

    return _rounds(make)


def trl(case: dict[str, Any], mode: str) -> tuple[dict[str, Any], Round]:
    """TRL, given the model by its path and the token ids."""
    from trl import SFTConfig, SFTTrainer

    method, _, flags = mode.partition("-")
    best = {"gradient_checkpointing": False} if flags == "best" else {}
    data, state = _columns(case), {}

    def make() -> Any:
        settings = SFTConfig(**_arguments(case), max_length=4096, dataset_num_proc=None, **best)
        model = state.get("model", case["model"])
        lora = _lora(case) if method == "lora" and "model" not in state else None
        made = SFTTrainer(model=model, args=settings, train_dataset=data, peft_config=lora)
        state["model"] = made.model
        return made

    return _rounds(make)


def llamafactory(case: dict[str, Any], mode: str) -> tuple[dict[str, Any], Round]:
    """LLaMA-Factory's `sft` stage (its train/sft/workflow.py) after its own reading of data, in whose place the token ids stand."""
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer

    settings = {key: value for key, value in _arguments(case).items() if key != "train_sampling_strategy"} | {
        "stage": "sft", "do_train": True, "model_name_or_path": case["model"], "dataset": "given", "template": "qwen", "cutoff_len": 4096,
        "finetuning_type": "lora", "lora_rank": case["rank"], "lora_alpha": case["alpha"], "lora_target": "all", "disable_shuffling": True,
        "bf16": True, "disable_gradient_checkpointing": mode == "best",
    }  # fmt: skip
    data = _columns(case).map(lambda row: {"attention_mask": [1] * len(row["input_ids"]), "images": None, "videos": None, "audios": None})
    state: dict[str, Any] = {}

    def make() -> Any:
        of_model, of_data, of_training, of_method, _ = get_train_args(dict(settings))
        if not state:
            state["tokenizer"] = load_tokenizer(of_model)
            state["template"] = get_template_and_fix_tokenizer(state["tokenizer"]["tokenizer"], of_data)
            state["model"] = load_model(state["tokenizer"]["tokenizer"], of_model, of_method, True)
        model = state["model"]
        collator = SFTDataCollatorWith4DAttentionMask(
            template=state["template"], model=model, pad_to_multiple_of=8, label_pad_token_id=-100, compute_dtype=of_model.compute_dtype,
            block_diag_attn=of_model.block_diag_attn, attn_implementation=model.config._attn_implementation, **state["tokenizer"],
        )  # fmt: skip
        return CustomSeq2SeqTrainer(
            model=model, args=of_training, finetuning_args=of_method, data_collator=collator, train_dataset=data, **state["tokenizer"]
        )

    return _rounds(make)


def dpo(case: dict[str, Any], mode: str) -> tuple[dict[str, Any], Round]:
    """TRL's DPOTrainer with LoRA, the references computed before (by its own method, on the very token ids)."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    best = {"gradient_checkpointing": False} if mode == "best" else {}
    words = Dataset.from_list([{"prompt": "a", "chosen": " b", "rejected": " c"}])  # what it wants to be made with
    data = Dataset.from_list([dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), pair, strict=True)) for pair in case["pairs"]])
    state: dict[str, Any] = {}

    def make() -> Any:
        settings = DPOConfig(**_arguments(case), max_length=None, precompute_ref_log_probs=True, **best)
        if state and "ref" in state["model"].peft_config:
            state["model"].delete_adapter("ref")  # which a trainer of an adapted model adds
        lora = None if state else _lora(case)
        made = DPOTrainer(model=state.get("model", case["model"]), args=settings, train_dataset=words, peft_config=lora)
        if not state:
            state["data"] = made._precompute_ref_logps(data, "train", case["batch_rows"])
        state["model"], made.train_dataset = made.model, state["data"]
        return made

    return _rounds(make)


def grpo(case: dict[str, Any], mode: str) -> tuple[dict[str, Any], Round]:
    """The update of TRL's GRPOTrainer with LoRA on given answers, a step for each group; what its Trainer does around it is left out."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    group, size = len(case["groups"][0]["answers"]), len(case["groups"][0]["answers"][0])
    best = {"gradient_checkpointing": False} if mode == "best" else {}
    settings = GRPOConfig(
        **_arguments(case | {"batch_rows": group}), num_generations=group, max_completion_length=size, loss_type="grpo", beta=0.0,
        bf16=True, **best,
    )  # fmt: skip
    made = GRPOTrainer(
        model=case["model"], reward_funcs=lambda completions, **_: [0.0] * len(completions), args=settings, peft_config=_lora(case),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * group), processing_class=AutoTokenizer.from_pretrained(case["model"]),
    )  # fmt: skip
    made.current_gradient_accumulation_steps = 1  # what its Trainer sets before a step
    model = made.model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=case["learning_rate"], weight_decay=0.0)
    batches = []
    for one in case["groups"]:
        prompts, answers = torch.tensor([one["prompt"]] * group), torch.tensor(one["answers"])
        batches.append({
            "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts), "completion_ids": answers,
            "completion_mask": torch.ones_like(answers), "advantages": torch.tensor(one["advantages"]),
            "num_items_in_batch": torch.tensor(answers.numel()),
        })  # fmt: skip

    def one_round() -> dict[str, Any]:
        norms = []
        for inputs in batches:
            with made.compute_loss_context_manager():
                loss = made._compute_loss(model, inputs)
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
            optimizer.step()
            optimizer.zero_grad()
        return {"loss": float(loss.detach()), "gradient_norm": norms[0]}

    first = batches[0]
    ids, mask = (torch.cat([first[f"prompt_{what}"], first[f"completion_{what}"]], 1) for what in ("ids", "mask"))
    with torch.no_grad(), made.compute_loss_context_manager():
        logs, *_ = made._get_per_token_logps_and_entropies(model, ids, mask, size)
    return {"loss0": -float(logs.float().mean())}, one_round


def frozen(case: dict[str, Any], _mode: str) -> tuple[dict[str, Any], Round]:
    """A `score` head on a frozen trunk; every epoch runs the trunk."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(case["model"])
    model = AutoModelForSequenceClassification.from_pretrained(case["model"], dtype=torch.bfloat16, num_labels=len(case["labels"]))
    model.config.pad_token_id = tokenizer.pad_token_id
    model.requires_grad_(False)
    model.score.requires_grad_(True)
    data = Dataset.from_list([{"input_ids": ids, "labels": n} for ids, n in zip(case["rows"], case["targets"], strict=True)])

    def make() -> Any:
        model.score.weight.data.zero_()
        return Trainer(
            model=model, args=TrainingArguments(**_arguments(case)), train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer)
        )

    return _rounds(make)


def lm_eval(case: dict[str, Any], _mode: str) -> tuple[dict[str, Any], Round]:
    """One log-likelihood request per prompt and label, tokens given."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(case["model"], dtype=torch.bfloat16)
    scorer = HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(case["model"]), device="cpu", batch_size=16, max_length=4096)
    requests = [(("", ""), ids, answer) for ids in case["rows"] for answer in case["label_ids"]]

    def one_round() -> dict[str, Any]:
        found = [value for value, _ in scorer._loglikelihood_tokens(requests, disable_tqdm=True)]
        size = len(case["label_ids"])
        chosen = [max(range(size), key=lambda j, start=i: found[start + j]) for i in range(0, len(found), size)]
        return {"loss": -float(found[0]), "answers": chosen}

    return {}, one_round


def generate(case: dict[str, Any], _mode: str) -> tuple[dict[str, Any], Round]:
    """The answer of every prompt, as long as the longest label."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(case["model"], dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(case["model"], padding_side="left")
    longest = max(map(len, case["label_ids"]))

    def one_round() -> dict[str, Any]:
        for start in range(0, len(case["rows"]), 16):
            batch = tokenizer.pad({"input_ids": case["rows"][start : start + 16]}, return_tensors="pt")
            model.generate(**batch, max_new_tokens=longest, do_sample=False, use_cache=True, pad_token_id=tokenizer.pad_token_id)
        return {}

    return {}, one_round


def torch_head(case: dict[str, Any], mode: str) -> tuple[dict[str, Any], Round]:
    """The loss of transformers: every position's logits in float32, unsupervised ones ignored."""
    torch.manual_seed(0)
    hidden = torch.randn(case["tokens"], case["hidden"]).bfloat16().requires_grad_()
    weight = (torch.randn(case["vocabulary"], case["hidden"]) * 0.02).bfloat16().requires_grad_(mode == "trained")
    places = torch.linspace(0, case["tokens"] - 1, case["supervised"]).long()
    labels = torch.full((case["tokens"],), -100)
    labels[places] = torch.randint(case["vocabulary"], (case["supervised"],))

    def one_round() -> dict[str, Any]:
        start = clock()
        loss = torch.nn.functional.cross_entropy((hidden @ weight.T).float(), labels, ignore_index=-100)
        loss.backward()
        seconds = clock() - start
        hidden.grad = weight.grad = None
        return {"loss": float(loss.detach()), "seconds": seconds}

    return {}, one_round


SIDES = {
    "trainer": trainer,
    "trl": trl,
    "llamafactory": llamafactory,
    "dpo": dpo,
    "grpo": grpo,
    "frozen": frozen,
    "lm_eval": lm_eval,
    "generate": generate,
    "torch": torch_head,
}


if __name__ == "__main__":
    name, _, mode = sys.argv[2].partition("-")
    serve(lambda case, _: SIDES[name](case, mode))
