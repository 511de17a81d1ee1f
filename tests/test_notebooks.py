"""The notebooks: what is committed is whole and belongs to no machine, and every cell runs."""

import importlib.util
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
execute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execute)


def read(name: str):
    return nbformat.read(execute.NOTEBOOKS[name], as_version=4)


@pytest.mark.parametrize("name", execute.NOTEBOOKS)
def test_what_is_committed_has_run_from_top_to_bottom(name: str):
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert cell.outputs or "parameters" in cell.metadata.get("tags", ()), cell.source
        assert all(output.output_type != "error" for output in cell.outputs)
        assert all(output.get("name") != "stderr" for output in cell.outputs)


@pytest.mark.parametrize("name", execute.NOTEBOOKS)
def test_what_is_committed_is_small_and_of_no_machine(name: str):
    text = execute.NOTEBOOKS[name].read_text("utf8")
    assert len(text.encode()) < 400_000
    for place in (str(ROOT), str(Path.home()) + "/", "/tmp/", "site-packages"):
        assert place not in text


def test_links_lead_to_the_repository_of_setup_py():
    readme = (ROOT / "README.md").read_text("utf8")
    assert execute.linked(readme, execute.repository()) == readme
    for name in execute.NOTEBOOKS:
        first = read(name).cells[0].source
        assert execute.titled(first, name, execute.repository()) == first
        badge = execute.badge(name, "me/consistency_jax")
        assert f"/github/me/consistency_jax/blob/main/notebooks/{name}.ipynb" in badge
        linked = execute.linked(readme, "me/consistency_jax")
        assert f"(notebooks/{name}.ipynb) {badge}" in linked
        assert execute.linked(linked, "") == execute.linked(readme, "")
        titled = execute.titled(first, name, "me/consistency_jax")
        assert titled.splitlines()[2] == badge
        assert execute.titled(titled, name, "me/consistency_jax") == titled
        assert execute.titled(titled, name, "") == execute.titled(first, name, "")


# quickstart and gemma3 prepare data and pretrain: seconds of a fast test that test_recipes.py spends already.
@pytest.mark.parametrize(
    "name",
    [
        "audit_your_model",
        "methods",
        pytest.param("quickstart", marks=pytest.mark.slow),
        pytest.param("gemma3_270m_lora", marks=pytest.mark.slow),
    ],
)
def test_every_cell_runs(name: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    folders = {key: str(tmp_path / key) for key in ("WORKDIR", "EXPORT", "ADAPTER")}
    parameters = {
        "audit_your_model": {"MODEL": str(small_model), "WORKDIR": folders["WORKDIR"]},
        "methods": {"STEPS": 40},
        "quickstart": {"STEPS": 2, "PRETRAIN_STEPS": 2} | {k: folders[k] for k in ("WORKDIR", "EXPORT")},
        "gemma3_270m_lora": {
            "OPTIONS": f"path={small_model},data=cldr,method=dco_all,languages=en+fr,en=40,lora=2,steps=2"
        }
        | folders,
    }[name]
    run = execute.executed(read(name), parameters, timeout=900)
    kept = {cell.id: cell.source for cell in read(name).cells}
    assert {cell.id: cell.source for cell in run.cells} == kept  # parameters are of the run alone
    drawn = [o for cell in run.cells for o in cell.get("outputs", ()) if "image/svg+xml" in o.get("data", ())]
    assert len(drawn) >= 1
    if "EXPORT" in parameters:
        # In a notebook rich would show the table itself, and leave the model card without one.
        assert "CLC (RankC x 100)" in Path(folders["EXPORT"], "README.md").read_text("utf8")


def test_a_parameter_that_a_notebook_does_not_have_is_named():
    with pytest.raises(ValueError, match="no parameter STEP"):
        execute.executed(read("methods"), {"STEP": 1})
