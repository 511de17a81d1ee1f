"""Pages and tables of strange names: no text of the data is markup, a script or a command to a terminal.

Names that the data readers refuse (control characters) do not come this far; everything else may.
"""

import functools
import html.parser
import random
from pathlib import Path

import numpy as np
import pytest
from mutations import Outcomes

from consistency_jax.data.items import ParallelItem
from consistency_jax.report import summarise, terminal_table, write_report
from consistency_jax.table import Table

pytestmark = pytest.mark.slow
TEXTS = (
    *(
        "<script>alert(1)</script>",
        "</script><script>alert(1)</script>",
        "<!-- x",
        "]]>",
        "&lt;b&gt;",
        "'\" onload=x",
    ),
    *(
        "{{ 1 / 0 }}",
        "{% for %}",
        "[red]x[/red]",
        "\\u001b[31m",
        "%s %d {0}",
        "| a | b |",
        "no",
        "on",
        "~",
        "null",
        "1e3",
    ),
    *(
        "---",
        "- x: y",
        "\u202e abc",
        "\u2028",
        "é" * 300,
        "العربية",
        "𝕏",
        "a b",
        "__proto__",
        "constructor",
        "0",
    ),
)


class Tags(html.parser.HTMLParser):
    """What a page is made of: its elements with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append(tag + "".join(sorted(f" {name}" for name, _ in attrs if name.startswith("on"))))


def table_of(items: list[ParallelItem], languages: list[str], draw: np.random.Generator) -> Table:
    shape = (len(items), len(languages), 3)
    return Table(
        ids=tuple(item.id for item in items),
        languages=tuple(languages),
        logp=draw.normal(size=shape).astype(np.float32),
        length=np.ones(shape, np.int32),
        bytes=np.ones(shape, np.int32),
        mask=np.ones(shape, bool),
        gold=np.zeros(len(items), np.int32),
    )


def test_pages_of_strange_names(tmp_path: Path) -> None:
    outcomes, tags = Outcomes(), []
    for number in range(45):
        draw = random.Random(number)
        languages = ["en", *draw.sample(TEXTS, 2)] if number else ["en", "de", "fr"]
        word = functools.partial(draw.choice, TEXTS if number else ("word",))
        items = [
            ParallelItem(
                f"{n} {word()}",
                word(),
                dict.fromkeys(languages, word()),
                {language: tuple(f"{k} {word()}" for k in range(3)) for language in languages},
                gold=0,
            )
            for n in range(6)
        ]
        rng = np.random.default_rng(number)
        sides = [{"test": table_of(items, languages, rng)} for _ in range(2)]
        folder = tmp_path / str(number)

        def made(sides=sides, items=items, folder=folder, word=word):
            groups = {"test": [item.group for item in items]}
            summary = summarise(*sides, groups=groups, normalization="sum", resamples=20)
            page = write_report(
                folder, summary, *sides, {"test": items}, config={"k": word()}, command=word()
            )
            return summary, page.read_text("utf8")

        found = outcomes.of(f"page {number}", made)
        assert not isinstance(found, Exception), (number, found)
        summary, page = found
        parser = Tags()
        parser.feed(page)
        tags.append({tag for tag in parser.found if tag.startswith("script") or " on" in tag})
        shown = terminal_table(summary, color=False)
        assert not [c for c in shown if c < " " and c != "\n"], number
    assert all(own == tags[0] for own in tags)
