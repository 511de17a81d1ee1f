"""What other tools have logged of a model's answers, as items and tables: a reader and a row of READERS a format."""

from collections.abc import Callable
from pathlib import Path

from consistency_jax.data.items import DataError
from consistency_jax.logs import lm_eval, plain
from consistency_jax.logs.answers import Logged

# Name -> (files of it, relative to the folder; what reads them).
READERS: dict[str, tuple[str, Callable[..., Logged]]] = {
    "lm_eval": (lm_eval.FILES, lm_eval.read),
    "plain": (plain.FILES, plain.read),
}


def read_logs(path: Path, tasks: str = "", join: str = "") -> Logged:
    """What a folder, or a file, of logs holds, whatever wrote it.

    Args:
      tasks: which tasks, joined by +, `{language}` in the place of the language; "": every one that is there in two.
      join: the field by which questions of the languages belong together; "": as the format has it.

    Raises:
      DataError: no logs, logs that hold no scores, or languages that do not ask the same.
    """
    if not path.exists():
        raise DataError.at(str(path), "there is no such file or folder", "Name what holds the logs")
    for files, read in READERS.values():
        found = [path] if path.is_file() and path.match(files) else sorted(path.rglob(files))
        if found:
            return read(path, found, tasks, join)
    known = " or ".join(files for files, _ in READERS.values())
    raise DataError.at(
        str(path), f"no file {known}", "Name a folder of lm_eval --log_samples, or a JSONL file"
    )
