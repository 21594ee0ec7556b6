"""Folders that somebody prepared: models, adapters and runs that hold code, lead elsewhere, lie about their size or never end.

Each case is a copy of a sound folder and one change to it. Whatever the commands are given, they end with 0, 1 or 2 and a reason; nothing
that the folder holds is run.
"""

import base64
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from templates_hostile import OVER, REFUSED

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """``base``: which sound folder is copied. ``refused``: it must be, where loading it would be wrong rather than only useless."""

    name: str
    base: str
    change: Change
    refused: bool = False


class _Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (os.system, (f"touch {self.canary}",))


def canary() -> Path:
    """The file that exists when code of the folder was run: cases are made in the folder above theirs."""
    return Path("CANARY").absolute()


def code() -> bytes:
    """Python that leaves the canary."""
    return f"open({str(canary())!r}, 'w').close()\n".encode()


def evil(protocol: int = 4) -> bytes:
    """A pickle that leaves the canary."""
    return pickle.dumps(_Evil(canary()), protocol)


def torch_file(legacy: bool = False) -> bytes:
    """What ``torch.save`` writes of it."""
    buffer = io.BytesIO()
    torch.save({"weight": _Evil(canary())}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", evil())
        archive.writestr("../../CANARY", b"")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../CANARY"), io.BytesIO())
    return buffer.getvalue()


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([_Evil(canary())], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def with_metadata() -> bytes:
    header = json.dumps({"__metadata__": {"format": "pickle", "data": base64.b64encode(evil()).decode()}}).encode()
    return struct.pack("<Q", len(header)) + header


DISGUISES: dict[str, Callable[[], bytes]] = {
    "pickle 0": lambda: evil(0),
    "pickle 2": lambda: evil(2),
    "pickle 5": lambda: evil(5),
    "torch file": torch_file,
    "old torch file": lambda: torch_file(True),
    "zip": zipped,
    "tar": tarred,
    "gzip": lambda: gzip.compress(evil()),
    "array": array,
    "pickle behind a header": lambda: struct.pack("<Q", 2) + b"{}" + evil(),
    "metadata": with_metadata,
}
PICKLES = (
    "pytorch_model.bin",
    "model.pt",
    "model.pth",
    "model.ckpt",
    "weights.pkl",
    "consolidated.00.pth",
    "training_args.bin",
    "optimizer.pt",
    "rng_state.pth",
    "adapter_model.bin",
    "tf_model.h5",
    "flax_model.msgpack",
    ".hidden.mdl",
    "model.joblib",
)
SETTINGS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "tokenizer.model",
    "model.safetensors.index.json",
    "processor_config.json",
)


def put(name: str, content: bytes | Callable[[], bytes]) -> Change:
    """A file with this content, in place of one that is there."""

    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content())

    return change


def set_keys(name: str, /, **values: object) -> Change:
    """Keys of a JSON file; a dot leads into an object (``a__b``)."""

    def change(folder: Path) -> None:
        path = folder / name
        tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for key, value in values.items():
            *parents, last = key.split("__") if not key.startswith("_") else [key]
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        path.write_text(json.dumps(tree), encoding="utf-8")

    return change


def gone(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def link(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def pipe(name: str) -> Change:
    """A FIFO: who opens it waits for ever."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def hollow(name: str, size: int) -> Change:
    """A file of zeros that takes no space on the disk."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return change


def header(content: bytes, data: bytes = b"", length: int | None = None, name: str = "model.safetensors") -> Change:
    """A safetensors file of this header."""
    return put(name, struct.pack("<Q", len(content) if length is None else length) + content + data)


def entry(**changes: object) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}).encode()


def tensors(edit: Callable[[dict[str, torch.Tensor]], object], name: str = "model.safetensors") -> Change:
    """Other tensors in a safetensors file."""

    def change(folder: Path) -> None:
        found = load_file(folder / name)
        edit(found)
        save_file({key: value.contiguous() for key, value in found.items()}, folder / name)

    return change


def first(found: dict[str, torch.Tensor], wanted: str = "q_proj") -> str:
    return next(key for key in sorted(found) if wanted in key)


def each(edit: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda found: found.update({key: edit(value) for key, value in found.items()})


DEEP = b"[" * 200_000
DEEP_OBJECT = b'{"a":' * 200_000
HUGE = b'{"state": "finished", "a": "' + b"x" * 50_000_000 + b'"}'
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40))
MANY = json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)}).encode()
YAML_CODE = (
    "!!python/object/apply:os.system ['touch CANARY']",
    "!!python/object/new:os.system ['touch CANARY']",
    "!!python/name:os.system ''",
)
SCRIPT = "<script>fetch('http://127.0.0.1')</script>\x1b[2J\u202e"


def model_cases() -> list[Case]:
    """Folders of base models."""
    made = [Case(f"model: {n} beside the weights", "model", put(n, evil)) for n in PICKLES]
    made += [
        Case(f"model: {n} instead of the weights", "model", both(gone("model.safetensors"), put(n, torch_file)), True) for n in PICKLES
    ]
    made += [Case(f"model: {d} named safetensors", "model", put("model.safetensors", make), True) for d, make in DISGUISES.items()]
    made += [Case(f"model: a pickle named {n}", "model", put(n, evil)) for n in SETTINGS]
    made += [Case(f"model: {n} that is deep", "model", put(n, DEEP)) for n in SETTINGS]
    made += [Case(f"model: {n} of 40 GB", "model", hollow(n, 40_000_000_000), n in SETTINGS[:2]) for n in SETTINGS]
    made += [Case(f"model: {n} that is a pipe", "model", pipe(n), n in SETTINGS[:2]) for n in (*SETTINGS, "model.safetensors")]
    for target in ("/etc/passwd", "/dev/zero", "/proc/self/environ", "../CANARY", "config.json/x"):
        made += [
            Case(f"model: {n} → {target}", "model", link(n, target), target[0] == "/")
            for n in ("config.json", "model.safetensors", "chat_template.jinja")
        ]
    values: dict[str, tuple[object, ...]] = {
        "auto_map": ({"AutoModelForCausalLM": "evil.Evil"},),
        "architectures": (["EvilForCausalLM"], ["../evilForCausalLM"], [], [1], "x"),
        "model_type": ("evil", "../evil", 1, None),
        "attn_implementation": ("evil/kernel", "flash_attention_2"),
        "dtype": ("os", 1),
        "_attn_implementation_internal": ("evil/kernel",),
        "_attn_implementation": ("evil/kernel@main:evil",),
        "torch_dtype": ("system",),
        "_experts_implementation": ("evil/kernel",),
        "use_kernels": (True,),
        "quantization_config": ({"quant_method": "evil"}, {"quant_method": "bitsandbytes", "load_in_4bit": True}, 1, []),
        "vocab_size": (10**12, -1, 0, "600", None, 1.5),
        "num_hidden_layers": (10**9, -1, "2", 10**5),
        "hidden_size": (10**9, 0, 31),
        "num_attention_heads": (0, 3, 10**9),
        "hidden_act": ("evil", "__import__"),
        "max_position_embeddings": (10**15, -1),
        "rope_parameters": ({"rope_type": "evil"}, 1),
        "id2label": ({"0": SCRIPT}, 1),
        "_name_or_path": ("http://127.0.0.1:9/x",),
        "text_config": ({"auto_map": {"AutoModel": "evil.Evil"}},),
        "is_encoder_decoder": (True,),
        "num_labels": (10**9,),
        "transformers_weights": ("../CANARY", "pytorch_model.bin"),
        "layer_types": (["evil", "evil"],),
        "custom_pipelines": ({"x": {"impl": "evil.Evil"}},),
    }
    made += [
        Case(f"model: config.{k} = {str(v)[:40]}", "model", both(put("evil.py", code), set_keys("config.json", **{k: v})))
        for k, vs in values.items()
        for v in vs
    ]
    tokens: dict[str, tuple[object, ...]] = {
        "auto_map": ({"AutoTokenizer": ["evil.Evil", None]},),
        "tokenizer_class": ("Evil", "../evil", "os.system", 1),
        "extra_special_tokens": ({"x": "../x"}, ["a"] * 50_000),
        "chat_template": ({"default": "{{ 1 }}"}, 7, [{"name": "default", "template": 7}], [7]),
        "eos_token": ({"__class__": "os"}, 7),
        "model_max_length": ("x",),
        "added_tokens_decoder": ({"x": 1}, {"999999999": {"content": "x"}}),
        "tokenizer_file": ("/etc/passwd",),
    }
    made += [
        Case(
            f"model: tokenizer_config.{k} = {str(v)[:40]}", "model", both(put("evil.py", code), set_keys("tokenizer_config.json", **{k: v}))
        )
        for k, vs in tokens.items()
        for v in vs
    ]
    made += [
        Case(f"model: {n} in the folder", "model", put(n, code))
        for n in ("sitecustomize.py", "modeling_qwen2.py", "__init__.py", "json.py", "setup.py")
    ]
    made += [Case(f"model: template, {n}", "model", put("chat_template.jinja", text.encode())) for n, text in {**OVER, **REFUSED}.items()]
    made += [
        Case(f"model: {n} too large", "model", set_keys("config.json", **{n: 10**9}))
        for n in ("intermediate_size", "num_key_value_heads", "head_dim")
    ]
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "/nowhere/evil", "auto_mapping": {"parent_library": "evil"}}
    made += [
        Case(f"model: an adapter beside it, {n}", "model", both(set_keys("adapter_config.json", **adapter), put(n, evil)))
        for n in ("adapter_model.bin", "adapter_model.safetensors")
    ]
    return made + _tokenizer_cases() + _weight_cases()


def _tokenizer_cases() -> list[Case]:
    """A tokenizer.json that is a bomb, or whose rules search for ever or make text grow; sizes that only swap."""

    def rules(**values: object) -> Change:
        return set_keys("tokenizer.json", **values)

    def split(pattern: str) -> Change:
        return rules(pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False})

    def replace(content: str, times: int) -> Change:
        one = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
        return rules(normalizer={"type": "Sequence", "normalizers": [one] * times})

    def tokens(number: int, length: int) -> list[dict[str, object]]:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        return [{"id": 1000 + i, "content": f"<{i}>".ljust(length, "x"), **flags} for i in range(number)]

    changes: dict[str, tuple[Change, bool]] = {
        "500 MB of lists": (both(put("tokenizer.json", b"[" * 1000), lambda f: os.truncate(f / "tokenizer.json", 500_000_000)), True),
        "49 MB of lists": (put("tokenizer.json", lambda: b'{"version":[' + b"[]," * 16_000_000 + b"1]}"), True),
        "49 MB of numbers": (put("tokenizer.json", lambda: b'{"version":[' + b"1," * 24_000_000 + b"1]}"), True),
        "40 MB of text": (put("tokenizer.json", lambda: b'{"version":"' + b"x" * 40_000_000 + b'"}'), True),
        "depth": (put("tokenizer.json", b'{"normalizer":' * 50_000), True),
        "an exponential pattern": (split(r"(a+)+$"), True),
        "an exponential pattern of words": (split(r"(\w+\s?)+$"), True),
        "a cubic pattern": (split(r"a*a*a*a*$"), True),
        "a pattern of 60,000 characters": (split("a?" * 20_000 + "a" * 20_000), True),
        "nested repetition": (split(r"((((a{1,100}){1,100}){1,100}){1,100})$"), True),
        "words that double 40 times": (replace("aa", 40), True),
        "words that become a gigabyte": (replace("a" * 1000, 3), True),
        "a table of 8 GB": (rules(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}), True),
        "100,000 added tokens": (rules(added_tokens=tokens(100_000, 8)), True),
        "an added token of 1 MB": (rules(added_tokens=tokens(1, 1_000_000)), True),
        "a template that repeats the text 20,000 times": (
            rules(
                post_processor={
                    "type": "TemplateProcessing",
                    "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 20_000,
                    "pair": [],
                    "special_tokens": {},
                }
            ),
            True,
        ),
        "a config of 10^9 × 10^6": (set_keys("config.json", hidden_size=10**9, num_hidden_layers=10**6), True),
    }
    made = [Case(f"tokenizer: {name}", "model", change, refused) for name, (change, refused) in changes.items()]
    added = {f"<{i}>": 600 + i for i in range(300_000)}
    made.append(
        Case("tokenizer: 300,000 entries in added_tokens.json", "model", put("added_tokens.json", lambda: json.dumps(added).encode()))
    )
    decoder = {str(600 + i): {"content": f"<{i}>", "special": True} for i in range(100_000)}
    made.append(
        Case(
            "tokenizer: 100,000 entries in added_tokens_decoder",
            "model",
            set_keys("tokenizer_config.json", added_tokens_decoder=decoder),
            True,
        )
    )
    return made


def _weight_cases() -> list[Case]:
    """Safetensors whose headers or tensors lie."""
    headers = {
        "a length of 2^63": header(b"{}", length=2**63),
        "a length beyond the file": header(entry(), b"1234", 10**6),
        "deep": header(DEEP),
        "a list": header(b"[]"),
        "no UTF-8": header(b"\xff" * 16),
        "200,000 tensors": header(MANY),
        "a shape of 2^32 × 2^32": header(entry(a={"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 4]}), b"1234"),
        "negative offsets": header(entry(a={"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}), b""),
        "another dtype": header(entry(a={"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}), b"1234"),
        "offsets past the end": header(entry(a={"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}), b"1234"),
        "overlapping tensors": header(entry(b={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}), b"1234"),
        "a name that leads out": header(json.dumps({"../x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode(), b"1234"),
        "numbers in the metadata": header(json.dumps({"__metadata__": {"a": 1}}).encode()),
        "NaN as an offset": header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,NaN]}}', b"1234"),
        "a shape that lies": header(entry(a={"dtype": "F32", "shape": [100, 100], "data_offsets": [0, 4]}), b"1234"),
        "5 TB of nothing": hollow("model.safetensors", 5 * 10**12),
    }
    made = [Case(f"weights: {n}", "model", change, True) for n, change in headers.items()]
    edits: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], bool]] = {
        "one is missing": (lambda w: w.pop(first(w)), True),
        "all are missing": (lambda w: w.clear(), True),
        "one is transposed": (lambda w: w.update({first(w, "k_proj.weight"): w[first(w, "k_proj.weight")].T}), True),
        "one is a scalar": (lambda w: w.update({first(w): torch.tensor(1.0)}), True),
        "one more": (lambda w: w.update({"model.evil.weight": torch.ones(3)}), False),
        "float64": (each(lambda v: v.double()), False),
        "integers": (each(lambda v: v.to(torch.int64)), False),
        "booleans": (each(lambda v: v.bool()), False),
        "float16": (each(lambda v: v.half()), False),
        "NaN": (each(lambda v: v * float("nan")), True),
        "infinite": (each(lambda v: v + float("inf")), True),
        "empty": (each(lambda v: v.reshape(-1)[:0]), True),
        "too few rows": (lambda w: w.update({first(w, "embed"): w[first(w, "embed")][:-5]}), True),
        "1e38": (each(lambda v: v.sign() * 1e38), False),
    }
    made += [Case(f"weights: {n}", "model", tensors(edit), refused) for n, (edit, refused) in edits.items()]
    indices: dict[str, object] = {
        "../CANARY.safetensors": {"a": "../CANARY.safetensors"},
        "/etc/passwd": {"a": "/etc/passwd"},
        "a pickle": {"a": "x.bin"},
        "a folder": {"a": "."},
        "a list": ["a"],
        "many": {f"t{i}": f"{i}.safetensors" for i in range(50_000)},
    }
    made += [
        Case(
            f"weights: an index naming {n}",
            "model",
            both(gone("model.safetensors"), set_keys("model.safetensors.index.json", weight_map=m)),
            True,
        )
        for n, m in indices.items()
    ]
    return made


def run_cases() -> list[Case]:
    """Folders of finished (``run``) and interrupted runs (``cut``)."""
    files = (
        "run.json",
        "config.yaml",
        "metrics.jsonl",
        "data/ledger.json",
        "data/audit.json",
        "evaluation/after.json",
        "evaluation/predictions-after.jsonl",
        "model/weitiao.json",
        "model/adapter_config.json",
        "card.yaml",
    )
    contents = {
        "a pickle": evil,
        "deep": DEEP,
        "a deep object": DEEP_OBJECT,
        "NaN": b"NaN",
        "a list": b"[1]",
        "a null": b"null",
        "a huge number": b'{"state": ' + b"9" * 5000 + b"}",
        "50 MB": HUGE,
        "an empty object": b"{}\n",
    }
    made = [Case(f"run: {n}, {what}", "run", put(n, content)) for n in files for what, content in contents.items()]
    made += [Case(f"run: {n} is a pipe", "run", pipe(n)) for n in files]
    made += [Case(f"run: {n} of 40 GB", "run", hollow(n, 40_000_000_000)) for n in files]
    made += [
        Case(f"run: code in {n}, {i}", "run", put(n, text.encode()))
        for n in ("config.yaml", "card.yaml")
        for i, text in enumerate((*YAML_CODE, LAUGHS, "name: ../../CANARY", "x: &x [*x]"))
    ]
    wrong = {
        "name": "../../CANARY",
        "state": SCRIPT,
        "training": 7,
        "seconds": [SCRIPT],
        "data": {"train": {"path": "../../x", "rows": SCRIPT}},
        "base_model": SCRIPT,
        "versions": SCRIPT,
        "hardware": {"processor": SCRIPT},
        "created": SCRIPT,
        "error": {"type": 1},
        "schema": 10**9,
    }
    made += [Case(f"run: run.json {k}", "run", set_keys("run.json", **{k: v})) for k, v in wrong.items()]
    card = {
        "labels": ({"a": 1}, [], [SCRIPT] * 3, [1, 2, 3]),
        "method": ("full", "evil", 1),
        "base_model": ({"path": "/etc", "sha256": "0"}, {}, 1),
        "columns": ({"evil": "x"}, [], 1),
        "max_tokens": (-1, 10**15, "x"),
        "task": ({"kind": "evil"}, 1),
    }
    made += [
        Case(f"run: card {k} = {str(v)[:30]}", "run", set_keys("model/weitiao.json", **{k: v}), k in ("base_model", "method"))
        for k, vs in card.items()
        for v in vs
    ]
    peft = {
        "peft_type": ("EVIL", "PREFIX_TUNING", 1),
        "r": (10**9, -1, "x"),
        "target_modules": ("(a+)+$", [], "all-linear", ["evil"]),
        "auto_mapping": ({"parent_library": "evil", "base_model_class": "E"},),
        "megatron_config": ({"x": 1},),
        "megatron_core": ("evil",),
        "layer_replication": ([[0, 10**7]],),
        "modules_to_save": (["embed_tokens", "evil"],),
        "base_model_name_or_path": ("/nowhere", "evil/evil"),
        "init_lora_weights": ("evil", "loftq"),
        "runtime_config": ({"ephemeral_gpu_offload": True},),
        "revision": ("../..",),
    }
    made += [
        Case(f"run: adapter {k} = {str(v)[:30]}", "run", set_keys("model/adapter_config.json", **{k: v}))
        for k, vs in peft.items()
        for v in vs
    ]
    weights = "model/adapter_model.safetensors"
    made += [Case(f"run: the adapter is {d}", "run", put(weights, make), True) for d, make in DISGUISES.items()]
    made += [Case("run: a pickle instead of the adapter", "run", both(gone(weights), put("model/adapter_model.bin", torch_file)), True)]
    shapes = {
        "one is missing": (lambda w: w.pop(first(w)), True),
        "of another rank": (each(lambda v: v[:2]), True),
        "NaN": (each(lambda v: v * float("nan")), True),
        "integers": (each(lambda v: v.to(torch.int64)), False),
        "one more": (lambda w: w.update({"evil": torch.ones(2)}), False),
        "none": (lambda w: w.clear(), True),
    }
    made += [Case(f"run: adapter weights, {n}", "run", tensors(edit, weights), refused) for n, (edit, refused) in shapes.items()]
    made += [Case("run: another base model", "run", set_other_base, True)]
    links = ("run.json", "config.yaml", "metrics.jsonl", weights)
    made += [Case(f"run: {n} → /dev/zero", "run", link(n, "/dev/zero")) for n in links]
    kept = ("weights.safetensors", "moments.safetensors", "position.json", "manifest.json")
    made += [
        Case(f"cut: {n} is {d}", "cut", newest(put(n, make)))
        for n in kept
        for d, make in DISGUISES.items()
        if d in ("pickle 2", "torch file", "zip")
    ]
    made += [Case(f"cut: {n} → outside", "cut", newest(link(n, "/dev/zero"))) for n in kept]
    made += [Case(f"cut: {n} is a pipe", "cut", newest(pipe(n))) for n in kept]
    manifest = {
        "../../CANARY": {"bytes": 1, "sha256": "0"},
        "/etc/passwd": {"bytes": 1, "sha256": "0"},
        "x": None,
        "y": {"bytes": 10**30, "sha256": 1},
    }
    made += [Case(f"cut: manifest with {k}", "cut", newest(set_keys("manifest.json", files={k: v}))) for k, v in manifest.items()]
    made += [
        Case(f"cut: {n}", "cut", put(f"checkpoints/{n}/position.json", b"{}"))
        for n in ("step-99999999999999999999", "step-٣", "step-0", "step-1e9")
    ]
    return made


def newest(change: Change) -> Change:
    """A change to the newest checkpoint that training can go on from."""

    def changed(folder: Path) -> None:
        found = [path for path in (folder / "checkpoints").glob("step-*") if (path / "moments.safetensors").is_file()]
        change(max(found, key=lambda path: int(path.name[5:])))

    return changed


def set_other_base(folder: Path) -> None:
    """The model that the run's configuration names is another one, of the same shape."""
    path = folder / "config.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("/model\n", "/model-2\n"), encoding="utf-8")


def all_cases() -> list[Case]:
    """Every case, by a name of its own."""
    made = [*model_cases(), *run_cases()]
    assert len({case.name for case in made}) == len(made), sorted(c.name for c in made if [d.name for d in made].count(c.name) > 1)
    return made
