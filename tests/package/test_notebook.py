"""The notebook runs from its first cell to its last, as a reader would run it."""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples/first_state.ipynb"


def printed(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_the_notebook_runs(lm):  # `lm`: the embedded model is there
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    NotebookClient(notebook, timeout=240).execute(env={**os.environ, "PYTHONPATH": path})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert printed(cells[0]) == "", "nothing is installed where cedkv is there"
    assert "became 8 slots" in printed(cells[2])
    assert printed(cells[3]).count("student:") == 3
    assert len(printed(cells[4]).splitlines()) == 8


def test_the_notebook_is_kept_without_output():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert cell.cell_type != "code" or (cell.outputs, cell.execution_count) == ([], None)
