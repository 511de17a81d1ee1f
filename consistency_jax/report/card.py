"""The model card of an exported folder: what was done to which model, and what it changed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from consistency_jax.report.terminal import terminal_table


def model_card(
    base: str,
    languages: list[str],
    training: Sequence[tuple[str, int]],
    summary: Mapping[str, Any] | None,
) -> str:
    """README.md of an exported model, as the Hugging Face Hub reads it.

    Args:
      base: name or folder of the model that training started from.
      languages: those that it was trained on.
      training: its stages, each with its steps.
      summary: what report.json holds; None where the run has not been measured.
    """
    front = ["---", "library_name: transformers"]
    if not base.startswith(("/", ".", "~")):
        front.append(f"base_model: {json.dumps(base)}")
    front += [
        "language:",
        *(f"- {json.dumps(language)}" for language in languages),  # no is a language, and in YAML a falsehood
        "tags:",
        "- crosslingual-consistency",
        "---",
    ]
    lines = [
        *front,
        "",
        f"# {base.rstrip('/').rpartition('/')[2]}, trained for crosslingual consistency",
        "",
        f"{', then '.join(f'{name.upper()}, {steps:,} steps' for name, steps in training)}, with consistency_jax; "
        f"base model: `{base}`.",
        "",
    ]
    if summary and "final" in summary:  # not of the base model alone
        lines += [
            "Before and after: accuracy, and CLC (RankC x 100: how alike two languages rank the same candidate "
            "answers; 100 = the same order), with a bootstrap interval of the change.",
            "",
            "```",
            terminal_table(dict(summary), color=False),
            "```",
            "",
        ]
    return "\n".join(lines)
