"""report.json and report.html: one self-contained page that asks the network for nothing."""

import json
import math
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from consistency_jax.report.examples import Embedded, FreeText, embedded
from consistency_jax.report.figures import ANCHOR
from consistency_jax.report.names import language_name
from consistency_jax.report.summary import Tables, by_split
from consistency_jax.report.views import definitions, free_text_view, split_view
from consistency_jax.runtime.files import write_text
from consistency_jax.table import RANKED

LIMIT = 5_700_000  # bytes of a page: figures and charts come first, questions take what is left
_NOTES = 4_000  # of them for the words around the questions
MOST_QUESTIONS = 3_000_000  # bytes of its questions, so that a page opens at once


def write_report(
    folder: str | Path,
    summary: dict[str, Any],
    base: Tables | None = None,
    final: Tables | None = None,
    items: Mapping[str, Iterable[Any]] | None = None,
    *,
    free_text: Mapping[str, FreeText] | None = None,
    config: Mapping[str, Any] | None = None,
    command: str | None = None,
    title: str = "",
    about: Mapping[str, str] | None = None,
) -> Path:
    """Writes report.json and report.html into `folder`; each appears only when it is complete.

    Args:
      folder: an existing folder, or one to make.
      summary: what `summarise` returned, of two sides or of a model alone.
      base: the table before, by split; final: the table after. Questions are shown with both, or with the one there is.
      items: the ParallelItems of each split, to be searched in the page: all, or as many as there is room for.
      free_text: what the model wrote before and after for the first items of a split.
      config: shown as it is.
      command: the command line, shown as it is.
      title: which model, and what was done to it.
      about: what else is said of the run at the top of the page, by name.

    Returns:
      The path of report.html.
    """
    folder = Path(folder) if isinstance(folder, str) else folder
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / "report.json", text + "\n")
    alone = "final" not in summary
    shown = {
        "title": title or f"Crosslingual consistency{' of one model' if alone else ''}",
        "about": about or {},
        "ranked": RANKED,
        "alone": alone,
        "settings": summary["settings"],
        "splits": [split_view(summary, name) for name in summary["base"]],
        "safety": [free_text_view(parts, kind, kind) for kind, parts in summary.get("safety", {}).items()],
        "definitions": definitions(summary),
        "config": json.dumps(config, indent=2, ensure_ascii=False, default=str) if config else None,
        "command": command,
        "anchor": language_name(ANCHOR),
    }
    page, questions = template("report.html.j2"), Embedded("", [])
    if base is not None:
        room = LIMIT - len(page.render(**shown, questions=questions).encode()) - _NOTES
        questions = embedded(
            by_split(base),
            None if final is None else by_split(final),
            items or {},
            normalization=summary["settings"]["normalization"],
            free_text=free_text,
            room=max(0, min(MOST_QUESTIONS, room)),
        )
    write_text(folder / "report.html", page.render(**shown, questions=questions))
    return folder / "report.html"


def template(name: str) -> jinja2.Template:
    """A page of this package; `style` in it is style.css, `script` report.js, `board_script` board.js."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.PackageLoader("consistency_jax", "report"),
    )
    environment.filters["language"] = language_name
    environment.filters["number"] = number
    environment.filters["signed"] = lambda value, digits=1: number(value, digits, "+")
    environment.filters["exact"] = _exact
    environment.globals["style"] = Markup(_file("style.css").strip())
    environment.globals["script"] = Markup(_file("report.js").strip())
    environment.globals["board_script"] = Markup(_file("board.js").strip())
    return environment.get_template(name)


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _exact(value: float | None, sign: str = "") -> str:
    """A number of any size to three digits that count, written out; a dash where there is none."""
    if value is None:
        return "\u2013"
    value = float(f"{value + 0.0:.3g}")
    if value and abs(value) < 1e-6:
        return "\u2248 0"
    decimals = 0 if not value else min(9, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:{sign if value else ''},.{decimals}f}".replace("-", "\u2212")


def number(value: float | None, digits: int = 1, sign: str = "") -> str:
    """A number with a true minus sign, no sign at 0; a dash where there is none."""
    if value is None:
        return "\u2013"
    value = round(value, digits) + 0.0
    return f"{value:{sign if value else ''},.{digits}f}".replace("-", "\u2212")
