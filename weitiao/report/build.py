"""The report of a run: one self-contained HTML page, a pure function of the run folder (no clock, no network)."""

from contextvars import copy_context
from pathlib import Path
from typing import Any

from weitiao import storage
from weitiao.language import Language, use
from weitiao.report import facts, figures, rows, sections, written
from weitiao.report.card import build_model_card
from weitiao.report.diagnosis import diagnose
from weitiao.report.folder import RunFolder, dig, read_folder
from weitiao.report.forgetting import forgetting_table
from weitiao.report.headline import build_headline
from weitiao.report.pages import render
from weitiao.report.words import reward_metrics, state_title, task_title

MAX_CONFIG_CHARACTERS = 20_000
MAIN_METRICS = ("accuracy", "macro_f1", "log_loss", "calibration_error", "reward_accuracy", "reward_margin", "margin")


def build_report(run: Path, language: Language | None = None) -> Path:
    """Write ``run/report.html`` atomically and return its path.

    ``language``: absent, ``report.language`` of config.yaml; absent there, the locale's. What the folder lacks (a failed run,
    a text task) is said on the page. The same folder gives the same bytes. Raises DataError if ``run`` is not a run folder.
    """
    # A context of its own: the page's language must not leak into the caller's messages.
    html = copy_context().run(_render, run, language)
    path = run / "report.html"
    storage.write_text(path, html)
    return path


def build_pages(run: Path, language: Language | None = None) -> Path:
    """Write the model card and the report of ``run`` and return the report's path; as :func:`build_report`."""
    build_model_card(run, language)
    return build_report(run, language)


def _render(run: Path, language: Language | None) -> str:
    if language is not None:
        use(language)
    folder = read_folder(run)
    use(language or folder.language)
    return render("report.html.j2", _context(folder))


def _context(folder: RunFolder) -> dict[str, Any]:
    """Everything that the template prints."""
    config = folder.config_text
    return {
        "run": folder,
        "title": str(folder.run.get("name") or folder.run.get("id") or folder.name),
        "state": state_title(str(folder.run.get("state"))),
        "task": task_title(folder.task),
        "headline": build_headline(folder),
        "main_table": sections.metric_table(folder, (*MAIN_METRICS, *reward_metrics(folder))),
        "text_table": None if folder.is_scored else sections.metric_table(folder, ("bits_per_character", "perplexity", "loss")),
        "other_table": sections.metric_table(folder, ("micro_f1", "weighted_f1", "macro_precision", "macro_recall", "loss")),
        "pairs": sections.pair_rows(folder),
        "forgetting": forgetting_table(folder),
        "comparison_figures": figures.comparison_figures(folder),
        "curves": figures.curve_figures(folder),
        "diagnoses": diagnose(folder),
        "has_best_step": dig(folder.run, "training", "best_metric", "value") is not None,
        "matrix_after": sections.matrix(folder.after),
        "matrix_before": sections.matrix(folder.before),
        "classes": sections.class_rows(folder),
        "calibration": figures.calibration(folder),
        "files": rows.file_rows(folder),
        "lengths": figures.length_figures(folder),
        "labels": rows.label_counts(folder),
        "topics": rows.topics(folder),
        "shortened": rows.shortened_rows(folder),
        "rejected": rows.rejected_rows(folder),
        "example": rows.audited_example(folder),
        "findings": rows.finding_rows(folder),
        "errors": rows.worst_errors(folder),
        "changes": rows.changes(folder),
        "rollouts": rows.rollout_rows(folder),
        "written": written.metric_rows(folder),
        "writing_notes": written.writing_notes(folder),
        "answers": written.answer_cards(folder),
        "phases": facts.phase_rows(folder),
        "method_facts": facts.method_facts(folder),
        "model_facts": facts.model_facts(folder),
        "training_facts": facts.training_facts(folder),
        "hardware_facts": facts.hardware_facts(folder),
        "version_facts": facts.version_facts(folder),
        "time_facts": facts.time_facts(folder),
        "config_text": config[:MAX_CONFIG_CHARACTERS],
        "config_is_cut": len(config) > MAX_CONFIG_CHARACTERS,
        "command": facts.repeat_command(folder),
        "not_measured": facts.not_measured(folder),
        "responsible_use": facts.responsible_use(),
    }
