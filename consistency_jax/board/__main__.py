"""A leader board of audits: consistency-jax board runs/a runs/b models/other.json --out=board

Each workdir is an audit of one model on one benchmark; those of one model become one entry, models/MODEL.json, which
other boards take. index.html shows a table a benchmark, to be sorted and looked at by language, with intervals, and
says which models are not measurably different. Models stand in one table where they were asked the same.
NAME=runs/a calls a model otherwise than its file. Training runs are left out.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from consistency_jax.board.entries import entries_of
from consistency_jax.board.page import write_board
from consistency_jax.errors import ConfigError
from consistency_jax.runtime.cli import own_command, run_app, run_command
from consistency_jax.runtime.files import local


def board(paths: Sequence[str], out: str | Path) -> Path:
    """Makes the board of workdirs and entries; returns its page.

    Raises:
      UserError: nothing is given, as `entries_of`, or a folder that cannot be written.
    """
    if not paths:
        raise ConfigError("give workdirs of audits, or entries of another board")
    folder = local(out, "--out")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out={out} is a file: name a folder")
    entries, notes = entries_of(paths)
    for note in notes:
        print(f"note: {note}")
    if not entries:
        raise ConfigError("no audit is among what was given")
    page = write_board(folder, entries, own_command() or None)
    benchmarks = {name for entry in entries.values() for name in entry["benchmarks"]}
    counts = {"model": len(entries), "benchmark": len(benchmarks)}
    print(", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()) + f": {page}")
    return page


def main(argv: Sequence[str]) -> None:
    run_command(board, argv[1:], _OUT.value)


if __name__ == "__main__":
    _OUT = flags.DEFINE_string("out", None, "Folder for the board (made if it is not there).")
    flags.mark_flags_as_required(["out"])
    run_app(main)
