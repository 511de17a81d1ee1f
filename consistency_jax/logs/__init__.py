"""What other tools have logged of a model's answers, as items and tables: a reader and a row of READERS a format."""

import re
from collections.abc import Callable
from pathlib import Path

from consistency_jax.data.items import DataError
from consistency_jax.logs import inspect, lighteval, lm_eval, plain
from consistency_jax.logs.matching import Match
from consistency_jax.logs.told import Logged

# Name -> (names of its files; what reads them).
READERS: dict[str, tuple[re.Pattern, Callable[..., Logged]]] = {
    "lm_eval": (lm_eval.NAME, lm_eval.read),
    "lighteval": (lighteval.NAME, lighteval.read),
    "inspect": (inspect.NAME, inspect.read),
    "plain": (plain.NAME, plain.read),
}


def read_logs(path: Path, tasks: str = "", join: str = "", match: Match | None = None) -> Logged:
    """What a folder, or a file, of logs holds, whatever wrote it.

    Args:
      tasks: which tasks, joined by +, `{language}` in the place of the language; "": every one that is there in two.
      join: the field by which questions of the languages belong together; "": as the format has it.
      match: tells which answers in words are the same; None: those that are spelt alike.

    Raises:
      DataError: no logs, logs that hold no scores, or languages that do not ask the same.
    """
    if not path.exists():
        raise DataError.at(str(path), "there is no such file or folder", "Name what holds the logs")
    for files, read in READERS.values():
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        if found := [file for file in found if files.fullmatch(file.name)]:
            return read(path, found, tasks, join, match)
    raise DataError.at(
        str(path), "no logs", "Name a folder of lm_eval, lighteval or Inspect, or a JSONL file"
    )
