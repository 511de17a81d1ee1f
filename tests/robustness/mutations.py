"""Inputs that are broken a little, and what came of each: made from a seed, so that any is made again by its number."""

import contextlib
import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from consistency_jax.errors import UserError

LONGEST = 5000  # characters of a message
SECONDS = 30  # of one input; nothing here is large
# What stands where something else should, in JSON.
STRANGE = (
    *(None, True, False, 0, 1, -1, 2.5, 1e300, float("nan"), float("inf"), 10**30),
    *(
        "",
        " ",
        "0",
        "null",
        "\0",
        "a\0",
        "\x1b[31m",
        "a\nb",
        "\u202e",
        "\ud800",
        "<mask>",
        "</s>",
        "é" * 3000,
    ),
    *([], [[]], [None], ["x"], [1, 2], {}, {"x": {}}, {"": ""}),
)
# What is put between the bytes of a text.
BYTES = (
    *(
        b"\0",
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\x1b[2J",
        b"\r",
        b"\n",
        b"\n\n",
        b"\t",
        b",",
        b'"',
        b"'",
    ),
    *(b"\\", b"{", b"}", b"[" * 2000, b"9" * 400, b"NaN", b"\\ud800", b"<mask>", b"\xe2\x80\xa8"),
)


def broken_json(value: Any, draw: random.Random) -> Any:
    """The value with one of its nodes changed, taken away, doubled or added."""
    places = list(_places(value))
    path, key = draw.choice(places) if places else ((), None)
    value = json.loads(json.dumps(value))  # a copy
    if key is None:
        return draw.choice(STRANGE)
    holder = value
    for step in path:
        holder = holder[step]
    how = draw.randrange(5)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif how == 1:
        holder[f"{key}x"] = holder[key]
    elif how == 2:
        other_path, other_key = draw.choice(places)
        other = value
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for step in other_path:
                other = other[step]
            holder[key] = json.loads(json.dumps(other[other_key]))
    else:
        holder[key] = draw.choice(STRANGE)
    return value


def _places(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, own in entries:
        yield path, key
        yield from _places(own, (*path, key))


def broken_bytes(data: bytes, draw: random.Random) -> bytes:
    """The bytes cut, with some of them changed, put in, taken out, or its lines in another order."""
    how, place = draw.randrange(10), draw.randrange(len(data) + 1)
    if how == 0:
        return data[:place]
    if how == 1:
        flipped = bytearray(data)
        flipped[place % len(data)] ^= 1 << draw.randrange(8)
        return bytes(flipped)
    if how in (2, 3, 4):
        return data[:place] + draw.choice(BYTES) + data[place:]
    if how == 5:
        return data[:place] + data[place + draw.randrange(1, 40) :]
    if how == 6:
        return draw.choice((b"", b" \n", b"\n\n", b"null", b"[]", b"{}", b"\xff\xfe", data + data))
    if how == 7:
        return data.decode("utf8", "replace").encode(draw.choice(("utf-16", "utf-8-sig", "utf-32")))
    lines = data.splitlines(keepends=True)
    first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
    if how == 8:
        lines[first], lines[second] = lines[second], lines[first]
    elif draw.random() < 0.5:
        lines.insert(first, lines[second])
    else:
        del lines[first]
    return b"".join(lines)


class TookLong(BaseException):
    """Not an Exception: what catches those must not take it for one of its own."""


class Outcomes:
    """Counts how inputs ended, and refuses any end but a clear error and what a rule allows."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def of(self, label: str, call: Callable[[], Any]) -> Any:
        """What the call returns; the error, where it ends with one that its user is told in one line.

        Raises: AssertionError for any other exception, an unclear message, and one that takes long.
        """
        try:
            with time_limit():
                found = call()
        except (UserError, OSError) as error:  # what `run_command` turns into one line
            said = str(error)
            assert said.strip(), label
            assert len(said) < LONGEST, (label, said[:300])
            assert not [c for c in said if c < " " and c != "\n"], (label, said)
            self.counts["error"] += 1
            return error
        except (Exception, TookLong) as error:
            raise AssertionError(f"{label}: {type(error).__name__}: {error}") from error
        self.counts["accepted"] += 1
        return found


@contextlib.contextmanager
def time_limit(seconds: int = SECONDS) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TookLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
