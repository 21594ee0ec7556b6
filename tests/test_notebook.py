"""In a notebook a run shows its progress under the cell and its report as the cell's value: a real kernel, a real training."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

CODE = """
from weitiao import finetune
from weitiao.config import build_config
from weitiao.language import use
use("en")
finetune(build_config({config}, "here"))
"""


@pytest.mark.slow
def test_progress_and_report_stand_in_the_notebook(tiny_model: Path, small_csv: Path, tmp_path: Path) -> None:
    data = {"train": str(small_csv), "max_tokens": 128}
    config = {"model": str(tiny_model), "data": data, "runs": str(tmp_path), "name": "n", "train": {"epochs": 1}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE.replace("{config}", json.dumps(config)))])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    pages = [o["data"]["text/html"] for o in outputs if o.output_type in ("display_data", "execute_result")]
    assert any("<progress" in page and "training" in page and "loss" in page for page in pages)
    assert pages[-1].startswith("<iframe sandbox srcdoc=")
    assert "before training" in pages[-1]
    report = (tmp_path / "n" / "report.html").read_text(encoding="utf-8")
    assert len(pages[-1]) > len(report)
