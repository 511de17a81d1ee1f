"""Large data sets on disk: read and checked once, then found again, and read by index.

A run that starts on a million preference pairs neither parses their file again nor holds their texts: they lie in an
ArrayRecord file of the user's cache folder, beside the little that is asked of all items at once (`facts.py`).
"""

import copy
import hashlib
import json
import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from consistency_jax.data.facts import FACTS, fact
from consistency_jax.data.items import DataError, Items, ItemSequence, ParallelItem, no_collection
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.runtime.files import complete_path, expanded, read_arrays, write_arrays
from consistency_jax.runtime.processes import on_main

# Bytes of records, from which on items are kept on disk: seconds of reading, and a few times the memory.
LARGE = 2**25
GROUP = 16  # records that are packed together: more are smaller, and take longer to read one by one
AT_ONCE = 4096  # records that a pass over all holds


class StoredItems(ItemSequence, Sequence[ParallelItem]):
    """Items on disk: all of a folder that `store` wrote, or some of them in any order. They are not changed.

    Attributes:
        facts: `FACTS` by name.
        known: the languages that those are about.

    Raises:
        ValueError: the folder is damaged.
    """

    def __init__(self, folder: Path):
        arrays = read_arrays(folder / "facts.npz")
        told = json.loads(arrays.pop("told").tobytes())
        self._path = folder / "items.array_record"
        if not self._path.is_file() or self._path.stat().st_size != told["size"]:
            raise ValueError(f"{self._path} is damaged")
        self.skipped, self.warnings = told["skipped"], told["warnings"]
        self.facts, self.known = arrays, tuple(told["languages"])
        self._places = np.arange(len(arrays["gold"]))

    @cached_property
    def _reader(self) -> ArrayRecordReader:
        return ArrayRecordReader(str(self._path))

    @property
    def languages(self) -> tuple[str, ...]:
        """As of `Items`."""
        there = self.facts["there"]
        first = {
            int(own.argmax()) for own in there.T if own.any()
        }  # the items in which a language appears first
        return tuple(dict.fromkeys(language for n in sorted(first) for language in self[n].prompts))

    def take(self, places: Iterable[int]) -> "StoredItems":
        """As of `Items`; no text is read."""
        places, view = np.fromiter(places, int), copy.copy(self)
        view._places = self._places[places]
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
        for start in range(0, len(self), AT_ONCE):
            yield from self._read(np.arange(start, min(start + AT_ONCE, len(self))))

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


def store(folder: Path, items: Items) -> None:
    """Writes items into a folder, from which `StoredItems` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "items.array_record"
    with complete_path(path) as partial:
        writer = ArrayRecordWriter(str(partial), f"group_size:{GROUP}")
        for item in items:
            writer.write(_record(item))
        writer.close()
    told = {"languages": items.languages, "skipped": items.skipped, "warnings": items.warnings}
    told["size"] = path.stat().st_size
    arrays = {name: fact(items, name) for name in FACTS}
    arrays["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    write_arrays(folder / "facts.npz", arrays)  # the last file: it says that the folder is complete


def stored_or_read(
    arguments: Mapping[str, Any], read: Callable[[], Items], code: Path | None = None
) -> Items | StoredItems:
    """What `read` gives; of a large data set from disk, where it is kept after it was read once.

    Of several processes the first reads, and nothing is kept.

    Args:
        arguments: all that the items depend on (see `fingerprint`). Where they name no file nothing is kept.
        code: see `fingerprint`.
    """
    if jax.process_count() > 1 or next(_files(arguments), None) is None:
        return on_main(read)
    folder = cache_folder() / "items" / fingerprint(arguments, code)
    try:
        return StoredItems(folder)
    except (FileNotFoundError, ValueError):  # not there, or damaged
        items = read()
    size = 0
    with no_collection():
        for item in items:
            if (size := size + len(_record(item))) >= LARGE:
                store(folder, items)
                return StoredItems(folder)
    return items


def fingerprint(arguments: Mapping[str, Any], code: Path | None = None) -> str:
    """A key of what items depend on: the arguments, the state of the files that they name (names, sizes and times),
    and the code that reads them, of this room and in the file `code`."""
    digest = hashlib.sha256(repr(sorted(arguments.items())).encode())
    for file in (*sorted(Path(__file__).parent.rglob("*.py")), *([code] if code else [])):
        digest.update(file.read_bytes())
    for file in _files(arguments):
        state = file.stat()
        digest.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _files(arguments: Mapping[str, Any]) -> Iterator[Path]:
    """Those that some value names, or that are in a folder which it names."""
    for value in arguments.values():
        if value and isinstance(value, str | Path):
            root = expanded(value)
            yield from [root] if root.is_file() else sorted(filter(Path.is_file, root.rglob("*")))


def _record(item: ParallelItem) -> bytes:
    """An item's fields in their order; those that are maps as plain ones."""
    values = [dict(value) if isinstance(value, Mapping) else value for value in vars(item).values()]
    return marshal.dumps(
        values, 2
    )  # faster than JSON by far; the version is fixed, so that any Python reads it


def _item(record: bytes) -> ParallelItem:
    return ParallelItem(*marshal.loads(record))
