"""The notebook for a free GPU runs top to bottom, and is committed without outputs."""

import os

import nbformat
import pytest
from conftest import ROOT, ran
from nbclient import NotebookClient

NOTEBOOK = ROOT / "notebooks/fincompress_colab.ipynb"


def test_the_notebook_is_valid_and_has_no_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(
        cell.outputs == [] and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code"
    )


@pytest.mark.e2e
@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom_and_shows_table_and_figures(project, monkeypatch):
    for name, value in {
        **project.environment(),
        "FINCOMPRESS_CASE": "embedded",
        "PYTHONPATH": str(project.root),
    }.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    project.set_param("plots.dpi", 60)  # so that there is something to run, but little
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(project.root)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert ran(printed) == ["plots"]
    shown = [output.data for output in outputs if output.output_type == "display_data"]
    assert any("| `kd_ort_int8` |" in data.get("text/markdown", "") for data in shown)
    assert sum("image/png" in data for data in shown) >= len(os.listdir(project.root / "plots/figures"))
