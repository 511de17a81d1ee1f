"""One row of a config: what it refuses, and how --help shows it."""

import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.keys import (
    ANY,
    DECAY,
    NAMES,
    POSITIVE,
    REGEX,
    SHARE,
    TEXTS,
    WEIGHT,
    WIDTH,
    Key,
    Rule,
    at_least,
    or_function,
)

CHOICES = ("red", "green", "")


@pytest.mark.parametrize(
    ("default", "allowed", "good", "bad", "message"),
    [
        (
            "red",
            CHOICES,
            ["green", ""],
            "gren",
            r"^a.b='gren' is unknown \(did you mean 'green'\?\); choose from",
        ),
        ("red", CHOICES, ["red"], 3, "^config key a.b=3 should be of type str"),
        (1.0, POSITIVE, [1, 0.5], 0.0, "^a.b=0.0 must be greater than 0"),
        (1.0, POSITIVE, [2], float("nan"), "^a.b=nan must be greater than 0"),
        (1.0, ANY, [2], True, "^config key a.b=True should be of type float"),
        (True, ANY, [False], 1, "^config key a.b=1 should be of type bool"),
        (2, at_least(2, "why"), [3], 1, "^a.b=1 must be at least 2: why"),
        (1, ANY, [7], 1.5, "^config key a.b=1.5 should be of type int"),
        (1.0, SHARE, [1.0, 0.1], 0.0, r"^a.b=0.0 must lie in \(0, 1\]"),
        ((), NAMES, [("x",), ["x", "y"]], (1,), r"^a.b=\(1,\) must hold names"),
        ((), NAMES, [()], "x", "^config key a.b='x' should be of type tuple"),
        ((), TEXTS, [("\n",)], ("",), "must hold texts, none empty"),
        ("", REGEX, ["a|b", ""], "(", r"^a.b='\(' is no regular expression"),
        (
            "",
            or_function("", "model"),
            ["", "model", "m:f"],
            "m.f",
            "must be empty, model or package.module",
        ),
        (
            {},
            WEIGHT,
            [{}, {"x": 1}, {"x": 0.5, "y": 2.0}],
            {"x": 1, "y": 0},
            "^a.b.y=0 must be a number greater",
        ),
        ({}, WEIGHT, [{"x": 1e-18, "y": 1e18}], {"x": 1e39}, "^a.b.x=1e.39 must be a number .* to 1e18"),
        (1.0, ANY, [-1e300], float("nan"), "^a.b=nan is no number that can be computed with"),
        (1.0, POSITIVE, [1e300], float("inf"), "^a.b=inf is no number"),
        (1, ANY, [2**63 - 1], 2**63, "^a.b=9223372036854775808 is no number"),
        (0.9, DECAY, [0.0, 0.999], 1.0, r"^a.b=1.0 must lie in \[0, 1\)"),
        ({}, WEIGHT, [{}], {"x": "much"}, "^a.b.x='much' must be a number"),
        ({}, ANY, [{"x": {"y": 1}}], 3, "^config key a.b=3 should be of type dict"),
    ],
)
def test_what_may_not_stand_there_is_refused_by_name(default, allowed, good, bad, message):
    row = Key(default, allowed, "What it does")
    for value in (default, *good):
        row.check("a.b", value)
    with pytest.raises(ConfigError, match=message):
        row.check("a.b", bad)


def test_help_shows_the_row_in_its_columns():
    (line,) = Key("red", CHOICES, "Of the sky").lines("colour")
    assert line.split() == ["colour", "red", "[red", "|", "green", "|", "'']", "Of", "the", "sky"]
    lines = list(Key(0, Rule("> 0", bool, "must be"), " ".join(["word"] * 50)).lines("n"))
    assert len(lines) > 1
    assert max(map(len, lines)) <= WIDTH
    assert all(line.startswith(" " * 37) for line in lines[1:])
