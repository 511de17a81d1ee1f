"""What a row of figures.py may say, and the columns that a figure is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from consistency_jax.data.examples import ANCHOR
from consistency_jax.report.names import language_name
from consistency_jax.table import KNOWN


@dataclass(frozen=True, eq=False)
class Block:
    """What the columns of a figure stand for.

    name: in words; size: how many columns there are with L languages.
    parts: what figures are made of them, by the end of their key in report.json, and of their label.
    """

    name: str
    size: Callable[[int], int]
    parts: Mapping[str, str]


_WITH, _OWN = f", with {language_name(ANCHOR)}", f", {language_name(ANCHOR)}"
PAIRS = Block("pairs of languages", lambda n: n * (n - 1) // 2, {"_all": ", all pairs", "_en": _WITH})
ORDERED = Block("ordered pairs of languages", lambda n: n * n, {})  # row by row, the diagonal too
LANGUAGES = Block("languages", lambda n: n, {"_en": _OWN, "_non_en": ", others"})
SINGLE = Block("one value a question", lambda n: 1, {"": ""})


@dataclass(frozen=True, eq=False)
class Figure:
    """A row.

    Args:
      name: what keys of report.json begin with.
      block: what the columns stand for: PAIRS (in the order of `language_pairs`), ORDERED, LANGUAGES or SINGLE.
      columns: of what is measured (`FIGURES`: a `Ranked` table), one value an item and column, f64[N, M] (of SINGLE
        f64[N]), or (values, weights); NaN where an item does not speak about it. Figures are means over items.
      of_means: makes the M columns of means over items of S statistics, f64[..., S, M], where they are no means
        themselves; `columns` are then f64[N, S, M].
      label: what tables call it.
      better: whether more is better; None for neither: its change gets no colour.
      definition: for the page, in a sentence or two.
      derived: further figures: "variance" over LANGUAGES and "gap", their best less their worst, "matrix" of PAIRS with
        each language's mean, "groups": of groups of languages.
      of_change: it compares with the model before: there is none of a model alone.
      section: of the page, "figures" or "divergence"; empty: it stands in report.json alone.
      headline: keys that open a split's part of the page.
      terminal: title of its lines on the terminal, and of the page's table of LANGUAGES; empty for none.
      compare: keys that are columns of `compare`'s tables.
      needs: what must be known of a table, of `table.KNOWN`; else it is NaN.

    Raises:
      ValueError: for keys that the figure does not have.
    """

    name: str
    block: Block
    columns: Callable[[Any], Any] | None = None
    label: str = ""
    better: bool | None = True
    definition: str = ""
    derived: tuple[str, ...] = ()
    of_change: bool = False
    section: str = "figures"
    headline: tuple[str, ...] = ()
    terminal: str = ""
    compare: tuple[str, ...] = ()
    of_means: Callable[[np.ndarray], np.ndarray] | None = None
    needs: str = "scores"

    def __post_init__(self) -> None:
        fitting = {"matrix": self.block is PAIRS} | dict.fromkeys(
            ("variance", "gap"), self.block is LANGUAGES
        )
        fitting["groups"] = self.block in (PAIRS, LANGUAGES)
        wrong = [name for name in self.derived if not fitting.get(name)]
        wrong += ["terminal"] if self.terminal and not self.block.parts else []
        wrong += [key for key in (*self.headline, *self.compare) if key not in self.labels]
        if wrong:
            raise ValueError(
                f"the figure {self.name!r} (one value for each of its {self.block.name}) has no {wrong[0]!r}; "
                f"its keys are {', '.join(self.labels)}"
            )

    @property
    def labels(self) -> dict[str, str]:
        """Key -> what tables call it, of its figures that are one number."""
        ends = dict(self.block.parts)
        if self.block is LANGUAGES and "groups" in self.derived:
            ends["_low"] = ", low-resource"  # in comparisons
        if "variance" in self.derived:
            ends["_variance"] = ", variance over languages"
        if "gap" in self.derived:
            ends["_gap"] = ", best language less worst"
        return {self.name + end: self.label + words for end, words in ends.items()}

    def tone(self, key: str) -> bool | None:
        """Whether more of the figure at `key` is better."""
        return None if key.endswith(("_variance", "_gap")) else self.better


Columns = Mapping[Figure, tuple[np.ndarray, np.ndarray]]  # (values, weights) f64[N, M]


def columns_of(values: Mapping[Figure, Any], languages: int) -> Columns:
    """Columns as figures are made of them, from what `Figure.columns` may give, with weights of one by default.

    Raises:
      ValueError: another number of columns than the figure's block has, or two figures of one name.
    """
    found = {}
    for figure, given in values.items():
        own, weights = given if isinstance(given, tuple) else (given, np.ones(np.shape(given)))
        parts = np.shape(own)[1] if figure.of_means and np.ndim(own) == 3 else 1
        own, weights = (
            np.reshape(part, (len(part), int(np.prod(np.shape(part)[1:])))) for part in (own, weights)
        )
        if own.shape[1] != parts * figure.block.size(languages) or own.shape != weights.shape:
            each = f" for each of its {parts} statistics" if figure.of_means else ""
            raise ValueError(
                f"the figure {figure.name!r} has {own.shape[1] // parts} columns ({weights.shape[1] // parts} of "
                f"weights){each}, but with {languages} languages there are {figure.block.size(languages)} of "
                f"{figure.block.name}"
            )
        found[figure] = own, weights
    if len({figure.name for figure in found}) < len(found):
        raise ValueError(f"two figures have one name: {', '.join(figure.name for figure in found)}")
    return found


def tells(known: str, figure: Figure) -> bool:
    """Whether what is known of a table is enough for a figure."""
    return list(KNOWN).index(known) <= list(KNOWN).index(figure.needs)
