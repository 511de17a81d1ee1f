"""What scoring stores: tables under a key of all they depend on, and the finished batches of a long pass."""

import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.packing.plan import PlannedBatch
from consistency_jax.data.trees.forest import Forest
from consistency_jax.models.decoder import DecoderConfig, Params
from consistency_jax.runtime.cache import found_or_made
from consistency_jax.runtime.files import read_arrays, write_arrays
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
        bits = bits.astype(jnp.uint32).reshape(-1)
        place = jax.lax.iota(jnp.uint32, bits.shape[0]) * jnp.uint32(2654435761) + jnp.uint32(1)
        return jnp.stack([(bits * place).sum(dtype=jnp.uint32), (bits ^ place).sum(dtype=jnp.uint32)])

    return jax.tree.map(one, params)


def table_key(config: DecoderConfig, params_key: str, trees: Forest, **options: Any) -> str:
    """A key of all that a table depends on: parameters, model, tokens (so: data, tokenizer, boundary), options."""
    digest = hashlib.sha256(f"{config} {params_key} {sorted(options.items())}".encode())
    for array in (trees.segments, trees.length, trees.token, trees.kind, trees.bytes):
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def stored(key: str, folder: Path, make: Callable[[Path], Table], told: str = "") -> Table:
    """The table of `key` from the folder, or made now and stored. A damaged file is made anew.

    `make` is given a folder for its finished batches, which stays when it is killed. Processes: see `found_or_made`.

    Args:
      told: what it is called where it is found, on the terminal; empty: nothing is told.

    Raises:
      ConfigError: where processes have models or tokenizers that differ.
    """
    batches, made = folder / f"{key}.batches", []

    def make_now() -> Table:
        made.append(key)
        return make(batches)

    def save(path: Path, table: Table) -> None:
        table.save(path)
        shutil.rmtree(batches, ignore_errors=True)

    what = "parameters, or trees of the data"
    table = found_or_made(folder / f"{key}.npz", make_now, Table.load, save, what)
    if told and not made and is_main():
        print(f"{told}: kept from before", file=sys.stderr, flush=True)
    return table


EVERY_S = 5.0  # between two files: what a killed pass loses


class PassResults:
    """What a pass over batches has found: one row a tree, zeros for those of no batch (yet).

    With a folder, finished batches are stored there too, and those that a killed pass of the same plan has left are
    read from it.

    Args:
      names: of the results to keep.
      trees: N, of the whole pass.
      plan: the batches of the pass, which are given to `add` in this order.
      folder: None: nothing is stored.

    Attributes:
      done: batches that are finished.
      arrays: name -> [N, ...].
    """

    def __init__(self, names: Sequence[str], trees: int, plan: Sequence[PlannedBatch], folder: Path | None):
        self.done, self.arrays = 0, {}
        self._names, self._trees, self._plan, self._folder = names, trees, plan, None
        if folder is not None:
            digest = hashlib.sha256()
            for batch in plan:
                digest.update(f"{batch.shape} {batch.places}".encode() + batch.trees.tobytes())
            self._folder = folder / digest.hexdigest()[:16]
            self._load(self._folder)
        self._saved, self._last = self.done, time.monotonic()

    def add(self, values: Mapping[str, np.ndarray]) -> None:
        """The results of the next batch; stored, unless that was done just now."""
        self._note(self.done + 1, values)
        if self._folder is None or time.monotonic() - self._last < EVERY_S:
            return
        own = self._trees_of(self._saved, self.done)
        path = self._folder / f"{self._saved:07d}-{self.done:07d}.npz"
        write_arrays(path, {name: found[own] for name, found in self.arrays.items()})
        self._saved, self._last = self.done, time.monotonic()

    def _load(self, folder: Path) -> None:
        """What the files hold, as far as they join."""
        files = {}
        for path in sorted(folder.glob("*-*.npz")):
            first, _, stop = path.stem.partition("-")
            files[int(first)] = (int(stop), path)
        while self.done in files:
            stop, path = files[self.done]
            try:
                self._note(stop, read_arrays(path))
            except (FileNotFoundError, ValueError):
                return  # damaged: from here on anew

    def _note(self, stop: int, values: Mapping[str, np.ndarray]) -> None:
        """The results of all batches from the last finished one up to `stop`."""
        trees = self._trees_of(self.done, stop)
        for name in self._names:
            if name not in self.arrays:
                shape, dtype = values[name].shape[1:], values[name].dtype
                self.arrays[name] = np.zeros((self._trees, *shape), dtype)
            self.arrays[name][trees] = values[name][: len(trees)]
        self.done = stop

    def _trees_of(self, first: int, stop: int) -> np.ndarray:
        return np.concatenate([batch.trees for batch in self._plan[first:stop]])
