"""Counts of a selection: every prompt is told once, kept or with the reason why not."""

from consistency_jax.selection.summary import Summary, summary_text


def counted() -> Summary:
    summary = Summary("calm", ("en", "sw"))
    summary.keep("sw")
    summary.keep("sw", pairs=3)
    summary.drop("sw", "a tie")
    for why in ("agrees", "a tie", "a tie"):
        summary.drop("en", why)
    return summary


def test_every_prompt_is_counted_once_and_pairs_beside_it():
    assert counted().to_json() == {
        "selection": "calm",
        "pairs": 4,
        "cut": 0,
        "languages": {
            "en": {"prompts": 3, "kept": 0, "pairs": 0, "dropped": {"a tie": 2, "agrees": 1}},
            "sw": {"prompts": 3, "kept": 2, "pairs": 4, "dropped": {"a tie": 1}},
        },
    }


def test_the_table_has_a_line_for_each_language_with_its_reasons():
    head, titles, *lines = summary_text(counted().to_json()).splitlines()
    assert head == "pairs by calm: 4"
    assert titles.split() == ["prompts", "kept", "pairs", "dropped"]
    assert [line.split(maxsplit=4) for line in lines] == [
        ["en", "3", "0", "0", "2 a tie, 1 agrees"],
        ["sw", "3", "2", "4", "1 a tie"],
    ]
