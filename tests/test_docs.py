"""The documentation says what the code does: keys and defaults, both languages alike, links, command lines, recipes."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from typer.main import get_command

from weitiao.commands.line import app
from weitiao.config import RunConfig, build_config, load_config, parse_yaml
from weitiao.config_io import check_tree
from weitiao.config_tune import TunePlan
from weitiao.demo import demo_config

ROOT = Path(__file__).parent.parent
ZH, EN = ROOT / "docs" / "zh", ROOT / "docs" / "en"
PAIRS = [(ROOT / "README.md", ROOT / "README.en.md"), *((page, EN / page.name) for page in sorted(ZH.glob("*.md")))]
PAGES = [page for pair in PAIRS for page in pair] + sorted((ROOT / "docs" / "decisions").glob("*.md"))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
REGISTRY_HOSTS = (
    "pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "npm" + "mirror.com", "deb." + "debian.org", "download." + "pytorch.org",
    "proxy." + "golang.org", "mirrors." + "aliyun.com", "tuna." + "tsinghua.edu.cn", "mirrors." + "ustc.edu.cn",
)  # fmt: skip


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> list[int]:
    """The level of each heading."""
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(page), re.MULTILINE)]


def commands(page: Path, programs: tuple[str, ...]) -> Iterator[list[str]]:
    """The words of each command line in shell blocks that runs one of the programs; `&&` and `>` end a command."""
    for language, content in blocks(page):
        for line in content.splitlines() if language == "sh" else ():
            words = shlex.split(line, comments=True)
            command: list[str] = []
            for word in [*words, "&&"]:
                if word in ("&&", ">", "|"):
                    if command and command[0] in programs:
                        yield command
                    command = []
                else:
                    command.append(word)


def figure_markers() -> list[str]:
    """Places that still wait for a measured figure."""
    pages = [*PAGES, ROOT / "CHANGELOG.md"]
    return [f"{relative(page)}: {what}" for page in pages for what in re.findall(r"<!-- FIGURE: (.*?) -->", read(page))]


def variants(annotation: Any) -> list[type[BaseModel]]:
    """The models that a setting may hold."""
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in variants(part)]


def keys(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, object]]:
    """(dotted path, default) of every setting, those of every variant included."""
    for name, field in model.model_fields.items():
        parts = variants(field.annotation)
        for part in parts:
            yield from keys(part, f"{path}{name}.")
        if not parts and name != "kind":
            yield f"{path}{name}", None if field.is_required() else field.default
        elif not parts and path:
            yield f"{path}{name}", None


SETTINGS = dict(keys(RunConfig))
DEFAULT_KINDS = {"task.kind": "classification", "method.kind": "lora", "objective.kind": "sft"}


@pytest.mark.parametrize("page", [ZH / "config.md", EN / "config.md"], ids=relative)
def test_every_setting_is_documented_with_its_default(page):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in read(page).splitlines() if line.startswith("| `")]
    documented = {row[0].strip("`"): row for row in rows}
    assert documented.keys() == SETTINGS.keys()
    for path, default in (SETTINGS | DEFAULT_KINDS).items():
        row = documented[path]
        assert len(row) == 4, row
        assert row[3]
        stated = None if row[2] == "—" else parse_yaml(row[2].strip("`"), path)
        stated = tuple(stated) if isinstance(stated, list) else stated
        assert stated == default, path


def test_both_languages_have_the_same_pages():
    assert {page.name for page in ZH.iterdir()} == {page.name for page in EN.iterdir()}


@pytest.mark.parametrize(("zh", "en"), PAIRS, ids=[relative(zh) for zh, _ in PAIRS])
def test_both_languages_are_built_alike(zh, en):
    assert headings(zh) == headings(en)
    assert [language for language, _ in blocks(zh)] == [language for language, _ in blocks(en)]
    tables = [len(re.findall(r"^\|", prose(page), re.MULTILINE)) for page in (zh, en)]
    assert tables[0] == tables[1]
    items = [len(re.findall(r"^(?:- |\d+\. )", prose(page), re.MULTILINE)) for page in (zh, en)]
    assert items[0] == items[1]


def settled(word: str) -> str:
    """A word of a command line without what is the reader's to choose, or is written in the page's language."""
    key, equals, _ = word.partition("=")
    if equals and key.startswith(("task.", "data.")):
        return f"{key}="
    return word if word.isascii() and not word.isupper() else "…"


@pytest.mark.parametrize(("zh", "en"), PAIRS, ids=[relative(zh) for zh, _ in PAIRS])
def test_both_languages_give_the_same_commands(zh, en):
    programs = ("weitiao", "make", "pip", "python3", "git")
    chinese, english = (list(commands(page, programs)) for page in (zh, en))
    assert [command[:2] for command in chinese] == [command[:2] for command in english]
    for one, other in zip(chinese, english, strict=True):
        for a, b in zip(map(settled, one), map(settled, other), strict=True):
            assert a == b or "…" in (a, b) or (a.startswith("runs/") and b.startswith("runs/")), (one, other)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_and_images_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path = (page.parent / target.partition("#")[0]).resolve()
        assert path.exists(), f"{relative(page)}: {target}"


WEITIAO_LINES = {shlex.join(command[1:]): None for page in PAGES for command in commands(page, ("weitiao",))}


@pytest.mark.parametrize("line", WEITIAO_LINES)
def test_every_command_line_is_accepted(line):
    """Parsed as the program does, without running it; settings are checked as well."""
    group, arguments = get_command(app), shlex.split(line)
    if arguments in (["--version"], ["--help"]):
        return
    name, *rest = arguments
    command = group.get_command(group.make_context("weitiao", [name]), name)
    assert command is not None, name
    context = command.make_context(name, rest)
    assert not context.args
    overrides = context.params.get("overrides") or []
    if name == "demo":
        method = context.params["method"]
        demo_config("lora" if method == "all" else method, overrides)
    elif name in ("train", "check"):
        config = context.params["config"]
        if config is None:
            assert context.params["resume"], line
        elif Path(config).parts[0] == "recipes":
            load_config(ROOT / config, overrides)
        else:
            load_config(None, overrides)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    for command in commands(page, ("make",)):
        assert set(command[1:]) <= targets, command


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_code_in_the_pages_can_be_read(page):
    for language, content in blocks(page):
        if language == "yaml" and content.startswith("space:"):
            check_tree(TunePlan, parse_yaml(content, relative(page)), relative(page))
        elif language == "yaml" and not content.startswith("# card.yaml"):
            build_config(parse_yaml(content, relative(page)), relative(page))
        elif language == "python":
            names = [alias.name for node in ast.walk(ast.parse(content)) if isinstance(node, ast.ImportFrom) and node.module == "weitiao"
                     for alias in node.names]  # fmt: skip
            import weitiao

            assert set(names) <= set(weitiao.__all__)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`((?:weitiao|recipes|tools|tests|docs)/[\w./-]*)`", prose(page)):
        assert (ROOT / name).exists(), f"{relative(page)}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_settings_that_are_named_exist(page):
    sections = {path.partition(".")[0] for path in SETTINGS if "." in path}
    known = {path[: end.start()] for path in SETTINGS for end in re.finditer(r"\.|$", path)}
    for name in re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_.0-9]+)(?:[=:][^`]*)?`", prose(page)):
        assert name in known or name.endswith((".html", ".py", ".safetensors")), f"{relative(page)}: {name}"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_load(recipe):
    config = load_config(recipe)
    assert build_config(parse_yaml(config.as_yaml(), "saved"), "saved") == config
    named = re.fullmatch(r"(classification|text)_(full|head|lora)", recipe.stem)
    if named:
        assert (config.task.kind, config.method.kind) == named.groups()


def test_every_task_and_method_has_a_recipe():
    wanted = {f"{task}_{method}" for task in ("classification", "text") for method in ("full", "head", "lora")}
    assert wanted <= {recipe.stem for recipe in RECIPES}


def test_decisions_are_short():
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        assert len(read(page).splitlines()) <= 40, page.name


def test_the_repository_names_no_registry_host():
    """Where packages come from is the user's own configuration."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix not in (".safetensors", ".png"):
            content = path.read_text(encoding="utf-8", errors="replace")
            assert not [host for host in REGISTRY_HOSTS if host in content], name
