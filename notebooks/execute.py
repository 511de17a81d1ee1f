"""Runs the notebooks and keeps their outputs, as they stand in the repository: python notebooks/execute.py [NAME ...]

Each runs from top to bottom in a kernel of its own, at the repository's root. Dropped from the outputs is what differs
from run to run: progress and rates (standard error), times, and where the repository lies. The values of SHOWN take the
place of those in the cell tagged "parameters", in that run alone; tests/test_notebooks.py has others, to be quick.
Before that, the notebooks and README.md get their links "Open in Colab", to REPOSITORY of setup.py; none where that
is empty.
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
BADGE = re.compile(r"\s*\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"


def repository() -> str:
    """NAME/consistency_jax of REPOSITORY in setup.py; "" where there is none yet."""
    text = (ROOT / "setup.py").read_text("utf8")
    found = re.search(r'^REPOSITORY = "(?:https://github\.com/([\w.-]+/[\w.-]+))?"', text, re.MULTILINE)
    assert found, "REPOSITORY in setup.py is not of the form https://github.com/NAME/consistency_jax"
    return found[1] or ""


def badge(name: str, of: str) -> str:
    """The link that opens a notebook of a repository in Colab."""
    return f"[![Open in Colab]({IMAGE})](https://colab.research.google.com/github/{of}/blob/main/notebooks/{name}.ipynb)"


def linked(readme: str, of: str) -> str:
    """README.md with a link behind each notebook's, or without."""
    behind = (lambda name: f" {badge(name, of)}") if of else (lambda name: "")
    return re.sub(
        r"\(notebooks/(\w+)\.ipynb\)", lambda found: found[0] + behind(found[1]), BADGE.sub("", readme)
    )


def titled(first: str, name: str, of: str) -> str:
    """The first cell of a notebook with the link below its title, or without."""
    title, _, rest = BADGE.sub("", first).partition("\n")
    return "\n".join([title, *(["", badge(name, of)] if of else []), rest])


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
    readme = ROOT / "README.md"
    readme.write_text(linked(readme.read_text("utf8"), repository()), "utf8")
    for name in args.names or NOTEBOOKS:
        notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
        notebook.cells[0].source = titled(notebook.cells[0].source, name, repository())
        nbformat.write(tidy(executed(notebook, SHOWN.get(name, {}))), NOTEBOOKS[name])
        print(f"{NOTEBOOKS[name].relative_to(ROOT)}: {NOTEBOOKS[name].stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
