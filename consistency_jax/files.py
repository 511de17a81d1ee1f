"""Files that are never half there: each appears under its name only when it is complete."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def complete_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write bytes to, which takes its name when the block ends; after an error nothing has changed.

    Several processes may write one file at once (runs that share a cache): the last one stays.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def readable(path: Path) -> None:
    """Gives a file that a library wrote for its owner alone the mode that any new file gets."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8, complete or not at all."""
    with complete_file(path) as file:
        file.write(text.encode())
