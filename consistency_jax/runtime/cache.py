"""Where things that several runs share are kept: prepared data sets, items, base models, reference tables, trees."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.files import expanded
from consistency_jax.runtime.processes import check_same, on_main

T = TypeVar("T")


def cache_folder() -> Path:
    """$CONSISTENCY_CACHE, else the user's cache folder.

    Raises:
      ConfigError: it is in a bucket.
    """
    named = os.environ.get("CONSISTENCY_CACHE")
    if named:
        if "://" in named:
            raise ConfigError(f"CONSISTENCY_CACHE={named}: give a folder of this machine")
        return expanded(named)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "consistency_jax"


def found_or_made(
    path: Path,
    make: Callable[[], T],
    load: Callable[[Path], T],
    save: Callable[[Path, T], None],
    what: str,
) -> T:
    """What is kept under a path that is a key of all it depends on, or what is made now and kept there.

    Of several processes the first looks into its folder, and all take what it finds, or make it together.

    Args:
      load: raises ValueError for a damaged file, which is made anew.
      save: so that the file appears when it is complete; two runs may do that at once.
      what: the key is of, as an error calls it.

    Raises:
      ConfigError: where processes have keys that differ.
    """
    check_same(what, path.name, "give all hosts the same model folder and packages")

    def found() -> T | None:
        if path.exists():
            with contextlib.suppress(ValueError):
                return load(path)
        return None

    value = on_main(found)
    if value is None:
        value = made = make()
        on_main(lambda: save(path, made))
    return value
