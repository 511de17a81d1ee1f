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
    for key, codes in _codes(languages).items():
        front += [f"{key}:", *(f"- {_yaml(code)}" for code in codes)] if codes else []
    front += ["tags:", "- crosslingual-consistency", "---"]
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


def _codes(languages: Sequence[str]) -> dict[str, list[str]]:
    """The languages as the Hub takes them, which refuses a card with others: ISO 639 codes, and in a key of their own
    those with a script or a region (zh-Hans, pt-BR)."""
    tag = re.compile("([A-Za-z]{2,3})((?:[-_](?:[A-Za-z]{4}|[A-Za-z]{2}|[0-9]{3}))*)")
    found = [known for language in languages if (known := tag.fullmatch(language))]
    return {
        "language": [*dict.fromkeys(known[1].lower() for known in found)],
        "language_bcp47": [known[0].replace("_", "-") for known in found if known[2]],
    }


def _yaml(name: str) -> str:
    """A name as YAML reads it back: `no` is a language, and there a falsehood."""
    plain = r"(?!(no?|y|yes|on|off|true|false|null)$)[A-Za-z][\w./-]*"
    return name if re.fullmatch(plain, name, re.IGNORECASE) else json.dumps(name)
