"""Which answers become chosen and rejected: preference pairs made from parallel items, by name.

    gold      the gold candidate against a wrong one                        candidates.py
    random    DCO's index-aligned pairs, drawn without looking              candidates.py
    calm      what most languages answer, against what one answers          calm.py
    cm_align  the answer most like the English one, against the least alike cm_align.py

Pure functions pick (arrays or texts in, indices out); `Selection.make` makes records of it, with provenance, and counts
what was kept and why the rest was not. `making.py` gives it the model's scores and answers.
"""

from collections.abc import Sequence
from typing import Any

from consistency_jax.config.defaults import default
from consistency_jax.data.items import ParallelItem
from consistency_jax.errors import ConfigError
from consistency_jax.selection.calm import CALM
from consistency_jax.selection.candidates import GOLD, RANDOM
from consistency_jax.selection.cm_align import CM_ALIGN

SELECTIONS = {"gold": GOLD, "random": RANDOM, "calm": CALM, "cm_align": CM_ALIGN}


def check_selection(options: Any, items: Sequence[ParallelItem], languages: Sequence[str]) -> None:
    """Refuses what a selection cannot be made from, before any work.

    Args:
      options: `config.selection`.
      items: what pairs are to be made from.
      languages: those that take part.

    Raises:
      ConfigError: naming what is missing, and the mend.
    """
    needs, name = SELECTIONS[options.name], f"selection.name={options.name!r}"
    usual, takes = default().selection, needs.takes(options)
    for key in options:
        if key != "name" and key not in takes and options[key] != usual[key]:
            form = f" with form={options.form!r}" if "form" in takes and key != "form" else ""
            told = f"{name}{form} takes {', '.join(takes) or 'no option'}"
            raise ConfigError(f"selection.{key}={options[key]!r} does nothing there: {told}")
    if needs.labels and all(item.gold is None for item in items):
        unlabelled = ", ".join(other for other, row in SELECTIONS.items() if not row.labels)
        raise ConfigError(f"{name} needs labels, and no item has a gold answer; {unlabelled} need none")
    if all(item.num_candidates < needs.candidates for item in items):
        raise ConfigError(f"{name} compares candidates, and no item has {needs.candidates}")
    if len(languages) < needs.languages:
        raise ConfigError(
            f"{name} compares {needs.languages} languages or more, and there are {', '.join(languages)}: name more in "
            "data.languages"
        )
    if wrong := needs.check(options, items, languages):
        raise ConfigError(wrong)
