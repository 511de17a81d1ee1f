"""How many prompts gave pairs, and why the others gave none: a prompt is one question in one language."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

SAME_TEXT = "chosen and rejected read the same"


class Summary:
    """Counts of one selection; every prompt is told once, by `keep` or by `drop`.

    Args:
        name: of the selection.
        languages: in the order to be shown.
    """

    def __init__(self, name: str, languages: Sequence[str]):
        self.name = name
        self.kept = Counter(dict.fromkeys(languages, 0))  # prompts
        self.pairs = Counter(dict.fromkeys(languages, 0))
        self.cut = 0
        self.dropped: dict[str, Counter[str]] = {language: Counter() for language in languages}

    def keep(self, language: str, pairs: int = 1) -> None:
        """A prompt that gave this many pairs."""
        self.kept[language] += 1
        self.pairs[language] += pairs

    def drop(self, language: str, reason: str) -> None:
        """A prompt that gave none."""
        self.dropped[language][reason] += 1

    def to_json(self) -> dict[str, Any]:
        """{"selection", "pairs", "cut", "languages": {name: {"prompts", "kept", "pairs", "dropped": {why: prompts}}}},
        all counts; `cut` of pairs that hold an answer which ended at max_tokens."""
        languages = {
            language: {
                "prompts": self.kept[language] + dropped.total(),
                "kept": self.kept[language],
                "pairs": self.pairs[language],
                "dropped": dict(dropped.most_common()),
            }
            for language, dropped in self.dropped.items()
        }
        return {"selection": self.name, "pairs": self.pairs.total(), "cut": self.cut, "languages": languages}


def summary_text(summary: dict[str, Any]) -> str:
    """What `Summary.to_json` gave, as a table for the terminal."""
    head = f"pairs by {summary['selection']}: {summary['pairs']:,}"
    lines = [head, f"  {'':8}{'prompts':>9}{'kept':>9}{'pairs':>9}  dropped"]
    for language, counts in summary["languages"].items():
        why = ", ".join(f"{count:,} {reason}" for reason, count in counts["dropped"].items())
        numbers = "".join(f"{counts[name]:>9,}" for name in ("prompts", "kept", "pairs"))
        lines.append(f"  {language:8}{numbers}  {why}".rstrip())
    if summary.get("cut"):
        lines.append(
            f"  {summary['cut']:,} pairs hold an answer that selection.max_tokens cut: no end is trained behind them"
        )
    return "\n".join(lines)
