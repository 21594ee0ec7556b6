"""The model card: what somebody who gets only the model should know, in Markdown, from the run folder alone."""

import re
from contextvars import copy_context
from pathlib import Path

import yaml

from weitiao import storage
from weitiao.language import Language, t, use
from weitiao.report import facts
from weitiao.report.figures import systems
from weitiao.report.folder import Json, Reading, RunFolder, metric, parse_plain_yaml, read_folder, safe
from weitiao.report.forgetting import forgetting_lines
from weitiao.report.headline import build_headline, text_readings
from weitiao.report.numbers import count, estimate
from weitiao.report.rows import file_rows
from weitiao.report.words import metric_title
from weitiao.report.written import is_written

_METRICS = (
    "accuracy", "macro_f1", "micro_f1", "weighted_f1", "macro_precision", "macro_recall", "log_loss", "calibration_error",
    "reward_accuracy", "reward_margin", "margin",
)  # fmt: skip
_TEXT_METRICS = ("bits_per_character", "perplexity", "loss")


def build_model_card(run: Path, language: Language | None = None) -> Path:
    """Write ``run/MODEL_CARD.md`` atomically and return its path.

    What only people can say (intended use, licence, …) is taken from the optional ``run/card.yaml``; what nobody filled in is
    "not stated". Language and purity as in :func:`~weitiao.report.build.build_report`. Raises DataError if it is no run folder.
    """
    card = copy_context().run(_render, run, language)
    path = run / "MODEL_CARD.md"
    storage.write_text(path, card)
    return path


def _render(run: Path, language: Language | None) -> str:
    if language is not None:
        use(language)
    folder = read_folder(run)
    use(language or folder.language)
    parts = [
        f"# {plain(str(folder.run.get('name') or folder.run.get('id') or folder.name))}",
        t("由 weitiao 微调得到的模型。", "A model fine-tuned with weitiao."),
        *(plain(sentence) for sentence in build_headline(folder).sentences),
        _section(t("由人填写", "Stated by people"), _stated(run)),
        _section(t("基础模型", "Base model"), _list(facts.model_facts(folder))),
        _section(t("数据", "Data"), _data(folder)),
        _section(t("训练", "Training"), _list([*facts.method_facts(folder), *facts.training_facts(folder), *facts.time_facts(folder)])),
        _section(t("评测", "Evaluation"), _evaluation(folder)),
        *([_section(t("遗忘", "Forgetting"), _bullets(lines))] if (lines := forgetting_lines(folder)) else []),
        _section(t("花费与硬件", "Cost and hardware"), _cost(folder)),
        _section(t("版本", "Versions"), _list(facts.version_facts(folder)) or not_stated()),
        _section(t("重复这次训练", "Repeat this run"), code(facts.repeat_command(folder)) + "\n\n" + _config(folder)),
        _section(t("没有测量的", "What was not measured"), _bullets(facts.not_measured(folder))),
        _section(t("使用之前", "Before you use it"), _bullets(facts.responsible_use())),
    ]
    return "\n\n".join(parts) + "\n"


def not_stated() -> str:
    """What stands where nobody filled anything in."""
    return t("未说明", "not stated")


def plain(text: str) -> str:
    """``text`` on one line, with everything escaped that Markdown or HTML would take for markup."""
    line = " ".join(text.split())
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    escaped = re.sub(r"^([-+=])", r"\\\1", re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", escaped))
    return re.sub(r"(?i)(https?|ftp|mailto)(:)|(www)(\.)", _unlink, escaped)


def _unlink(match: re.Match[str]) -> str:
    """An address is shown, but is no link: its colon or dot is written as a character reference."""
    return f"{match[1]}&#58;" if match[1] else f"{match[3]}&#46;"


def code(text: str) -> str:
    """``text`` as a fenced block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"


def _section(title: str, content: str) -> str:
    return f"## {title}\n\n{content}"


def _list(items: facts.Facts) -> str:
    return "\n".join(f"- {plain(term)}{t('：', ': ')}{plain(value)}" for term, value in items)


def _bullets(items: list[str]) -> str:
    return "\n".join(f"- {plain(item)}" for item in items)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [[plain(cell) for cell in head], ["---"] * len(head), *[[plain(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_LARGEST_CARD_BYTES = 1_000_000


def _stated(run: Path) -> str:
    """The fields of card.yaml. A field that is absent is not stated; one that is not known here is printed under its own name."""
    titles = {
        "intended_use": t("用途", "Intended use"),
        "out_of_scope": t("不适合的用途", "Out of scope"),
        "license": t("许可证", "Licence"),
        "data_origin": t("数据来源与许可", "Origin and licence of the data"),
        "personal_data": t("数据中的个人信息", "Personal data in the data"),
        "contact": t("联系人", "Contact"),
    }
    stated = _card_fields(run / "card.yaml")
    items = [(title, stated.pop(name, "") or not_stated()) for name, title in titles.items()]
    hint = t(
        "要填写，请在结果文件夹里放一个 card.yaml，键为：",
        "To fill these in, put a card.yaml into the run folder, with the keys: ",
    )
    return _list([*items, *stated.items()]) + "\n\n" + plain(hint + ", ".join(titles))


def _card_fields(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LARGEST_CARD_BYTES:
            raise ValueError(path)
        value = parse_plain_yaml(safe(path.read_text(encoding="utf-8-sig", errors="replace")))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {"card.yaml": t("不是 YAML，没有读", "is not YAML and was not read")}
    return {safe(str(key)): safe(str(item)) for key, item in value.items() if item} if isinstance(value, dict) else {}


def _data(folder: RunFolder) -> str:
    files = file_rows(folder)
    if not files:
        return not_stated()
    head = [
        t("文件", "file"),
        t("用于", "split"),
        t("读入", "rows in"),
        t("用上", "used"),
        t("其中截短", "shortened"),
        t("拒绝", "rejected"),
        "SHA-256",
    ]
    body = [[one.path, one.split, one.rows_in, one.used, one.shortened, one.rejected, one.sha256] for one in files]
    found = facts.findings(folder)
    return _table(head, body) + ("\n\n" + t("数据检查的发现：", "Findings of the audit:") + "\n\n" + _bullets(found) if found else "")


def _evaluation(folder: RunFolder) -> str:
    if is_written(folder):
        measured_names = (folder.after or folder.before).get("metrics") or {}
        both = [(name, metric(folder.before, name), metric(folder.after, name)) for name in measured_names]
        return _table(
            ["", t("训练前", "before"), t("训练后", "after")],
            [[metric_title(name), _shown(before), _shown(after)] for name, before, after in both],
        )
    if not folder.is_scored:
        pairs = [(name, *text_readings(folder, name)) for name in _TEXT_METRICS]
        rows = [[metric_title(name), _shown(before), _shown(after)] for name, before, after in pairs if before or after]
        return _table(["", t("训练前", "before"), t("训练后", "after")], rows) if rows else t("没有验证结果。", "Nothing was validated.")
    rows = []
    for system in systems(folder):
        measured = [(name, metric(system.evaluation, name)) for name in _METRICS]
        rows.extend([system.title, metric_title(name), _shown(value)] for name, value in measured if value is not None)
    if not rows:
        return t("没有评测结果。", "Nothing was evaluated.")
    head = [t("对象", "system"), t("指标", "metric"), t("数值 [95% 区间]（n）", "value [95 % interval] (n)")]
    return _table(head, rows) + _per_class(folder.after)


def _shown(value: Reading | None) -> str:
    if value is None:
        return not_stated()
    n = t("n 未记录", "n not recorded") if value.n is None else f"n = {count(value.n)}"
    return t(f"{estimate(value)}（{n}）", f"{estimate(value)} ({n})")


def _per_class(evaluation: Json) -> str:
    per_class = evaluation.get("per_class")
    if not isinstance(per_class, dict) or not per_class:
        return ""
    names = ("precision", "recall", "f1")
    head = [t("标签", "label"), t("精确率", "precision"), t("召回率", "recall"), "F1", "n"]
    body = []
    for label, one in per_class.items():
        values = [metric({"metrics": one}, name) for name in names] if isinstance(one, dict) else []
        body.append([label, *(f"{value.value:.3f}" if value else not_stated() for value in values), count(one.get("support"))])
    return "\n\n" + _table(head, body)


def _cost(folder: RunFolder) -> str:
    phases = [(row.title, row.duration) for row in facts.phase_rows(folder)]
    return _list([*phases, *facts.hardware_facts(folder)])


def _config(folder: RunFolder) -> str:
    return code(folder.config_text) if folder.config_text else t("没有 config.yaml。", "There is no config.yaml.")
