"""Large data sets on disk: read and checked once, then found again, and read by index.

A run that starts on a million preference pairs neither parses their file again nor holds their texts: they lie in an
ArrayRecord file of the user's cache folder, beside the little that is asked of all items at once (`facts.py`).
"""

import contextlib
import copy
import hashlib
import json
import marshal
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from consistency_jax.data.facts import FACTS, fact
from consistency_jax.data.items import DataError, Items, ItemSequence, ParallelItem, no_collection
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.runtime.files import complete_path, expanded, locked, read_arrays, write_arrays
from consistency_jax.runtime.processes import on_main, several

# Bytes of files from which on items are kept on disk, and of records from which on they stay there: seconds of reading,
# and a few times the memory.
LARGE = 2**25
GROUP = 16  # records that are packed together: more are smaller, and take longer to read one by one
RECORDS = 4096  # that a pass over all holds
FACTS_FILE = "facts.npz"


class StoredItems(ItemSequence, Sequence[ParallelItem]):
    """Items on disk: all of a folder that `store` wrote, or some of them in any order. They are not changed.

    Args:
        folder: of `store`.
        state: that it was written for.

    Attributes:
        facts: `FACTS` by name.
        known: the languages that those are about.
        size: bytes of all records, about.

    Raises:
        OSError: there is nothing.
        ValueError: the folder is damaged, or of another state.
        DataError: when items are read, and cannot be.
    """

    def __init__(self, folder: Path, state: str = ""):
        arrays = read_arrays(folder / FACTS_FILE)
        told = json.loads(arrays.pop("told", np.frombuffer(b"{}", np.uint8)).tobytes())
        if told.get("state") != state:
            raise ValueError(f"{folder} is of another state")
        self._path = folder / told["records"]
        if self._path.stat().st_size != told["bytes"]:
            raise ValueError(f"{self._path} is damaged")
        # Opened now: another run may put other records here.
        self._reader = ArrayRecordReader(str(self._path))
        self.skipped, self.warnings, self.size = told["skipped"], told["warnings"], told["size"]
        self.facts, self.known = arrays, tuple(told["languages"])
        self._places = np.arange(len(arrays["gold"]))

    @property
    def languages(self) -> tuple[str, ...]:
        """As of `Items`."""
        there = self.facts["there"]
        # The items in which a language appears first.
        first = {int(own.argmax()) for own in there.T if own.any()}
        return tuple(dict.fromkeys(language for n in sorted(first) for language in self[n].prompts))

    def take(self, places: Iterable[int]) -> "StoredItems":
        """As of `Items`; no text is read."""
        places, view = np.fromiter(places, int), copy.copy(self)
        view._places, view.size = self._places[places], self.size * len(places) // max(len(self), 1)
        view.facts = {name: values[places] for name, values in self.facts.items()}
        view.skipped, view.warnings = list(self.skipped), list(self.warnings)
        return view

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, n: Any) -> Any:
        if isinstance(n, slice):
            return self.take(np.arange(len(self))[n])
        if not -len(self) <= n < len(self):
            raise IndexError(f"item {n} of {len(self)}")
        return self._read([n])[0]

    def __iter__(self) -> Iterator[ParallelItem]:
        for start in range(0, len(self), RECORDS):
            yield from self._read(np.arange(start, min(start + RECORDS, len(self))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredItems):
            return NotImplemented
        return self._path == other._path and np.array_equal(self._places, other._places)

    __hash__ = None

    def _read(self, places: Sequence[int] | np.ndarray) -> list[ParallelItem]:
        try:
            records = self._reader.read([int(n) for n in self._places[places]])
        except (RuntimeError, ValueError, IndexError) as error:
            mend = "Delete it: the data set is then read again"
            raise DataError.at(str(self._path), f"it is damaged ({str(error)[:80]})", mend) from error
        return [_item(record) for record in records]


def store(folder: Path, items: Items, state: str = "") -> None:
    """Writes items into a folder, from which `StoredItems` reads them; what was there before goes. For one at a time.

    Args:
        state: a key of what they were made of.

    Raises:
        OSError, RuntimeError: it cannot be written.
        DataError: an item that holds something else than plain texts and numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, size = folder / f"{uuid.uuid4().hex[:8]}.array_record", 0
    with complete_path(path) as partial:
        writer = ArrayRecordWriter(str(partial), f"group_size:{GROUP}")
        for item in items:
            record = _record(item)
            size += len(record)
            writer.write(record)
        writer.close()
    told = {"state": state, "records": path.name, "bytes": path.stat().st_size, "size": size}
    told |= {"languages": items.languages, "skipped": items.skipped, "warnings": items.warnings}
    arrays = {name: fact(items, name) for name in FACTS}
    arrays["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    write_arrays(folder / FACTS_FILE, arrays)  # the last file: it says which records it is of
    for other in folder.glob("*.array_record*"):  # of before, or half of one, of a process that was killed
        if other != path:
            other.unlink()


def stored_or_read(
    path: str | Path | None,
    settings: Mapping[str, Any],
    read: Callable[[], Items],
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    code: Path | None = None,
) -> ItemSequence:
    """What `read` gives; of a large data set from disk, where it is kept after it was read once.

    Of several processes the first reads, and nothing is kept; nor where `path` is no file or folder here, or where it
    cannot be, which is told.

    Args:
        path: of the data.
        settings: all else that the items depend on, with `options`, which may name files, too. They are found again by
            these, while the files (names, sizes and times) and the code that reads stay as they are.
        code: a file of that code, beside those of this room.

    Raises:
        What `read` raises.
    """
    state, size = files_state([path], code)
    if several() or size < LARGE:
        return on_main(read)
    settings, state = {**settings, **options}, state + files_state(options.values())[0]
    folder = cache_folder() / "items" / key_of([expanded(path).absolute(), sorted(settings.items())])
    missing = (OSError, ValueError)  # not there, or not as it was
    with contextlib.suppress(*missing):
        return in_memory(StoredItems(folder, state))
    items = read()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder / ".lock", wait=True)
        try:
            with contextlib.suppress(*missing):  # another run was faster
                return in_memory(StoredItems(folder, state))
            with no_collection():
                store(folder, items, state)
            return in_memory(StoredItems(folder, state))
        finally:
            lock.release()
    except (OSError, RuntimeError, ValueError) as error:
        print(f"note: {len(items):,} items cannot be kept in {folder}: {error}", file=sys.stderr)
        return items


def in_memory(items: ItemSequence) -> ItemSequence:
    """A small part of a large set as items in memory; any other items themselves."""
    return items.only(items) if isinstance(items, StoredItems) and items.size < LARGE else items


def files_state(values: Iterable[Any], code: Path | None = None) -> tuple[str, int]:
    """A key of the files that some of these values name, or that are in folders which they name, by their names, sizes
    and times, and of the code that reads data, of this room and in `code`; and how many bytes those files have."""
    state, size = [], 0
    for file in (*sorted(Path(__file__).parent.rglob("*.py")), *([code] if code else [])):
        state.append(hashlib.sha256(file.read_bytes()).hexdigest())
    for value in values:
        for file in _files(expanded(value)) if _exists(value) else ():
            try:
                found = file.stat()
            except FileNotFoundError:  # it went
                continue
            state.append(f"{file} {found.st_size} {found.st_mtime_ns}")
            size += found.st_size
    return key_of(state), size


def _exists(value: Any) -> bool:
    try:
        return isinstance(value, str | Path) and bool(str(value)) and expanded(value).exists()
    except (OSError, ValueError):  # a text, and no path
        return False


def _files(root: Path) -> Iterator[Path]:
    """The file itself, or all that are in a folder, also behind links."""
    if root.is_file():
        yield root
    seen: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        names[:] = sorted(name for name in names if os.path.realpath(os.path.join(folder, name)) not in seen)
        seen.add(os.path.realpath(folder))
        yield from (Path(folder, name) for name in sorted(files))


def key_of(parts: Sequence[Any]) -> str:
    """A key of these, 16 hexadecimal digits."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _record(item: ParallelItem) -> bytes:
    """An item's fields in their order; those that are maps as plain ones."""
    values = [dict(value) if isinstance(value, Mapping) else value for value in vars(item).values()]
    # Faster than JSON by far; the version is fixed, so that any Python reads it. What is no plain text or number it
    # would write as bytes, or not at all.
    try:
        record = marshal.dumps(values, 2)
    except ValueError:
        record = b""
    if not record or marshal.loads(record) != values:
        raise DataError.at(
            item.where or f"item {item.id!r}",
            "a text or number is of a type of its own",
            "Mend the reader: give str and int",
        )
    return record


def _item(record: bytes) -> ParallelItem:
    return ParallelItem(*marshal.loads(record))
