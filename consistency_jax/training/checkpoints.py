"""Orbax checkpoints of a training state: written in the background (on a CPU at once), the newest N kept, restored onto
any mesh."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import jax
from etils import epy

from consistency_jax.errors import CheckpointError
from consistency_jax.runtime.files import errno_of, location
from consistency_jax.runtime.processes import on_main, several
from consistency_jax.scoring.stored import bit_sums

with epy.lazy_imports():  # when it is used: a command's first line need not wait for it
    import orbax.checkpoint as ocp

# Bytes of a piece of an array, and of a file. What is written is compressed in memory, piece by piece, and kept there
# until a file is full: as Orbax has it (whole arrays, 2 GB) all of a state would lie there once more.
PIECE, FILE = 2**26, 2**27
PARTS = ("params", "progress")  # of a state
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a folder that Orbax is still writing
UNREAD = (errno.EACCES, errno.EPERM, errno.EIO)  # of the disk, whatever the checkpoint is
SUMS = "sums"  # in a step's metadata: `bit_sums` of each part of a state as it was written


class Checkpointer:
    """The checkpoints of one stage: `folder`/STEP/ for each kept step.

    A step's folder appears under its name only when it is complete, so a process killed while writing leaves nothing
    that could be mistaken for a checkpoint. Of several processes each writes and reads the arrays' parts on its own
    devices, in one folder that all of them see; every call is one of all processes.
    """

    def __init__(self, folder: str | Path, keep: int = 2):
        self.folder, self._keep = location(folder), keep
        try:
            on_main(lambda: self.folder.mkdir(parents=True, exist_ok=True))
        except OSError as error:
            raise CheckpointError(f"cannot make the checkpoint folder {self.folder}: {error}") from error
        # On a CPU nothing is copied off the device: what is being written lies in the state's own buffers, and a step
        # meanwhile could not be donated them, but would copy all of them.
        behind = jax.default_backend() != "cpu"
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=behind)
        # A part without a handler of its name is warned of, on reading.
        handlers = {name: ocp.PyTreeCheckpointHandler() for name in PARTS}
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        except (ValueError, KeyError, TypeError) as error:  # it reads what each step says of itself
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"a checkpoint in {self.folder} is damaged ({reason}). Delete the folder of that step, or start afresh"
            ) from error

    @property
    def latest_step(self) -> int | None:
        return on_main(self._manager.latest_step)

    @property
    def steps(self) -> list[int]:
        return on_main(self._own_steps)

    def _own_steps(self) -> list[int]:
        """Those that this process knows of."""
        return sorted(self._manager.all_steps())

    def prune(self) -> None:
        """Deletes what is older than the newest `keep`, and what is half-written: a process killed while it wrote may
        leave either. For a run that holds the workdir, before it writes."""
        on_main(self._delete_unfinished)
        for step in self.steps[: -self._keep]:
            self._manager.delete(step)

    def _delete_unfinished(self) -> None:
        for path in self.folder.glob(f"*{UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Starts writing `state`, named parts that can be read apart; returns once they are copied off the device, on a
        CPU once they are written.

        A step that is there already is kept.

        Raises:
          CheckpointError: where this or the previous write failed (a full disk, say); earlier checkpoints stand.
        """
        if step in self.steps:
            return
        sums = {name: _sums(tree) for name, tree in state.items()}
        parts = ocp.args.Composite(**{name: _writing(tree) for name, tree in state.items()})
        try:
            self._manager.save(step, args=parts, custom_metadata={SUMS: sums})
        except Exception as error:  # Orbax wraps what the file system says in many types
            raise CheckpointError(self._write_failed(error)) from error

    def wait(self) -> None:
        """Blocks until everything is on disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise CheckpointError(self._write_failed(error)) from error

    def restore(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """The parts of `step` named in `like`, laid out as its arrays (or `jax.ShapeDtypeStruct`s with shardings).

        Raises:
          CheckpointError: where there is no such step, or its files cannot be read, do not fit or are not as they were
            written.
        """
        if step not in (steps := self.steps):
            raise CheckpointError(
                f"{self.folder} has no checkpoint of step {step}; it has: {steps or 'none'}"
            )
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        try:
            parts = {
                name: ocp.args.PyTreeRestore(
                    tree, restore_args=ocp.checkpoint_utils.construct_restore_args(tree)
                )
                for name, tree in abstract.items()
            }
            told = self._manager.metadata(step).custom_metadata or {}
            found = dict(self._manager.restore(step, args=ocp.args.Composite(**parts)).items())
        except Exception as error:
            if (number := errno_of(error)) in UNREAD:
                told = f"the checkpoint {self.folder / str(step)} cannot be read: {os.strerror(number)}"
                raise CheckpointError(f"{told}; mend that, then give the same command again") from error
            reason = " ".join(str(error).split())[:300]
            what = f"cannot be read ({type(error).__name__}: {reason})"
            first = (
                "Give the settings that it was trained with (lora, optimizer.freeze); where it is damaged: "
            )
            raise self._bad(step, what, first) from error
        sums = told.get(SUMS)
        for name in found if sums else ():  # checkpoints of earlier versions have none
            changed = [path for path, own in _sums(found[name]).items() if own != sums[name].get(path)]
            if changed:
                raise self._bad(step, f"is damaged: {name}/{changed[0]} is not as it was written")
        return found

    def _bad(self, step: int, what: str, first: str = "") -> CheckpointError:
        others = [other for other in self._own_steps() if other != step]
        mend = f"resume from step {others[-1]}" if others else "start afresh"
        return CheckpointError(
            f"the checkpoint {self.folder / str(step)} {what}. {first}Delete that folder to {mend}."
        )

    def close(self) -> None:
        self.wait()
        self._manager.close()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Where another process is gone, what is being written cannot be completed, and would be waited for.
        if not (kind and issubclass(kind, jax.errors.JaxRuntimeError) and several()):
            self.close()

    def _write_failed(self, error: Exception) -> str:
        number, text = errno_of(error), " ".join(str(error).split())
        reason = os.strerror(number) if number else f"{type(error).__name__}: {text[:300]}"
        return (
            f"cannot write a checkpoint to {self.folder} ({reason}). "
            f"Checkpoints that stand: {self._own_steps() or 'none'}; free some space or choose another --workdir, "
            "then give the same command again to resume."
        )


def _writing(tree: Any) -> "ocp.args.PyTreeSave":
    pieces = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=PIECE), tree)
    return ocp.args.PyTreeSave(tree, save_args=pieces, ocdbt_target_data_file_size=FILE)


def _sums(tree: Any) -> dict[str, list[int]]:
    return {jax.tree_util.keystr(path, simple=True, separator="/"): sums for path, sums in bit_sums(tree)}
