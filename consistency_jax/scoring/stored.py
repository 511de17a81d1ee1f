"""What scoring stores: tables under a key of all they depend on, and the finished batches of a long pass."""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.packing.plan import PlannedBatch
from consistency_jax.data.trees.forest import Forest
from consistency_jax.models.decoder import DecoderConfig, Params
from consistency_jax.runtime.cache import found_or_made
from consistency_jax.runtime.files import locked, read_arrays, write_arrays
from consistency_jax.runtime.mesh import fetch
from consistency_jax.runtime.processes import is_main
from consistency_jax.table import Table


def fingerprint(params: Params) -> str:
    """A key of the parameters' very bits, computed where they live (no copy to the host)."""
    return hashlib.sha256(str([(str(path), sums) for path, sums in bit_sums(params)]).encode()).hexdigest()


def bit_sums(tree: Any) -> list[tuple[Any, list[int]]]:
    """For each array of a tree its path, and two sums of its bits that change with any bit, made where it lives."""
    sums = fetch(_bit_sums(tree))
    return [(path, np.asarray(leaf).tolist()) for path, leaf in jax.tree.leaves_with_path(sums)]


@jax.jit
def _bit_sums(params: Params) -> Params:
    def one(leaf: jax.Array) -> jax.Array:
        if leaf.dtype == bool:
            leaf = leaf.astype(jnp.uint8)
        width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
        bits = jax.lax.bitcast_convert_type(leaf, width)
        bits = bits.astype(jnp.uint32)
        # Counted axis by axis: a flattened array would be gathered whole on every device of a mesh.
        place, stride = jnp.zeros(bits.shape, jnp.uint32), 1
        for axis in reversed(range(bits.ndim)):
            place += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
            stride *= bits.shape[axis]
        place = place * jnp.uint32(2654435761) + jnp.uint32(1)
        # One reduction of both: as two, XLA's CPU compiler writes what they share to memory, twice the array.
        zero, axes = jnp.uint32(0), tuple(range(bits.ndim))
        both = jax.lax.reduce((bits * place, bits ^ place), (zero, zero), _add_pairs, axes)
        return jnp.stack(both)

    return jax.tree.map(one, params)


def _add_pairs(total: tuple[jax.Array, ...], more: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return tuple(t + m for t, m in zip(total, more, strict=True))


def table_key(config: DecoderConfig, params_key: str, trees: Forest, **options: Any) -> str:
    """A key of all that a table depends on: parameters, model, tokens (so: data, tokenizer, boundary), options; not on
    what a backward pass computes again, which a resumed run may change."""
    config = dataclasses.replace(config, remat="none")
    digest = hashlib.sha256(f"{config} {params_key} {sorted(options.items())}".encode())
    for array in (trees.segments, trees.length, trees.token, trees.kind, trees.bytes):
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def stored(key: str, folder: Path, make: Callable[[Path], Table], told: str = "") -> Table:
    """The table of `key` from the folder, or made now and stored. A damaged file is made anew.

    `make` is given a folder for its finished batches, which stays when it is killed, and which runs that make the same
    table at the same time share. Processes of one run: see `found_or_made`.

    Args:
      told: what it is called where it is found, on the terminal; empty: nothing is told.

    Raises:
      ConfigError: where processes have models or tokenizers that differ.
    """
    path, batches, made = folder / f"{key}.npz", folder / f"{key}.batches", []

    def make_now() -> Table:
        made.append(key)
        try:
            return make(batches)
        except Finished:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return Table.load(path)
            path.unlink(missing_ok=True)  # it was damaged
            return make(batches)

    def save(path: Path, table: Table) -> None:
        table.save(path)
        shutil.rmtree(batches, ignore_errors=True)

    what = "parameters, or trees of the data"
    table = found_or_made(path, make_now, Table.load, save, what)
    if told and not made and is_main():
        print(f"{told}: kept from before", file=sys.stderr, flush=True)
    return table


EVERY_S = 5.0  # between two files: what a killed pass loses
PARTS, LARGEST = 64, 16  # that a pass is cut into, at least; and batches of one, at most


class Finished(Exception):
    """What a pass is for is there: another process was done with it."""


class PassResults:
    """What a pass over batches has found: one row a tree, zeros for those of no batch (yet).

    With a folder, finished batches are stored there, and a pass that was killed goes on from them. Processes that are
    given the same pass at the same time share it: each takes the next part that is neither finished nor another's, and
    what one that was killed had taken is free again.

    Args:
      names: of the results to keep.
      trees: N, of the whole pass.
      plan: the batches of the pass.
      folder: on a disk that all of these processes see; None: nothing is stored.
      finished: a file that is there as soon as the pass is not needed any more; None: there is none.

    Attributes:
      arrays: name -> [N, ...].

    Raises:
      Finished: here, and where it says so.
    """

    def __init__(
        self,
        names: Sequence[str],
        trees: int,
        plan: Sequence[PlannedBatch],
        folder: Path | None,
        finished: Path | None = None,
    ):
        self.arrays: dict[str, np.ndarray] = {}
        self._names, self._trees, self._plan = names, trees, plan
        self._folder, self._finished = None, finished
        self._have, self._part = np.zeros(len(plan), bool), min(max(len(plan) // PARTS, 1), LARGEST)
        self._unsaved: list[int] = []  # batches, in order and without a gap
        self._last, self._read = time.monotonic(), set[str]()
        self._locks: dict[int, filelock.BaseFileLock] = {}  # of the parts that this process has
        if folder is not None:
            # Devices of another kind give other last bits.
            digest = hashlib.sha256(jax.devices()[0].device_kind.encode())
            for batch in plan:
                digest.update(f"{batch.shape} {batch.places}".encode() + batch.trees.tobytes())
            self._folder = folder / digest.hexdigest()[:16]
            with self._unless_finished():
                self._folder.mkdir(parents=True, exist_ok=True)
            self.refresh()

    @property
    def done(self) -> int:
        """Batches that are finished."""
        return int(self._have.sum())

    def claims(self, others: bool = False) -> Iterator[int]:
        """Batches to compute, as `add` is given them, until no part is free. It ends while other processes are at the
        rest.

        Args:
          others: also those that another process has, and may never finish.

        Raises:
          Finished.
        """
        for start in range(0, len(self._plan), self._part):
            own = range(start, min(start + self._part, len(self._plan)))
            if self._have[own].all() or not self._taken(start) and not others:
                continue
            self.refresh()  # another may have been at it, and was killed
            if self._have[own].all():
                self._leave(start)
            yield from (number for number in own if not self._have[number])

    def add(self, number: int, values: Mapping[str, np.ndarray]) -> None:
        """The results of a batch; stored, unless that was done just now.

        Raises:
          Finished, OSError.
        """
        if self._unsaved and number != self._unsaved[-1] + 1:
            self._save()
        self._note(number, number + 1, values)
        self._unsaved.append(number)
        start = number - number % self._part
        ended = self._have[start : start + self._part].all()
        if ended or time.monotonic() - self._last >= EVERY_S:
            self._save()
        if ended:
            self._leave(start)

    def refresh(self) -> None:
        """Reads what other processes have stored.

        Raises:
          Finished.
        """
        if self._folder is None or self._have.all():
            return
        self._check()
        with contextlib.suppress(FileNotFoundError):  # nothing was stored, or somebody removed it
            names = {name for name in os.listdir(self._folder) if name.endswith(".npz")}
            for name in sorted(names - self._read):
                with contextlib.suppress(ValueError):  # damaged: it is made anew
                    first, _, stop = name.removesuffix(".npz").partition("-")
                    self._note(int(first), int(stop), read_arrays(self._folder / name))
                    self._read.add(name)

    def close(self) -> None:
        """Leaves the parts that are not finished to others."""
        for start in list(self._locks):
            self._leave(start)

    def _taken(self, start: int) -> bool:
        """Takes the part that begins with a batch, unless another process has it."""
        if self._folder is None or start in self._locks:
            return True
        with self._unless_finished():  # who finished it removes the folder
            lock = locked(self._folder / f"{start:07d}.lock")
        if lock is None:
            return False
        self._locks[start] = lock
        return True

    def _leave(self, start: int) -> None:
        if lock := self._locks.pop(start, None):
            lock.release()

    def _check(self) -> None:
        if self._finished is not None and self._finished.exists():
            raise Finished

    @contextlib.contextmanager
    def _unless_finished(self) -> Iterator[None]:
        """A process that is done may remove the folder while this one writes, between any two calls of the system."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            self._check()
            raise

    def _save(self) -> None:
        if self._folder is not None and self._unsaved:
            first, stop = self._unsaved[0], self._unsaved[-1] + 1
            own = self._trees_of(first, stop)
            path = self._folder / f"{first:07d}-{stop:07d}.npz"
            with self._unless_finished():
                write_arrays(path, {name: found[own] for name, found in self.arrays.items()})
            self._read.add(path.name)
        self._unsaved, self._last = [], time.monotonic()

    def _note(self, first: int, stop: int, values: Mapping[str, np.ndarray]) -> None:
        """The results of some batches in order."""
        trees = self._trees_of(first, stop)
        for name in self._names:
            if name not in self.arrays:
                shape, dtype = values[name].shape[1:], values[name].dtype
                self.arrays[name] = np.zeros((self._trees, *shape), dtype)
            self.arrays[name][trees] = values[name][: len(trees)]
        self._have[first:stop] = True

    def _trees_of(self, first: int, stop: int) -> np.ndarray:
        return np.concatenate([batch.trees for batch in self._plan[first:stop]])
