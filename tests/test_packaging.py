"""What stands in more than one file stands there alike; what a forge, an image or an editor reads can be read."""

import re
from pathlib import Path

import pytest
import yaml

import consistency_jax

ROOT = Path(__file__).resolve().parent.parent


def text(name: str) -> str:
    return (ROOT / name).read_text("utf8")


def test_one_version():
    assert yaml.safe_load(text("CITATION.cff"))["version"] == consistency_jax.__version__
    assert f"\n## {consistency_jax.__version__}" in text("CHANGELOG.md")
    assert not re.search(r'version="', text("setup.py"))  # it is read from the package


def test_one_ruff():
    (hooks,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert f"ruff=={hooks['rev'].removeprefix('v')}" in text("constraints.txt").splitlines()


def test_the_workflow_is_what_the_readme_names():
    (job,) = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    for name in ("test", "aot", "test-slow"):
        assert f"\nmake {name}\n" in text(".ci/run")


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem
)
def test_issue_forms_have_what_a_forge_asks_of_them(path):
    form = yaml.safe_load(path.read_text("utf8"))
    assert {"name", "description", "body"} <= set(form)
    assert all(part["attributes"]["label"] for part in form["body"])


def test_an_image_is_made_of_files_that_it_may_see():
    """Whatever the Dockerfile copies is let through by .dockerignore, and is there."""
    seen = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    for words in re.findall(r"^COPY (.+)$", text("Dockerfile"), re.M):
        for name in words.split()[:-1]:
            assert name.partition("/")[0] in seen
            assert (ROOT / name).exists()


def test_make_alone_prints_the_targets():
    makefile = text("Makefile")
    first = re.search(r"^(\w[\w-]*):", makefile, re.M)[1]
    assert first == "help"
    told = dict(re.findall(r"^([\w-]+):.*## (.+)$", makefile, re.M))
    assert set(re.search(r"^\.PHONY: (.+)$", makefile, re.M)[1].split()) == {"help", *told}
