"""Preparing TFDS builders: quietly, and by one process at a time."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tensorflow_datasets as tfds

from consistency_jax.runtime.files import locked, named

Builder = TypeVar("Builder", bound=tfds.core.DatasetBuilder)


def prepared(make: Callable[[], Builder]) -> Builder:
    """The builder that `make` gives, with its records: read from where it keeps them, or made there first.

    Runs that start at once and share a cache take turns: each would otherwise try to put its own records in the same
    place, and all but the first fail. A builder looks at what lies there when it is made, hence `make`.
    """
    tfds.disable_progress_bar()
    builder = make()
    folder = Path(builder.data_dir)
    if folder.exists():
        return builder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = locked(folder.with_name(f"{folder.name}.lock"), wait=True)
    try:
        builder = make()
        # A line for each of thirty languages helps nobody.
        with named(folder), contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    finally:
        lock.release()
    return builder
