"""One key of a config as a row: its default, what may stand there, what it does.

Checks and the lines of --helpfull are made from rows. Those of the whole config stand in config/defaults.py, the
options of an objective in its own module.
"""

import math
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from consistency_jax.errors import ConfigError, nearest

WIDTH = 110  # columns of --helpfull
LARGEST = 2**63 - 1  # of whole numbers


class Rule(NamedTuple):
    """What may stand in a key where that is no list of choices."""

    brief: str  # for --helpfull: "> 0"
    holds: Callable[[Any], bool]
    must: str  # for an error: "must be greater than 0"


class Key(NamedTuple):
    """A key: its default, what may stand there, and what it does in one short sentence.

    `allowed` are choices, or a rule: of a free dict (the default is a dict) that of each of its values, of a tuple that
    of the whole tuple. The type is the default's always.
    """

    default: Any
    allowed: Rule | Collection[str]
    help: str

    def check(self, name: str, value: Any) -> None:
        """ConfigError, naming the key and the mend, where the value may not stand there."""
        if not _same_kind(value, self.default):
            raise ConfigError(f"config key {name}={value!r} should be of type {type(self.default).__name__}")
        for place, own in value.items() if isinstance(value, Mapping) else ((None, value),):
            place = name if place is None else f"{name}.{place}"
            if not isinstance(self.allowed, Rule):
                if own not in self.allowed:
                    raise ConfigError(
                        f"{place}={own!r} is unknown{nearest(str(own), self.allowed)}; "
                        f"choose from {', '.join(self.allowed)}"
                    )
            elif not self.allowed.holds(own):
                raise ConfigError(f"{place}={own!r} {self.allowed.must}")
            if (
                isinstance(own, float)
                and not math.isfinite(own)
                or isinstance(own, int)
                and abs(own) > LARGEST
            ):
                raise ConfigError(f"{place}={own!r:.60} is no number that can be computed with")

    def lines(self, name: str) -> Iterator[str]:
        """The key's lines of --helpfull."""
        rule = self.allowed
        brief = rule.brief if isinstance(rule, Rule) else " | ".join(choice or "''" for choice in rule)
        default = self.default if isinstance(self.default, str) and self.default else repr(self.default)
        text = f"[{brief}] {self.help}" if brief else self.help
        start = f"  {name:<20} {default:<13} "
        yield from textwrap.wrap(
            text, WIDTH, initial_indent=start, subsequent_indent=" " * 37, break_on_hyphens=False
        )


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    for kind in (Mapping, (tuple, list)):
        if isinstance(default, kind):
            return isinstance(value, kind)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))


# --------------------------------------------------------------------------------------------------------------- rules
ANY = Rule("", lambda value: True, "")
POSITIVE = Rule("> 0", lambda value: value > 0, "must be greater than 0")
NOT_NEGATIVE = Rule(">= 0", lambda value: value >= 0, "must not be negative")
DECAY = Rule("in [0, 1)", lambda value: 0 <= value < 1, "must lie in [0, 1)")
SHARE = Rule("in (0, 1]", lambda value: 0 < value <= 1, "must lie in (0, 1]")
WEIGHT = Rule(
    "> 0, of each language",
    lambda value: isinstance(value, (int, float)) and 1e-18 <= value <= 1e18,  # float32 holds a ratio
    "must be a number greater than 0, from 1e-18 to 1e18",
)
TEXT = Rule("text", lambda value: isinstance(value, str) and bool(value.strip()), "must be a text")
NAMES = Rule("names", lambda value: all(isinstance(entry, str) for entry in value), "must hold names")
SOME_NAMES = Rule("names", lambda value: bool(value) and NAMES.holds(value), "must hold names, one or more")
LANGUAGES = Rule(
    "languages", lambda v: isinstance(v, (tuple, list)) and NAMES.holds(v), "must hold languages"
)
LAYER = Rule(
    ">= -1",
    lambda value: value >= -1,
    "should be the number of a layer, from 0, or -1: after the final norm",
)
ENGINE = Rule(
    "sampler | http(s)://...",
    lambda value: value == "sampler" or value.startswith(("http://", "https://")),
    "must be sampler, or a server's http(s)://...",
)
TEXTS = Rule(
    "texts",
    lambda value: all(isinstance(entry, str) and entry for entry in value),
    "must hold texts, none empty",
)


def at_least(least: int, why: str = "") -> Rule:
    """A number from `least` on."""
    return Rule(
        f">= {least}", lambda value: value >= least, f"must be at least {least}" + (why and f": {why}")
    )


def or_function(*words: str) -> Rule:
    """One of the words, or a function of the user's own, which is imported when it is needed."""
    *first, last = (word or "empty" for word in words)
    form = "package.module:function"
    return Rule(
        " | ".join((*(word or "''" for word in words), form)),
        lambda value: value in words or ":" in value,
        f"must be {', '.join((*first, last))} or {form}",
    )


def _compiles(value: str) -> bool:
    try:
        return bool(re.compile(value))
    except re.error:
        return False


REGEX = Rule("regular expression", _compiles, "is no regular expression")
