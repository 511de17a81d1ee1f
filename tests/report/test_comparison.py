"""Runs side by side, as text and as pictures: figures, changes, and what is worth a star."""

import re

import pytest

from consistency_jax.report.comparison import (
    columns,
    explained,
    lead,
    markdown_comparison,
    picture,
    terminal_comparison,
    write_comparison,
)


def change(mean: float | None, low: float | None = None, high: float | None = None, sd: float | None = None):
    return {"mean": mean, "low": low, "high": high, "sd": sd}


@pytest.fixture
def comparison() -> dict:
    """A base and two methods, of which one has three seeds; every column has the same numbers."""
    own = {
        "base": ({"mean": 60.0, "sd": None}, change(0.0, 0.0, 0.0)),
        "sft": ({"mean": 64.25, "sd": None}, change(4.25, 1.0, 7.5)),
        "dco <1>": ({"mean": 59.0, "sd": 2.0}, change(-1.0, -3.0, 1.5, 0.5)),
    }
    rows = {
        name: {
            "figures": dict.fromkeys(columns(), figure),
            "against_base": dict.fromkeys(columns(), moved),
            "against_first": dict.fromkeys(columns(), change(None)),
        }
        for name, (figure, moved) in own.items()
    }
    about = {"items": 1200, "languages": ["en", "hi", "sw"], "low_resource": ["hi"]}
    return {
        "settings": {
            "confidence": 0.95,
            "resamples": 200,
            "normalization": "sum",
            "first": "sft",
            "splits": {"test": about},
        },
        "methods": [
            {
                "name": "sft",
                "model": "m<2>",
                "method": "sft, 9 steps of 4 items",
                "runs": ["sft"],
                "seeds": [0],
                "items_per_s": 12.4,
            },
            {"name": "dco <1>", "model": "m<2>", "method": "dco", "runs": ["a", "b", "c"], "seeds": [0, 1, 2]}
            | {"items_per_s": None},
        ],
        "splits": {"test": rows},
    }


def test_markdown_has_a_row_a_method_and_stars_where_the_interval_excludes_0(comparison):
    lines = markdown_comparison(comparison).splitlines()
    assert lines[0] == "`test`, 1,200 questions:"
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}
    assert list(rows) == ["method", "base", "sft", "dco <1>"]
    assert rows["base"] == f"| base | {' | '.join(['60.0'] * len(columns()))} |  |"
    assert "64.2 (+4.2* [+1.0, +7.5])" in rows["sft"]
    assert rows["sft"].endswith("| 12 |")
    assert "59.0 ±2.0 (−1.0 ±0.5 [−3.0, +1.5])" in rows["dco <1>"]  # no star
    assert rows["dco <1>"].endswith("|  |")  # its speed is not known


def test_the_terminal_says_the_same_in_colours(comparison):
    text = terminal_comparison(comparison, color=False)
    assert "test: 1,200 questions in 3 languages" in text
    assert "+4.2*" in text
    assert "-1.0 ±0.5" in text
    assert "\x1b" not in text
    assert re.search(r"\x1b\[32m\+4\.2\*", terminal_comparison(comparison, color=True))  # green


def test_what_the_cells_mean_is_told(comparison):
    told = explained(comparison, "test", "base")
    for words in ("against the base model", "the 95% interval", "up to 3 seeds", "median (hi)"):
        assert words in told
    assert "against sft;" in explained(comparison, "test", "first")


def test_a_picture_has_a_mark_for_every_change_that_is_known(comparison):
    assert picture(comparison, "test").count('class="dot"') == 2 * len(columns())
    assert picture(comparison, "test", against="first").count('class="dot"') == 0


def test_the_page_escapes_names_and_needs_nothing(comparison, tmp_path):
    page = write_comparison(tmp_path, comparison, command="python -m x").read_text("utf8")
    assert "dco &lt;1&gt;" in page
    assert "dco <1>" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.html", "compare.json"]


def test_the_page_opens_with_what_gains_most(comparison):
    assert lead(comparison, "base") == (
        "On the 1,200 questions of test, sft gains most consistency between languages: CLC +4.2 [+1.0, +7.5], "
        "English accuracy +4.2 [+1.0, +7.5], accuracy in the other languages +4.2 [+1.0, +7.5]."
    )
    own = comparison["splits"]["test"]["sft"]["against_base"]
    without = own | {"accuracy_en": own["accuracy_en"] | {"mean": None}}
    comparison["splits"]["test"]["sft"]["against_base"] = without
    assert lead(comparison, "base").endswith("CLC +4.2 [+1.0, +7.5], mean accuracy +4.2 [+1.0, +7.5].")
    assert lead(comparison, "first") == ""  # nothing is known against it
    rows = comparison["splits"]["test"]
    rows["sft"]["against_base"] = dict.fromkeys(columns(), change(-0.02, -1.0, 1.0))
    told = lead(comparison, "base")
    assert "no method measurably gains consistency; the best is sft, CLC 0.0 [\u22121.0, +1.0]" in told
