"""Rules of the architecture that a reader may rely on, each checked on the source itself."""

import ast
import graphlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import weitiao

PACKAGE = Path(weitiao.__file__).parent
CHINESE = re.compile("[\u3000-\u9fff\uff00-\uffef]")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

LAYERS: tuple[tuple[str, ...], ...] = (
    ("language", "records", "builtin", "masking"),
    ("errors",),
    ("config_io", "config_base", "storage", "usage", "terminal", "interrupts", "hub.names"),
    ("journal", "crew"),
    ("progress",),
    ("own_code", "config_decoding"),
    ("config_rewards",),
    ("config_data", "config_tasks", "config_methods", "config_objectives", "config_training", "config_monitor"),
    ("config", "config_tune"),
    ("data.template", "data.template_worker", "model.limits", "model.tokenizer_worker"),
    ("cost", "optim", "run", "data.layout", "data.portions", "machine", "model.tokenizer_trial"),
    ("monitor",),
    ("data.csv_rows", "data.json_rows", "data.columns", "data.split", "data.similar", "data.balance", "data.hidden", "data.packed"),
    ("data.quick_bpe",),
    ("data.plain_texts",),
    ("data.parquet_rows", "data.chats", "data.shapes", "data.render", "data.batch", "data.cache"),
    ("data.xlsx_rows", "data.rows"),
    ("data.read",),
    ("hub.allowlist",),
    ("data.ledger", "data.folder", "data.json_schema", "model.heads", "model.logprobs", "model.load"),
    ("model.structure",),
    ("data.starter", "data.sources", "hub", "model.states"),
    ("data.kept", "model.checkpoint", "model.frozen", "model.trees", "model.plain_tokenizer", "methods", "tasks", "audit"),
    ("model.result", "data.examples", "evaluate", "train", "report"),
    ("encode",),
    ("objectives", "course", "prepare", "summary", "rewards"),
    ("rollouts", "tuned", "estimate"),
    ("replies", "forecast", "judging"),
    ("check", "inference", "listing", "demo", "saves", "workshop"),
    ("resume", "training"),
    ("finetune",),
    ("decide",),
    ("watch",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""A module imports only from the lines above its own, and from its own package on the same line. A package stands for all its modules,
unless a line names one of them."""
VARIANTS = ("methods", "tasks", "objectives")
"""Packages whose modules are alternatives to each other: none imports another."""
BEFORE_TORCH = (
    "language",
    "records",
    "errors",
    "config_io",
    "storage",
    "usage",
    "progress",
    "config",
    "check",
    "cli",
    "commands.line",
    "commands.options",
    "hub.resolve",
    "hub.command",
    "report.build",
    "report.card",
)
"""What must not import torch: the help, `check` and `report` would wait seconds for it."""


@cache
def modules() -> dict[str, ast.Module]:
    """Module (without `weitiao.`; the package itself is "") → its syntax tree."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").removesuffix(".")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(name: str) -> set[str]:
    """The modules of this package that a module imports when it runs, within functions too; not what only type checkers read."""
    tree = modules()[name]
    checked = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in checked:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            base = (node.module or "").removeprefix("weitiao").removeprefix(".")
            if (node.module or "").split(".")[0] == "weitiao":
                found |= {
                    f"{base}.{a.name}".removeprefix(".") if f"{base}.{a.name}".removeprefix(".") in modules() else base for a in node.names
                }
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("weitiao.") for alias in node.names if alias.name.startswith("weitiao.")}
    return found - {"", name}


def place(name: str) -> tuple[int, str]:
    """The layer of a module and the entry that puts it there."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        entry = ".".join(parts[:length])
        for number, layer in enumerate(LAYERS):
            if entry in layer:
                return number, entry
    pytest.fail(f"weitiao/{name.replace('.', '/')}.py has no place in LAYERS yet: put it where its imports allow")


NAMED = [name for name in modules() if name and name not in ("data", "model")]


@pytest.mark.parametrize("name", NAMED)
def test_imports_go_one_way(name: str) -> None:
    own_layer, own_entry = place(name)
    for imported in imports(name):
        if imported in ("data", "model"):
            continue  # their __init__ is empty
        layer, entry = place(imported)
        assert layer < own_layer or entry == own_entry, f"weitiao.{name} imports weitiao.{imported}"


def test_there_is_no_cycle() -> None:
    tuple(graphlib.TopologicalSorter({name: imports(name) for name in modules()}).static_order())


@pytest.mark.parametrize("package", VARIANTS)
def test_a_variant_never_imports_its_sibling(package: str) -> None:
    for name in modules():
        if name.startswith(f"{package}."):
            assert not [other for other in imports(name) if other.split(".")[0] == package], name


def test_packages_that_are_only_folders_are_empty() -> None:
    for name in ("data", "model", "evaluate", "report", "tasks", "builtin", "commands"):
        assert (PACKAGE / name / "__init__.py").read_text() == "", name


@pytest.mark.parametrize("name", BEFORE_TORCH)
def test_torch_is_not_imported_on_the_way(name: str) -> None:
    """By the imports at the top of each module that is reached: those within functions are for later."""
    heavy, seen, waiting = {"torch", "transformers", "peft", "sklearn", "modelscope_hub", "huggingface_hub"}, set(), [name]
    while waiting:
        current = waiting.pop()
        seen.add(current)
        for node in modules()[current].body:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not heavy & {n.split(".")[0] for n in names}, f"{name} reaches {current}, which imports {names}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("weitiao"):
                base = (node.module or "").removeprefix("weitiao").removeprefix(".")
                for alias in node.names:
                    inner = f"{base}.{alias.name}".removeprefix(".")
                    waiting += [m for m in (base, inner) if m in modules() and m not in seen]


def test_no_file_and_no_function_is_too_long() -> None:
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= LONGEST_FILE, f"{path} has {lines} lines"
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= LONGEST_FUNCTION, f"weitiao.{name}.{node.name} has {lines} lines"


def test_attributes_are_rarely_asked_for_by_name() -> None:
    lines = sum(path.read_text(encoding="utf-8").count("\n") for path in PACKAGE.rglob("*.py"))
    calls = [
        f"weitiao.{name}:{node.lineno}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr", "setattr")
    ]
    assert len(calls) <= lines / 1000, calls


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "torch.save",
    "pickle.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}
OF_ITS_OWN_PROCESSES = {"crew": {"pickle", "pickle.load(sys.stdin.buffer)", "pickle.load(member.stdout)"}}
"""Read from no file, but from the pipe to a process that this one started, or that started this one."""


@pytest.mark.parametrize("name", list(modules()))
def test_nothing_that_runs_what_a_file_says(name: str) -> None:
    for node in ast.walk(modules()[name]):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not (FORBIDDEN_MODULES - OF_ITS_OWN_PROCESSES.get(name, set())) & {n.split(".")[0] for n in names}, node.lineno
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if ast.unparse(node) in OF_ITS_OWN_PROCESSES.get(name, set()):
            continue
        assert called not in FORBIDDEN_CALLS, f"{name}:{node.lineno}: {called}"
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert given.get("shell") in (None, "False"), f"{name}:{node.lineno}: shell"
        assert given.get("trust_remote_code") in (None, "False"), f"{name}:{node.lineno}: trust_remote_code"
        if called.endswith("from_pretrained") and "PeftModel" not in called:
            assert given.get("trust_remote_code") == "False", f"{name}:{node.lineno}: say trust_remote_code=False"
        if called.endswith("from_pretrained"):
            assert given.get("local_files_only") == "True", f"{name}:{node.lineno}: this version downloads nothing"
        if called in ("yaml.load", "yaml.load_all"):
            assert given.get("Loader") == "_Loader", f"{name}:{node.lineno}: a SafeLoader"


def test_the_yaml_loader_is_a_safe_one() -> None:
    import yaml

    from weitiao import config_io

    assert issubclass(config_io._Loader, yaml.SafeLoader)
    assert issubclass(config_io._Dumper, yaml.SafeDumper)


def test_every_message_has_both_languages() -> None:
    """`t(zh, en)`: the first holds Chinese and the second none (a literal only; what is computed cannot be read here)."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "t"):
                continue
            assert len(node.args) == 2, f"{name}:{node.lineno}"
            zh, en = (_literal(argument) for argument in node.args)
            if en is not None:
                assert not CHINESE.search(en), f"{name}:{node.lineno}: Chinese in the English message"
            if zh is not None and en is not None and re.search("[a-z]{3}", en):
                assert CHINESE.search(zh), f"{name}:{node.lineno}: no Chinese in the Chinese message"


def _literal(node: ast.expr) -> str | None:
    """The text of a string or f-string without what is filled in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value for part in node.values if isinstance(part, ast.Constant))
    return None


def test_what_is_exported_can_be_imported_and_is_documented() -> None:
    for name in weitiao.__all__:
        assert getattr(weitiao, name).__doc__, name
        assert callable(getattr(weitiao, name)), name
    with pytest.raises(AttributeError):
        _ = weitiao.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in modules() if name and name != "__main__"])
def test_every_module_and_every_public_function_says_what_it_is(name: str) -> None:
    tree = modules()[name]
    if tree.body:
        assert ast.get_docstring(tree), name
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"weitiao.{name}.{node.name}"


def test_importing_the_package_is_light() -> None:
    heavy = ("torch", "transformers", "peft", "sklearn", "pydantic", "yaml", "typer", "rich", "modelscope_hub", "huggingface_hub")
    code = f"import sys; import weitiao; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
