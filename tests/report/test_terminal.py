"""The report on a terminal."""

import dataclasses
from functools import reduce
from operator import getitem

from made import make_table

from consistency_jax.report import summarise, terminal_table


def test_terminal_table_shows_before_after_and_interval_of_each_split(summary):
    text = terminal_table(summary, color=False)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    for split in summary["base"]:
        part = text[text.index(f"{split}: ") :]
        for label, path in (("all language pairs", ["clc_all"]), ("sw  Swahili", ["accuracy", "sw"])):
            line = next(line for line in part.splitlines() if label in line)
            base, final, delta, bounds = (
                reduce(getitem, path, summary[key][split]) for key in ("base", "final", "delta", "confidence")
            )
            cells = [cell.strip() for cell in line.split("│")[2:6]]
            interval = f"[{bounds[0]:+.1f}, {bounds[1]:+.1f}]"
            assert cells == [f"{base:.1f}", f"{final:.1f}", f"{delta:+.1f}", interval]
    assert "\x1b[" in terminal_table(summary, color=True)


def test_names_are_no_markup(summary):
    named = summary | {"settings": summary["settings"] | {"splits": {}}}
    for part in ("base", "final", "delta", "confidence", "analysis"):
        named[part] = {"[red]test[/red]": summary[part]["test"]}
    named["settings"]["splits"] = {"[red]test[/red]": summary["settings"]["splits"]["test"]}
    assert terminal_table(named, color=False).startswith("[red]test[/red]: ")


def test_few_questions_are_told_with_what_they_leave_open(summary):
    low, high = summary["confidence"]["test"]["clc_all"]
    told = f"questions: the change in CLC has an interval of {high - low:.0f} points"
    assert f"only 60 {told}" in terminal_table(summary, color=False)
    alone = {part: own for part, own in summary.items() if part not in ("final", "delta")}
    assert "only 60 questions: CLC has an interval of " in terminal_table(alone, color=False)
    many = {name: about | {"items": 100} for name, about in summary["settings"]["splits"].items()}
    more = summary | {"settings": summary["settings"] | {"splits": many}}
    assert "has an interval of" not in terminal_table(more, color=False)
    for items, told in ((1, "only 1 question: too few for an"), (9, "only 9 questions: too few for an")):
        counted = {name: about | {"items": items} for name, about in summary["settings"]["splits"].items()}
        text = terminal_table(summary | {"settings": summary["settings"] | {"splits": counted}}, color=False)
        assert told in text
        assert "has an interval of" not in text


def test_without_english_the_mean_is_of_all_languages():
    table = dataclasses.replace(make_table(0), languages=("fr", "ar", "sw", "zh"))
    told = terminal_table(summarise(table, resamples=10), color=False)
    assert "mean of the languages" in told
    assert "English" not in told


def test_one_language_has_nothing_to_agree_with():
    table = make_table(0)
    names = ("logp", "length", "bytes", "mask", "prompt_logp", "prompt_length")
    fields = {name: getattr(table, name)[:, :1] for name in names}
    one = dataclasses.replace(table, languages=table.languages[:1], **fields)
    assert "only one language: consistency is between" in terminal_table(
        summarise(one, resamples=10), color=False
    )
