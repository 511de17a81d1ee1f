"""Runs the notebooks and keeps their outputs, as they stand in the repository: python notebooks/execute.py [NAME ...]

Each runs from top to bottom in a kernel of its own, at the repository's root. Dropped from the outputs is what differs
from run to run: progress and rates (standard error), times, and where the repository lies. The values of SHOWN take the
place of those in the cell tagged "parameters", in that run alone; tests/test_notebooks.py has others, to be quick.
Before that, links to the repository in the notebooks and in README.md become those of `url` in setup.py.
"""

import argparse
import ast
import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.stem: path for path in sorted(ROOT.glob("notebooks/*.ipynb"))}
GEMMA = "runs/gemma.gguf"  # a link to the file that `python launch/fetch_model.py gemma` names
SHOWN: dict[str, dict[str, Any]] = {
    "audit_your_model": {"MODEL": GEMMA},
    "gemma3_270m_lora": {"OPTIONS": f"path={GEMMA},data=cldr,method=dco_all,en=40,steps=90,lora=16,lr=1e-4"},
}
LINK = re.compile(r"(https://(?:github\.com|colab\.research\.google\.com/github)/)[\w.-]+/consistency_jax")


def repository() -> str:
    """OWNER/NAME of `url` in setup.py."""
    found = re.search(r'url="https://github\.com/([\w.-]+/[\w.-]+)"', (ROOT / "setup.py").read_text("utf8"))
    assert found, "setup.py has no url of the form https://github.com/OWNER/NAME"
    return found[1]


def linked(text: str) -> str:
    """The text with the links to the repository that setup.py names."""
    return LINK.sub(rf"\g<1>{repository()}", text)


def executed(notebook: NotebookNode, parameters: dict[str, Any], timeout: int = 3600) -> NotebookNode:
    """A copy of the notebook with the outputs of a run with these parameters.

    Raises:
      ValueError: a parameter that the cell tagged "parameters" does not set.
      nbclient.exceptions.CellExecutionError: a cell that fails.
    """
    run = copy.deepcopy(notebook)
    cell = next(cell for cell in run.cells if "parameters" in cell.metadata.get("tags", ()))
    names = {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
    if unknown := set(parameters) - names:
        raise ValueError(f"the notebook has no parameter {', '.join(sorted(unknown))}")
    written = cell.source
    cell.source = "\n".join([written, *(f"{name} = {value!r}" for name, value in parameters.items())])
    client = NotebookClient(
        run, timeout=timeout, resources={"metadata": {"path": str(ROOT)}}, record_timing=False
    )
    client.execute()
    cell.source = written
    return run


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what belongs to one run or one machine."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(_tidy(output) for output in cell.outputs if output.get("name") != "stderr")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Outputs with a text that came in several messages as one."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _tidy(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(f"{ROOT}/", "")
    if isinstance(value, dict):
        return NotebookNode({key: _tidy(part) for key, part in value.items()})
    return [_tidy(part) for part in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NOTEBOOKS)}; all by default")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NOTEBOOKS):
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(NOTEBOOKS)}")
    for path in (ROOT / "README.md", *NOTEBOOKS.values()):
        path.write_text(linked(path.read_text("utf8")), "utf8")
    for name in args.names or NOTEBOOKS:
        notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
        nbformat.write(tidy(executed(notebook, SHOWN.get(name, {}))), NOTEBOOKS[name])
        print(f"{NOTEBOOKS[name].relative_to(ROOT)}: {NOTEBOOKS[name].stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
