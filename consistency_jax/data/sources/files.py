"""Reading the lines of original files: what cannot be read is one error that names file and line, and no more.

A reader of parallel files must keep their rows in step, so a bad row is not left out here: it is its `DataError`, which
the reader raises, or counts and skips in every language.
"""

import csv
import gzip
import io
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from consistency_jax.data.items import DataError

AGAIN = "Mend it, or download the original file again"
LONGEST = 2**24  # bytes of one JSON line; the csv module has a limit of its own, 131,072 characters a field
BYTE = re.compile("[\ud800-\udfff]")  # what "surrogateescape" makes of a byte that is no UTF-8
_END = "\x1f"  # a row of its own
OPENERS = {".gz": gzip.open, ".xz": lzma.open}


class Line(NamedTuple):
    """What one line (of CSV: one row) holds, or why it cannot be read."""

    where: str
    value: Any  # list[str] of CSV, a JSON value, or a DataError

    def get(self) -> Any:
        """The value.

        Raises:
            DataError: the line cannot be read.
        """
        if isinstance(self.value, DataError):
            raise self.value
        return self.value


def csv_lines(file: Path, delimiter: str = ",", header: bool = False) -> Iterator[Line]:
    """The rows of a CSV or TSV file, UTF-8 with or without a byte order mark; the first is left out as a header.

    Raises:
        DataError: no such file, one that cannot be unpacked, or one without rows.
    """
    return _filled(file, itertools.islice(_csv_lines(file, delimiter), int(header), None))


def _csv_lines(file: Path, delimiter: str) -> Iterator[Line]:
    # The csv module wants newline="" (fields may hold line ends); a bare split would lose quoted fields. Bytes that are
    # no UTF-8 pass as surrogates, so that their line can be told.
    with _open(file) as raw, io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as lines:
        # Behind the last line, so that a row whose quote was never closed, which holds all that follows, shows.
        reader, name = csv.reader(itertools.chain(lines, [_END]), delimiter=delimiter), str(file)
        while True:
            start = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                where = f"{name}:{reader.line_num}"
                yield Line(where, DataError.at(where, f"the row cannot be read ({error})", AGAIN))
                continue
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                raise _damaged(file, error) from None
            if fields == [_END]:
                return
            where = f"{name}:{reader.line_num}"
            if fields and fields[-1].endswith(_END):
                where = f"{name}:{start}"
                yield Line(where, DataError.at(where, "a quote opens in the row, and none closes it", AGAIN))
            elif broken := BYTE.search("".join(fields)):
                reason = f"the row is not UTF-8 (byte {ord(broken[0]) - 0xDC00:#x})"
                yield Line(where, DataError.at(where, reason, AGAIN))
            elif fields:
                yield Line(where, fields)


def records(file: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[Line]:
    """The rows of a CSV file with a header, as dictionaries from its column names.

    Args:
        columns: names that the header must hold.

    Raises:
        DataError: no such file, one without rows, or a header without one of the columns.
    """
    lines = csv_lines(file, delimiter)
    first = next(lines)
    header = first.get()
    missing = [name for name in columns if name not in header]
    named = [name for name in header if name.strip()]  # spreadsheets leave some blank
    if missing or len(set(named)) < len(named):
        reason = f"no column {', '.join(map(repr, missing))}" if missing else "a column is named twice"
        found = ", ".join(repr(name[:40]) for name in header[:12])
        raise DataError.at(first.where, f"{reason}; the header has {found}", "Use the original file")

    def record(fields: Any, where: str) -> Any:
        if not isinstance(fields, list):
            return fields
        if len(fields) == len(header):
            return dict(zip(header, fields))
        return DataError.at(where, f"the row has {len(fields)} columns, the header {len(header)}", AGAIN)

    return _filled(file, (Line(where, record(fields, where)) for where, fields in lines))


def json_lines(file: Path) -> Iterator[Line]:
    """The values of a JSON-lines file (.gz and .xz are unpacked); blank lines are left out.

    Raises:
        DataError: no such file, one that cannot be unpacked, or one without rows.
    """
    return _filled(file, _json_lines(file))


def _filled(file: Path, lines: Iterator[Line]) -> Iterator[Line]:
    line = None
    for line in lines:
        yield line
    if line is None:
        raise DataError.at(str(file), "the file has no rows", AGAIN)


def _json_lines(file: Path) -> Iterator[Line]:
    with _open(file) as lines:
        raw_lines, name = _raw_lines(lines), str(file)
        for number in itertools.count(1):
            try:
                raw = next(raw_lines, b"")
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                raise _damaged(file, error) from None
            where = f"{name}:{number}"
            if raw is None:
                reason = f"the line is longer than {LONGEST:,} bytes"
                yield Line(where, DataError.at(where, reason, AGAIN))
                continue
            if not raw:
                return
            try:
                text = decode(raw, where)
                if text.strip():
                    yield Line(where, parse(text, where))
            except DataError as error:
                yield Line(where, error)


def _raw_lines(lines: IO[bytes]) -> Iterator[bytes | None]:
    """Each line with its end, None for one longer than LONGEST: no file can fill the memory."""
    while raw := lines.readline(LONGEST):
        long = False
        while len(raw) == LONGEST and not raw.endswith(b"\n"):
            long, raw = True, lines.readline(LONGEST)
        yield None if long else raw


def decode(raw: bytes, where: str) -> str:
    """The text of a line.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError.at(
            where, f"the line is not UTF-8 (byte {error.start})", "Save the file as UTF-8"
        ) from None


def parse(text: str, where: str) -> Any:
    """The JSON value of a line, in which no object holds a key twice.

    Raises:
        DataError: it is not JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, part in pairs:
            if key in value:
                raise DataError.at(where, f"the key {key!r} stands twice in one object", "Keep one of them")
            value[key] = part
        return value

    try:
        return json.loads(text.strip(), object_pairs_hook=unique)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        reason = f"the line is not JSON ({error.msg} at column {error.colno})"
    except RecursionError:
        reason = "the line is nested too deeply"
    except ValueError as error:  # a number of thousands of digits
        reason = f"the line cannot be read ({error})"
    raise DataError.at(where, reason, "Write one JSON object a line")


def text_of(record: Any, key: str, where: str) -> str:
    """A text of a record, without the white space around it.

    Raises:
        DataError: the record is no object, or lacks the key, or holds something else there.
    """
    value = value_of(record, key, where)
    if not isinstance(value, str):
        raise DataError.at(where, f"{key} is {value!r:.60}, not a text", AGAIN)
    return value.strip()


def id_of(record: Any, key: str, where: str) -> str:
    """An id of a record, a text or a whole number.

    Raises:
        DataError: as `text_of`.
    """
    value = value_of(record, key, where)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError.at(where, f"{key} is {value!r:.60}", "Give a name that is unique in the file")
    return str(value)


def value_of(record: Any, key: str, where: str) -> Any:
    """What stands under a key.

    Raises:
        DataError: the record is no object, or lacks the key.
    """
    if not isinstance(record, dict):
        raise DataError.at(where, "the line is not a JSON object", "Write one JSON object a line")
    if key not in record:
        raise DataError.at(where, f"the key {key!r} is missing", f'Add "{key}", or take the original file')
    return record[key]


def first_file(folder: Path, names: Sequence[str], what: str, mend: str) -> Path:
    """The first of these files that the folder has, by names relative to it; packed ones (.gz, .xz) too.

    Raises:
        DataError: it has none.
    """
    for name in names:
        for suffix in ("", *OPENERS):
            file = folder / f"{name}{suffix}"
            if file.is_file():
                return file
    raise DataError.at(str(folder), f"no {what} here (looked for {', '.join(names)})", mend)


def _open(file: Path) -> IO[bytes]:
    if not file.is_file():
        raise DataError.at(str(file), "no such file", "Check data.path")
    opener = OPENERS.get(file.suffix)
    return open(file, "rb") if opener is None else io.BufferedReader(opener(file, "rb"))


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError.at(str(file), f"the file cannot be unpacked ({error})", AGAIN)
