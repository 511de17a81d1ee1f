"""The model card of an exported folder: what was done to which model, and what it changed."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from consistency_jax.report.terminal import terminal_table

CARD = "with consistency_jax"  # in the text of every card


def model_card(
    base: str,
    languages: list[str],
    training: Sequence[tuple[str, int]],
    summary: Mapping[str, Any] | None,
    *,
    on_hub: bool = True,
    licence: str = "",
    data: str = "",
    command: str = "",
) -> str:
    """README.md of an exported model, as the Hugging Face Hub reads it.

    Args:
      base: name or folder of the model that training started from.
      languages: those that it was trained on.
      training: its stages, each with its steps.
      summary: what report.json holds; None where the run has not been measured.
      on_hub: whether `base` is a name of the Hub, and not a folder or file.
      licence: of the base model, as the Hub spells it; "": not known.
      data: what it was trained on.
      command: that trained it.
    """
    front = ["---", "library_name: transformers"]
    if on_hub:
        front.append(f"base_model: {_yaml(base)}")
    if licence:
        front.append(f"license: {_yaml(licence)}")
    front += [
        "language:",
        *(f"- {_yaml(language)}" for language in languages),
        "tags:",
        "- crosslingual-consistency",
        "---",
    ]
    lines = [
        *front,
        "",
        f"# {base.rstrip('/').rpartition('/')[2]}, trained for crosslingual consistency",
        "",
        f"{', then '.join(f'{name.upper()}, {steps:,} steps' for name, steps in training)}, {CARD}; "
        f"base model: `{base}`{f', licence {licence}' if licence else ''}.",
        "",
    ]
    if data:
        lines += [f"Trained on {data}.", ""]
    if command:
        lines += ["```sh", command, "```", ""]
    if summary and "final" in summary:  # not of the base model alone
        lines += [
            "Before and after: accuracy, and CLC (RankC x 100: how alike two languages rank the same candidate "
            "answers; 100 = the same order), with a bootstrap interval of the change.",
            "",
            "```",
            terminal_table(dict(summary), color=False),
            "```",
            "",
            *(f"{note[0].upper()}{note[1:]}.\n" for note in summary["settings"].get("notes", ())),
        ]
    return "\n".join(lines)


def _yaml(name: str) -> str:
    """A name as YAML reads it back: `no` is a language, and there a falsehood."""
    plain = r"(?!(no?|y|yes|on|off|true|false|null)$)[A-Za-z][\w./-]*"
    return name if re.fullmatch(plain, name, re.IGNORECASE) else json.dumps(name)
