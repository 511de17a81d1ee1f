"""The pages: links lead somewhere, the layout in the README is the tree, and what is shown to add can be added."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from test_house import FLOORS

from consistency_jax.data.examples import Examples
from consistency_jax.data.items import ParallelItem
from consistency_jax.data.sources import SOURCES, load_items
from consistency_jax.objectives import OBJECTIVES, registry
from consistency_jax.report import figures, summarise, terminal_table
from consistency_jax.selection.needs import Given
from consistency_jax.selection.summary import Summary
from consistency_jax.table import Table

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text("utf8")
FENCED = re.compile(r"^ *```.*?^ *```$", re.S | re.M)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text("utf8")), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_of_it(page: Path):
    for link in re.findall(r"\]\(([^()\s]+)\)", FENCED.sub("", page.read_text("utf8"))):
        if "://" not in link:
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
            assert target.exists(), f"{link} leads nowhere"
            assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_module_that_a_page_names_is_there(page: Path):
    text = page.read_text("utf8")
    for name in re.findall(r"(?<![\w/.])((?:\w+/)+\w+\.(?:py|sh|sbatch|ipynb))", text):
        places = [folder / name for folder in (ROOT, ROOT / "consistency_jax")]
        ours = any((folder / name.split("/")[0]).is_dir() for folder in (ROOT, ROOT / "consistency_jax"))
        shown = page.name == "adding.md" and f"`{name}`" in text  # what the page adds
        assert not ours or shown or "NAME" in name or any(place.exists() for place in places), name
    for name in re.findall(r"python -m (consistency_jax\.\w+)", text):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


def test_the_readme_is_read_in_five_minutes():
    assert len(README.splitlines()) <= 220


def test_the_questions_in_the_readme_can_be_pasted(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text(re.search(r"```json\n(.*?)```", README, re.S)[1], "utf8")
    train, test = (load_items("jsonl", path=file, split=split) for split in ("train", "test"))
    assert (len(train), len(test), train.warnings + test.warnings) == (2, 1, [])


def test_every_page_can_be_reached_from_the_readme():
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            links = re.findall(r"\]\(([^()\s#]+)[^()\s]*\)", page.read_text("utf8"))
            ahead += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert set(PAGES) <= seen


def test_the_layout_in_the_readme_is_the_tree():
    layout = README[README.index("## Layout") :]
    folders = {p.parent.name for p in (ROOT / "consistency_jax").glob("*/__init__.py")}
    files = {p.name for p in (ROOT / "consistency_jax").glob("*.py")} - {"__init__.py"}
    assert {name for name in folders if f"{name}/" not in layout} == set()
    assert {name for name in files if name not in layout} == set()
    configs = {p.name for p in (ROOT / "configs").glob("*.py")}
    assert {name for name in configs if name not in layout} == set()


# -------------------------------------------------------------------------------------------------- docs/design.md
DESIGN = (ROOT / "docs" / "design.md").read_text("utf8")


def first_cells(after: str) -> list[list[str]]:
    """The cells of the first table behind some words, without its title."""
    lines = DESIGN[DESIGN.index(after) :].split("\n\n|", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_floors_are_those_that_are_held():
    floors: list[set[str]] = []
    for number, rooms, _ in first_cells("## The rooms"):
        if number:
            floors.append(set())
        floors[-1] |= set(re.findall(r"`(\w+)`", rooms))
    assert floors == [set(rooms) for rooms in FLOORS]


@pytest.mark.parametrize(
    ("after", "most"), [("From a key of the config", 6), ("From one JSONL question", 16)]
)
def test_walks_are_short_and_through_files_that_are_there(after, most):
    files = [cells[0].strip("`") for cells in first_cells(after)]
    assert 3 < len(set(files)) == len(files) <= most
    assert [name for name in files if not (ROOT / "consistency_jax" / name).exists()] == []


# -------------------------------------------------------------------------------------------------- docs/adding.md
ADDING = (ROOT / "docs" / "adding.md").read_text("utf8")


@pytest.fixture
def shown(monkeypatch):
    """Makes a module of the page importable under its name, and returns it."""

    def load(path: str) -> types.ModuleType:
        code = re.search(rf"`consistency_jax/{re.escape(path)}`.*?```python\n(.*?)```", ADDING, re.S)[1]
        name = f"consistency_jax.{path.removesuffix('.py').replace('/', '.')}"
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, path, "exec"), module.__dict__)
        return module

    return load


def row(name: str) -> str:
    """The lines of a registry that the page shows."""
    return re.search(rf"```python\n({name}.*?)```", ADDING, re.S)[1]


def test_the_metric_that_is_shown_is_in_a_summary(shown, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", list(figures.FIGURES))
    exec(row("FIGURES"), vars(figures) | {"spread": shown("metrics/answers.py").spread})
    # Three languages: all agree, two agree, none does.
    first = np.array([[0, 0, 0], [1, 1, 2], [0, 1, 2]])
    logp = np.eye(3, dtype=np.float32)[first]
    ones = np.ones(logp.shape, np.int32)
    gold = np.zeros(3, np.int32)
    table = Table(("a", "b", "c"), ("en", "de", "sw"), logp, ones, ones, ones > 0, gold)
    summary = summarise(table, None, normalization="sum", resamples=20)
    assert summary["base"]["test"]["spread"] == 1.0
    assert "Different answers, less one" in terminal_table(summary, color=False)


def test_the_data_set_that_is_shown_is_read(shown, monkeypatch, tmp_path):
    module = shown("data/sources/capitals.py")
    assert f'"capitals": "{module.__name__}",' in ADDING
    monkeypatch.setitem(SOURCES, "capitals", module.__name__)
    rows = [("id", "question_en", "answers_en", "question_sw", "answers_sw")]
    rows += [(f"c{n}", f"Capital {n}?", "Paris|Rome", f"Mji mkuu {n}?", "Paris|Roma") for n in range(10)]
    (tmp_path / "capitals.tsv").write_text("".join("\t".join(cells) + "\n" for cells in rows), "utf8")
    items = load_items("capitals", path=tmp_path / "capitals.tsv", split="train")
    assert len(items) == 8
    assert items[0].candidates == {"en": (" Paris", " Rome"), "sw": (" Paris", " Roma")}
    assert (items[0].gold, items.languages) == (0, ("en", "sw"))


def test_the_objective_that_is_shown_is_called_by_a_config(shown, monkeypatch):
    monkeypatch.setattr(registry, "OBJECTIVES", dict(OBJECTIVES))
    exec(row("OBJECTIVES"), vars(registry) | vars(shown("objectives/choice.py")))
    loss, reference = registry.make_objective({"name": "choice", "softness": 2.0}, ("en",))
    assert not reference
    mask = np.array([[[True, True, False]], [[True, True, True]]])
    policy = np.array([[[1.0, -1.0, 9.0]], [[0.0, 0.0, 0.0]]], np.float32)
    examples = Examples(mask, mask.astype(np.int32), np.array([0, -1]), *[None] * 6)
    value, metrics = loss(registry.Outputs(policy, None), examples)
    assert float(value) == pytest.approx(np.log1p(np.exp(-1.0)))  # of the labelled item: -log sigmoid(2 / 2)
    assert (int(metrics["items"]), float(metrics["weight"])) == (1, 1.0)


def test_the_selection_that_is_shown_makes_pairs(shown):
    selection = shown("selection/longest.py").LONGEST
    assert '`"longest": LONGEST`' in ADDING
    texts = {"en": (" a", " abc", " ab"), "sw": (" a", " b", " c")}
    items = [ParallelItem("q", "", {"en": "x", "sw": "y"}, texts)]
    summary = Summary("longest", ("en", "sw"))
    (pair,) = selection.make(Given(None, items, ("en", "sw"), None, summary, 0))
    assert (pair.language, pair.chosen, pair.rejected) == ("en", " abc", " a")
    assert summary.to_json()["languages"]["sw"]["dropped"] == {"all are as long": 1}


def test_the_family_that_is_shown_reads_and_writes_its_config(shown):
    family = shown("models/families/toy.py").FAMILY
    keys = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    config = family.from_hf(keys | {"num_attention_heads": 2, "norm_epsilon": 1e-4, "biased": True})
    assert (config.mlp_bias, config.norm_eps, config.head_dim) == (True, 1e-4, 4)
    assert family.from_hf(family.to_hf(config)) == config
    assert family.names(config)["layers/attention_norm/scale"].name == "model.layers.{layer}.ln_1.weight"
