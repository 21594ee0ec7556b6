"""The estimate against what is really there: element counts of the real classes, live tensors of a real step, a run's measured peak."""

import json
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import VOCABULARY, label_rows, sft_rows, write_tokenizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from weitiao import estimate, forecast, machine
from weitiao.config import build_config
from weitiao.config_data import ModelConfig
from weitiao.config_methods import FullMethod, HeadMethod, LoraMethod
from weitiao.data.render import CHATML
from weitiao.errors import ConfigError
from weitiao.estimate import demand, memory
from weitiao.finetune import finetune
from weitiao.forecast import Forecast, Pace, require_memory, with_budget
from weitiao.machine import Machine, this_machine
from weitiao.methods import apply_method
from weitiao.model import logprobs, states
from weitiao.model.load import find_model, without_weights
from weitiao.model.structure import read_structure
from weitiao.objectives.next_token import label_loss, next_token_loss
from weitiao.optim import Optimizer
from weitiao.prepare import Prepared

GB = 10**9
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 352, "max_position_embeddings": 8192, "head_dim": 32}  # fmt: skip
FAMILIES = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, tie_word_embeddings=True)),
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=False)),
}
METHODS = {
    "full": FullMethod(), "head": HeadMethod(), "last blocks": HeadMethod(last_blocks=2), "lora": LoraMethod(),
    "two targets": LoraMethod(rank=4, targets=("q_proj", "v_proj")), "dora": LoraMethod(dora=True),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder for each family."""
    folders = {}
    for name, (auto_class, config) in FAMILIES.items():
        folders[name] = tmp_path_factory.mktemp(name)
        write_tokenizer(folders[name], CHATML)
        torch.manual_seed(0)
        auto_class(config).save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_elements_are_those_of_the_real_classes(models, family, method):
    folder, config = find_model(ModelConfig(path=str(models[family]))), METHODS[method]
    labels = 5 if isinstance(config, HeadMethod) else None
    model = apply_method(without_weights(folder, labels), config)
    structure = read_structure(folder)
    assert structure.all_elements(config, labels) == sum(p.numel() for p in model.parameters())
    assert structure.trained_elements(config, labels) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_an_untied_copy_of_the_output_matrix_is_counted(models):
    folder, config = find_model(ModelConfig(path=str(models["qwen2"]))), HeadMethod(untie=True)
    model, structure = apply_method(without_weights(folder, None), config), read_structure(folder)
    assert structure.all_elements(config, None) == sum(p.numel() for p in model.parameters())
    assert structure.trained_elements(config, None) == VOCABULARY * 128


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors made within it as long as they live."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._sizes = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in self._sizes:
                self._sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._forget, storage._cdata)
        self.peak = max(self.peak, self.now)
        return out

    def _forget(self, key):
        self.now -= self._sizes.pop(key, 0)


def prepared(rows):
    """Encoded rows alone."""
    return Prepared(type("Rows", (), {"task": None})(), rows, {}, {}, 8192, {})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("family", "method", "rows", "length"), [
    ("qwen2", "full", 8, 96), ("qwen2", "lora", 8, 96), ("qwen2", "last blocks", 8, 96), ("qwen2", "full", 2, 320),
    ("qwen2", "lora", 2, 320), ("qwen3", "full", 8, 96), ("llama", "lora", 8, 96),
])  # fmt: skip
def test_a_steps_live_tensors_are_within_15_percent(models, family, method, rows, length, dtype):
    """Live: what forward and backward of the heaviest micro-batch hold beside weights and optimiser, the second one of a step."""
    from weitiao.data.batch import Plan

    folder, config = find_model(ModelConfig(path=str(models[family]))), METHODS[method]
    labels = 5 if isinstance(config, HeadMethod) else None
    encoded = label_rows([length] * 2 * rows, 5) if labels else sft_rows([length] * 2 * rows)
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    loader = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
    model = loader.from_pretrained(folder.path, dtype=dtype, local_files_only=True, **({"num_labels": labels} if labels else {}))
    model = apply_method(model, config).train()
    settings = build_config({"train": {"batch_rows": 2 * rows, "micro_batch_tokens": rows * length}}, "test")
    optimizer = Optimizer(model.parameters(), settings.optim, 1e-4)
    batch = Plan(encoded, 2 * rows, rows * length, 1.0, 1, 0, labels or 0).heaviest()
    vars(states.scratch).clear()  # what former tests left
    with Live() as live:
        for _ in range(2):
            loss = label_loss(model, batch) if labels else next_token_loss(model, batch)
            loss.total.backward()
            del loss
            optimizer.accumulate()
    needs = demand(settings, prepared(encoded), 0)
    predicted = memory(read_structure(folder), config, needs, Machine("cpu", 0, 0, dtype.itemsize, 1, ""), labels, 0)
    assert predicted.gradients + predicted.activations + predicted.workspace == pytest.approx(live.peak, rel=0.15)


def test_the_arithmetic_uses_the_codes_own_limits():
    assert (estimate.CHUNK_ELEMENTS, estimate.CHUNK_ROWS) == (logprobs.CHUNK_ELEMENTS, logprobs.CHUNK_ROWS)
    assert estimate.CACHED_ELEMENTS == logprobs.CACHED_ELEMENTS
    assert (estimate.SHORT_KEYS, estimate.CACHED_SCORES) == (states.SHORT_KEYS, states.CACHED_SCORES)


def test_state_of_full_tuning_by_hand(models):
    """bfloat16: 2 bytes a weight, 4 its master, 8 two moments, 2 the best copy; float32: 4, none, 8, 4."""
    structure = read_structure(find_model(ModelConfig(path=str(models["llama"]))))
    needs = demand(build_config({}, "test"), prepared(sft_rows([20] * 4)), 0)
    n = structure.elements
    for itemsize, expected in ((2, (2 * n, 12 * n, 2 * n)), (4, (4 * n, 8 * n, 4 * n))):
        found = memory(structure, FullMethod(), needs, Machine("cpu", 0, 0, itemsize, 1, ""), None, 0)
        assert (found.weights, found.optimiser, found.best) == expected
        assert found.heap == (found.activations + found.workspace) // 2


def make_forecast(models, free, **settings):
    """A forecast for 64 rows of 200 tokens on a machine with so much memory free."""
    folder = find_model(ModelConfig(path=str(models["qwen2"])))
    here = Machine("cpu", 2 * free, free, 2, 1, "")
    return Forecast(build_config(settings, "test"), prepared(sft_rows([200] * 64)), read_structure(folder), here, 0, process=100_000_000)


def test_what_does_not_fit_is_refused_with_settings_that_fit(models):
    needed = make_forecast(models, GB, method="full").own.peak
    assert make_forecast(models, needed, method="full").fits
    tight = make_forecast(models, int(0.9 * needed), method="full")  # within the estimate's own error
    assert not tight.fits
    require_memory(tight)
    small = make_forecast(models, int(0.75 * needed), method="full")
    with pytest.raises(ConfigError, match=r"train\.micro_batch_tokens=") as refused:
        require_memory(small)
    assert "check.memory=ignore" in refused.value.remedy
    settings = {"method": "full", "train": {}, "evaluate": {}}
    for key, value in (change.split("=") for change in small.suggestion()):
        section, _, name = key.partition(".")
        settings[section] = settings[section] | {name: int(value)} if name else value
    assert make_forecast(models, int(0.75 * needed), **settings).fits
    require_memory(make_forecast(models, int(0.75 * needed), method="full", check={"memory": "ignore"}))


def test_on_cuda_only_what_is_counted_exactly_refuses(models):
    plain = make_forecast(models, GB, method="full")
    exact = plain.own.weights + plain.own.optimiser
    assert not replace(plain, machine=Machine("cuda", exact, 0, 2, 1, "")).cannot_fit
    assert replace(plain, machine=Machine("cuda", exact - 1, 0, 2, 1, "")).cannot_fit


def test_the_default_longest_row_follows_the_memory_of_the_machine(models):
    folder = find_model(ModelConfig(path=str(models["qwen2"])))
    structure, config = read_structure(folder), build_config({"method": "full"}, "test")
    large, small = Machine("cpu", 64 * GB, 0, 2, 1, ""), Machine("cpu", GB, 0, 2, 1, "")
    assert with_budget(config, structure, folder.config, large).data.max_tokens is None
    assert with_budget(config, structure, folder.config, replace(small, free_bytes=GB)) == with_budget(
        config, structure, folder.config, small
    )
    assert with_budget(config, structure, folder.config, small).data.max_tokens == 4096
    given = build_config({"method": "full", "data": {"max_tokens": 9000}}, "test")
    assert with_budget(given, structure, folder.config, small) == given


def test_a_run_that_cannot_fit_leaves_no_folder(tiny_model, small_csv, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "CLEARLY", 1e6)  # as if the machine had a millionth of its memory
    config = build_config({"model": str(tiny_model), "data": {"train": str(small_csv)}, "runs": str(tmp_path / "runs")}, "test")
    with pytest.raises(ConfigError, match=r"check\.memory=ignore"):
        finetune(config)
    assert not (tmp_path / "runs").exists()


def test_memory_of_a_container(tmp_path, monkeypatch):
    (tmp_path / "max").write_text(f"{GB}\n")
    (tmp_path / "now").write_text(f"{GB // 4}\n")
    monkeypatch.setattr(machine, "_CONTAINER", ((str(tmp_path / "max"), str(tmp_path / "now")),))
    assert machine.memory() == (GB, GB - GB // 4)
    (tmp_path / "max").write_text("max\n")
    assert machine.memory()[0] > GB


def test_a_gpu_is_seen_without_torch(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '24576, 20000, 8.9'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(machine.metadata, "version", lambda _: "2.13.0+cu130")
    found = this_machine(ModelConfig())
    assert (found.device, found.total_bytes, found.free_bytes, found.itemsize) == ("cuda", 24576 << 20, 20000 << 20, 2)
    assert this_machine(ModelConfig(device="cpu")).device == "cpu"
    monkeypatch.setattr(machine.metadata, "version", lambda _: "2.13.0+cpu")
    assert this_machine(ModelConfig()).device == "cpu"


def test_earlier_runs_on_this_machine_give_the_speed(models, tmp_path):
    plain = make_forecast(models, GB, runs=str(tmp_path))
    assert plain.seconds()[2] == 0
    (tmp_path / "one").mkdir()
    hardware = {"device": "cpu", "processor": "", "cores": 1}
    record = {"state": "finished", "method": "lora", "hardware": hardware, "training": {"flops": 4e9, "seconds": 2.0}}
    (tmp_path / "one" / "run.json").write_text(json.dumps(record))
    low, high, runs = plain.seconds()
    training, judged = estimate.operations(plain.structure, plain.config.method, plain.needs, None)
    middle = training / 2e9  # nothing is judged here
    assert judged > 0
    assert (low, high, runs) == pytest.approx((15 + 0.6 * middle, 15 + 1.6 * middle, 1))


def test_the_time_left_comes_from_the_steps_after_the_first(models):
    """Four steps of 1,000 tokens, the first slow; then 100 tokens a second for the rest of 3 × 12,800, and nothing is judged."""
    pace = Pace(make_forecast(models, GB))
    told = [pace.left(1000 * (i + 1), 60.0 + 10 * i) for i in range(5)]
    assert told == [None, None, None, pytest.approx((3 * 12_800 - 4000) / 100), None]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["builtin-lora-128", "builtin-full-128"])
def test_a_runs_peak_is_within_15_percent(name, tmp_path):
    """The short form of `make estimate`: whole runs in processes of their own."""
    program = Path(__file__).parent.parent / "bench" / "estimate.py"
    subprocess.run([sys.executable, program, "--out", tmp_path / "out.json", "--only", name], check=True)
    found = json.loads((tmp_path / "out.json").read_text())["results"][name]
    assert abs(found["check_error"]) <= 0.15
    assert abs(found["train_error"]) <= 0.15
