"""What scoring keeps: fingerprints of parameters, tables under a key of all they depend on, batches of a long pass."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.packing.plan import PlannedBatch
from consistency_jax.data.trees.forest import Forest, Tree
from consistency_jax.models.decoder import DecoderConfig, Params
from consistency_jax.runtime.cache import found_or_made
from consistency_jax.runtime.files import read_arrays, write_arrays
from consistency_jax.runtime.mesh import fetch
from consistency_jax.table import Table


# ----------------------------------------------------------------------------------------------------- the stored table
def fingerprint(params: Params) -> str:
    """A key of the parameters' very bits, computed where they live (no copy to the host)."""

    sums = fetch(_bit_sums(params))
    text = str([(str(path), np.asarray(leaf).tolist()) for path, leaf in jax.tree.leaves_with_path(sums)])
    return hashlib.sha256(text.encode()).hexdigest()


@jax.jit
def _bit_sums(params: Params) -> Params:
    def one(leaf: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(leaf, {2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize])
        bits = bits.astype(jnp.uint32).reshape(-1)
        place = jax.lax.iota(jnp.uint32, bits.shape[0]) * jnp.uint32(2654435761) + jnp.uint32(1)
        return jnp.stack([(bits * place).sum(dtype=jnp.uint32), (bits ^ place).sum(dtype=jnp.uint32)])

    return jax.tree.map(one, params)


def table_key(config: DecoderConfig, params_key: str, trees: Sequence[Tree | None], **options: Any) -> str:
    """A key of all that a table depends on: parameters, model, tokens (so: data, tokenizer, boundary), options."""
    digest = hashlib.sha256(f"{config} {params_key} {sorted(options.items())}".encode())
    forest = Forest.of(trees)
    for array in (forest.segments, forest.length, forest.token, forest.kind):
        digest.update(len(array).to_bytes(8, "little") + array.tobytes())
    return digest.hexdigest()[:32]


def stored(key: str, folder: Path, make: Callable[[Path], Table]) -> Table:
    """The table of `key` from the folder, or made now and stored. A damaged file is made anew.

    `make` is given a folder for what it has finished, which stays when it is killed. Processes: see `found_or_made`.

    Raises:
      ConfigError: where processes have models or tokenizers that differ.
    """
    kept = folder / f"{key}.batches"

    def save(path: Path, table: Table) -> None:
        table.save(path)
        forget(kept)

    what = "parameters, or trees of the data"
    return found_or_made(folder / f"{key}.npz", lambda: make(kept), Table.load, save, what)


EVERY_S = 5.0  # between two files: what a killed pass loses


class KeptBatches:
    """The finished batches of one pass.

    Args:
      folder: made when there is something to keep; may hold what another plan left, which does not count.
      plan: the batches of the pass.
    """

    def __init__(self, folder: Path, plan: Sequence[PlannedBatch]):
        digest = hashlib.sha256()
        for batch in plan:
            digest.update(f"{batch.shape} {batch.places}".encode() + batch.trees.tobytes())
        self._folder, self._plan = folder / digest.hexdigest()[:16], plan
        self._saved, self._last = 0, time.monotonic()

    def load(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """(trees, name -> results of these) of each file, as far as they join."""
        files = {}
        for path in sorted(self._folder.glob("*-*.npz")):
            first, _, stop = path.stem.partition("-")
            files[int(first)] = (int(stop), path)
        while self._saved in files:
            stop, path = files[self._saved]
            try:
                arrays = read_arrays(path)
            except (FileNotFoundError, ValueError):
                return  # damaged: from here on anew
            yield self._trees(self._saved, stop), arrays
            self._saved = stop

    @property
    def done(self) -> int:
        """Batches that are kept."""
        return self._saved

    def save(self, done: int, results: Mapping[str, np.ndarray]) -> None:
        """Keeps batches that are finished and not kept yet, unless that was done just now.

        Args:
          done: finished batches of the pass.
          results: name -> array with one row a tree of the pass.
        """
        if done == self._saved or time.monotonic() - self._last < EVERY_S:
            return
        trees = self._trees(self._saved, done)
        own = {name: values[trees] for name, values in results.items()}
        write_arrays(self._folder / f"{self._saved:07d}-{done:07d}.npz", own)
        self._saved, self._last = done, time.monotonic()

    def _trees(self, first: int, stop: int) -> np.ndarray:
        return np.concatenate([batch.trees for batch in self._plan[first:stop]])


def forget(folder: Path) -> None:
    """Removes what passes kept in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
