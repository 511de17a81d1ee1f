"""Making very many small objects: Python's search for cycles among them finds none, and takes a third of the time."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Inside, reference cycles are not looked for; what is dropped is freed as ever."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
