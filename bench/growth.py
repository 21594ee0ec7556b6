"""How cost grows with tokens, rows, labels and the model's size: `python bench/growth.py --out bench/results/DATE-growth.json`

Every point is a process of each side (bench/run.py's), rounds interleaved, processor seconds of one thread; its most memory counts the
whole process with Python and torch. Training is LoRA r8 over rows that share nothing, answers of 3, a round is one step of one batch;
what a call of the peer's `train` costs whatever the rows is counted, as in bench/run.py. `--draw` draws docs/images/growth-*.svg again
from the results that are there.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cases
from estimate import make_model
from markupsafe import Markup
from run import Side, machine

from weitiao.report.axes import Axis, coordinate, frame, linear_axis, log_axis, tag

IMAGES = Path(__file__).parent.parent / "docs" / "images"
Case = dict[str, Any]


def rows_of(model: str, count: int, tokens: int, shared: int = 0) -> Case:
    """One batch of rows of equal length, the first ``shared`` tokens the same in all."""
    case = cases.long_rows(model, count, 3, tokens, tokens, equal=True)
    case["rows"] = [case["rows"][0][:shared] + row[shared:] for row in case["rows"]]
    return case | {"batch_rows": count, "learning_rate": 1e-5, "rank": 8, "alpha": 16}


MODELS = {9.6: "builtin", 26.8: "random-30m", 85.8: "random-100m", 494.0: "random-494m"}
"""By millions of parameters; all but the first have random weights."""


def model_of(millions: float, folder: Path) -> str:
    """The built-in model, or one made in ``folder``."""
    name = MODELS[millions]
    if name != "builtin" and not (folder / name).exists():
        make_model(name, folder / name)
    return name if name == "builtin" else str(folder / name)


Line = tuple[str, str | None, Callable[[float, Path], Case]]


@dataclass(frozen=True)
class Growth:
    """One quantity that grows: ``lines`` gives each line's worker (mode, environment of a peer or None for ours) and its case."""

    at: tuple[float, ...]
    lines: dict[str, Line]


def _training(case: Callable[[float, Path], Case]) -> dict[str, Line]:
    return {"ours": ("sft-lora", None, case), "TRL": ("trl-lora", "trl", case)}


def _labels(count: float, _: Path) -> Case:
    return cases.labelled(2, cases.INTENTS[: int(count)])


GROWTHS = {
    "tokens": Growth((64, 128, 256, 512, 1024), _training(lambda n, _: rows_of("builtin", 8, int(n)))),
    "rows": Growth(
        (1, 4, 16, 64),
        _training(lambda n, _: rows_of("builtin", int(n), 128))
        | {"shared": ("sft-lora", None, lambda n, _: rows_of("builtin", int(n), 128, shared=96))},
    ),
    "labels": Growth((2, 8, 24, 77), {"ours": ("labels", None, _labels), "lm-eval": ("lm_eval", "lm-eval", _labels)}),
    "parameters": Growth(tuple(MODELS), _training(lambda n, folder: rows_of(model_of(n, folder), 4, 128))),
}


def measure(growth: Growth, rounds: int, peers: Path) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """(line, place, seconds of every round and most memory) of every point; a peer that is not there has none."""
    for at in growth.at:
        with tempfile.TemporaryDirectory() as name:
            sides, folder = {}, Path(name)
            for line, (mode, environment, case) in growth.lines.items():
                python = Path(sys.executable) if environment is None else peers / environment / "bin" / "python"
                if not python.exists():
                    continue
                path = folder / f"{line}.json"
                path.write_text(json.dumps(case(at, folder)), encoding="utf-8")
                sides[line] = Side(str(python), "peers.py" if environment else "ours.py", path, mode, 1, "processor")
            for side in (side for _ in range(rounds) for side in sides.values()):
                side.run()
            for line, side in sides.items():
                side.close()
                found = side.result()
                yield line, at, {"seconds": found["seconds"], "peak_bytes": found["peak_bytes"], "versions": found["versions"]}


WORDS = {
    "zh": {
        "tokens": "每行的 token 数（内置模型，一步 8 行）",
        "rows": "一步的行数（内置模型，每行 128 个 token）",
        "labels": "标签数（内置模型，2 条提示，选项写在提示里）",
        "parameters": "模型参数，百万（一步 4 行，每行 128 个 token）",
        "seconds": "一步的处理器秒数，单线程（对数轴）",
        "seconds of labels": "打分的处理器秒数，单线程（对数轴）",
        "gigabytes": "整个进程的内存峰值，GB",
        "ours": "weitiao",
        "shared": "weitiao，各行前 96 个 token 相同",
        "TRL": "TRL，默认设置",
        "lm-eval": "lm-eval",
        "title": "开销随 token 数、行数、标签数和模型大小的变化",
    },
    "en": {
        "tokens": "tokens of a row (built-in model, 8 rows a step)",
        "rows": "rows of a step (built-in model, 128 tokens each)",
        "labels": "labels (built-in model, 2 prompts with the options)",
        "parameters": "millions of parameters (4 rows of 128 tokens a step)",
        "seconds": "processor seconds of a step, one thread (log scale)",
        "seconds of labels": "processor seconds of scoring, one thread (log scale)",
        "gigabytes": "most memory of the whole process, GB",
        "ours": "weitiao",
        "shared": "weitiao, the rows' first 96 tokens alike",
        "TRL": "TRL, defaults",
        "lm-eval": "lm-eval",
        "title": "How cost grows with tokens, rows, labels and the size of the model",
    },
}
STYLES = {"ours": "ours", "shared": "shared", "TRL": "peer", "lm-eval": "peer"}
SHEET = """
text { font: 12px system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; fill: #3d4451 } .axis { font-weight: 600 }
.grid { stroke: #e3e6eb } .base, .mark { stroke: #8a93a3 } .paper { fill: #fff } .line { fill: none; stroke-width: 2 }
.line.ours { stroke: #1f6feb } .dot.ours { fill: #1f6feb } .line.peer { stroke: #c2571a } .dot.peer { fill: #c2571a }
.line.shared { stroke: #2a7f45; stroke-dasharray: 5 3 } .dot.shared { fill: #2a7f45 }
"""
WIDTH, HEIGHT, PANEL = 900.0, 270.0, 450.0


def panel(points: dict[str, list[tuple[float, float]]], corner: tuple[float, float], titles: tuple[str, str], is_log: bool) -> Markup:
    """One chart with its lines; ``corner``: its left upper one."""
    left, top = corner
    places = sorted({x for line in points.values() for x, _ in line})
    values = [y for line in points.values() for _, y in line]
    y = log_axis(values, top + 200, top + 50) if is_log else linear_axis(values, top + 200, top + 50, zero=True)
    x = Axis(tuple(places), left + 58, left + PANEL - 22, is_log=True)
    parts = [frame(x, y, *titles)]
    for line, found in points.items():
        places_of = [(x(at), y(value)) for at, value in found]
        path = "M" + "L".join(f"{coordinate(a)} {coordinate(b)}" for a, b in places_of)
        parts.append(tag("path", d=path, class_=f"line {STYLES[line]}"))
        for (a, b), (at, value) in zip(places_of, found, strict=True):
            parts.append(tag("circle", tag("title", f"{at:,g}: {value:.3g}"), cx=a, cy=b, r=3.5, class_=f"dot {STYLES[line]}"))
    return Markup("").join(parts)


def picture(axes: dict[str, Any], language: str) -> str:
    """All charts as one SVG: a row for each quantity, seconds on the left, memory on the right."""
    words, parts = WORDS[language], []
    for number, (name, lines) in enumerate(axes.items()):
        top, x = number * HEIGHT, 58.0
        for line in lines:
            parts.append(tag("line", x1=x, x2=x + 22, y1=top + 16, y2=top + 16, class_=f"line {STYLES[line]}"))
            parts.append(tag("text", words[line], x=x + 28, y=top + 20))
            x += 60 + sum(12.0 if ord(letter) > 255 else 6.6 for letter in words[line])
        for left, key, of, is_log in ((0.0, "seconds", "median_seconds", True), (PANEL, "gigabytes", "peak_bytes", False)):
            scale = 1e9 if of == "peak_bytes" else 1.0
            points = {line: [(one["at"], one[of] / scale) for one in found] for line, found in lines.items()}
            title = words[key] if key == "gigabytes" or name != "labels" else words["seconds of labels"]
            parts.append(panel(points, (left, top), (words[name], title), is_log))
    height = len(axes) * HEIGHT
    content = Markup("\n").join([tag("style", Markup(SHEET)), tag("rect", width=WIDTH, height=height, class_="paper"), *parts])
    box = f"0 0 {coordinate(WIDTH)} {coordinate(height)}"
    return str(tag("svg", content, xmlns="http://www.w3.org/2000/svg", viewBox=box, role="img", aria_label=words["title"])) + "\n"


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=Path("build/peers"), help="folder with an environment for each peer: trl, lm-eval")
    parser.add_argument("--only", nargs="*", choices=list(GROWTHS), default=list(GROWTHS), help="the others stay as they are in --out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draw", action="store_true", help="draw the results of --out, measure nothing")
    given = parser.parse_args()
    result = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"axes": {}}
    for name in () if given.draw else given.only:
        lines: dict[str, list[dict[str, Any]]] = {}
        for line, at, found in measure(GROWTHS[name], given.rounds, given.peers):
            lines.setdefault(line, []).append({"at": at, "median_seconds": statistics.median(found["seconds"]), **found})
            print(name, line, at, f"{lines[line][-1]['median_seconds']:.3f} s", f"{found['peak_bytes'] / 1e9:.2f} GB", flush=True)
        axes = result["axes"] | {name: lines}
        result = {
            "command": f"python bench/growth.py --rounds {given.rounds}", "threads": 1, "clock": "processor", "machine": machine(),
            "axes": {key: axes[key] for key in GROWTHS if key in axes},
        }  # fmt: skip
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for language in WORDS:
        (IMAGES / f"growth-{language}.svg").write_text(picture(result["axes"], language), encoding="utf-8")


if __name__ == "__main__":
    main()
