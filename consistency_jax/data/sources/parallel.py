"""Joining files of one language each, whose rows are parallel by their place or by an id."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import AGAIN, id_of, json_lines

T = TypeVar("T")
_BY_TEMPLATE = re.compile(r"(.+?)(?:-t([1-9]\d?))?", re.DOTALL)


def by_template(code: str) -> tuple[str, int]:
    """The language of a code, and the number of its template: `en-t2` is ("en", 2), and `en` is ("en", 1)."""
    language, number = _BY_TEMPLATE.fullmatch(code).groups()
    return language, int(number or 1)


def by_place(
    tables: Mapping[str, Sequence[T | DataError]], where: str | Path
) -> list[dict[str, T] | DataError]:
    """language -> row, for every place; the error of a row that is bad in some language.

    Raises:
        DataError: the files have different numbers of rows.
    """
    counts = {language: len(rows) for language, rows in tables.items()}
    if len(set(counts.values())) > 1:
        raise DataError.at(str(where), f"files have different numbers of rows ({counts})", AGAIN)
    return [_all_good(dict(zip(tables, rows))) for rows in zip(*tables.values())]


def by_id(
    order: Mapping[str, T | DataError],
    tables: Mapping[str, Mapping[str, T | DataError]],
    files: Mapping[str, Path],
) -> tuple[list[dict[str, T] | DataError], list[str]]:
    """As `by_place`, for every id of `order`; and a warning for each file that has rows of other ids."""
    rows = [
        order[key]
        if isinstance(order[key], DataError)
        else _all_good({k: table.get(key) or _absent(table, key, files[k]) for k, table in tables.items()})
        for key in order
    ]
    warnings = []
    for language, table in tables.items():
        more = [key for key, row in table.items() if key not in order and not isinstance(row, DataError)]
        if more:
            reason = f"{len(more)} ids are in no other file and left out, the first: {more[0]!r}."
            warnings.append(f"{files[language]}: {reason}")
    return rows, warnings


def counted(keys: Iterable[str]) -> list[str]:
    """Keys in one order, numbers in them as numbers: 2 before 10."""

    def parts(key: str) -> list[tuple[int, str]]:
        return [
            (int(part), "") if part.isascii() and part.isdigit() else (-1, part)
            for part in re.split("([0-9]+)", key)
        ]

    return sorted(keys, key=parts)


def keyed(file: Path, key: str, make: Callable[[Any, str], T]) -> dict[str, T | DataError]:
    """id -> what `make(record, where)` gives, of a JSON-lines file, in its order.

    A bad line is its error: under its id where that can be read, else under its place.
    """
    table: dict[str, T | DataError] = {}
    for line in json_lines(file):
        name = line.where
        try:
            name = id_of(line.get(), key, line.where)
            if name in table:
                raise DataError.at(line.where, f"{key} {name!r} stands twice in the file", AGAIN)
            table[name] = make(line.value, line.where)
        except DataError as error:
            table[name] = error
    return table


def check_alike(rows: Mapping[str, NamedTuple], *names: str) -> None:
    """Refuses a row that says otherwise than the first language's; "" says nothing.

    Raises:
        DataError: naming the place and the other one.
    """
    first, *others = rows.values()
    for other in others:
        for name in names:
            one, two = getattr(first, name), getattr(other, name)
            if one != two and "" not in (one, two):
                reason = f"its {name} is {two!r}, that of {first.where} is {one!r}: rows are not parallel"
                raise DataError.at(other.where, reason, AGAIN)


def _all_good(rows: dict[str, T | DataError]) -> dict[str, T] | DataError:
    return next((row for row in rows.values() if isinstance(row, DataError)), rows)


def _absent(table: Mapping[str, Any], key: str, file: Path) -> DataError:
    """Why a file has no row of an id: a line of it could not be read, or nothing holds it."""
    for place, row in table.items():
        if isinstance(row, DataError) and place.startswith(f"{file}:"):
            return row
    return DataError.at(str(file), f"id {key!r} is missing", AGAIN)
