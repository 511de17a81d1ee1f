"""What a scoring pass has finished, kept in a folder: a pass that was killed goes on from there, to the same bits.

The batches of a pass are planned from its trees alone and run in order, so what is finished is a number of batches.
Files `FIRST-STOP.npz` hold the results of batches FIRST..STOP-1; together they reach as far as they join.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from consistency_jax.data.planning import PlannedBatch
from consistency_jax.files import read_arrays, write_arrays

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
