"""The pages: links lead somewhere, the README is short, and its layout is the tree."""

import re
from pathlib import Path

import pytest

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
        assert not ours or "NAME" in name or any(place.exists() for place in places), name
    for name in re.findall(r"python -m (consistency_jax\.\w+)", text):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


def test_the_readme_is_read_in_five_minutes():
    assert len(README.splitlines()) <= 220


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
