"""Scores trees batch by batch: plans shapes, packs rows, runs them on the mesh, and keeps what they give."""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from consistency_jax.data.packing.attention_blocks import BlockSizes, choose_sizes, make_blocks
from consistency_jax.data.packing.plan import PlannedBatch, batch_plan
from consistency_jax.data.packing.rows import Shape, pack, tree_sizes
from consistency_jax.data.pipeline import prefetched
from consistency_jax.data.trees.forest import Forest
from consistency_jax.models.decoder import DecoderConfig, Params
from consistency_jax.models.flops import mask_cost
from consistency_jax.runtime.files import in_bucket
from consistency_jax.runtime.mesh import on_mesh, put, replicated, row_groups
from consistency_jax.runtime.progress import Progress
from consistency_jax.runtime.watch import Watch
from consistency_jax.scoring.logps import batch_shardings, tree_logps
from consistency_jax.scoring.stored import PassResults

WAIT_S = 0.5  # between two looks at what other processes do, where nothing is left to take
PATIENCE_S = 120.0  # until what they took, and say nothing of, is done here too
CPU_THREADS = 4  # batches that run at once on a CPU: the operations of a small model do not fill its cores


class Scorer:
    """Scores trees with one model: compiled once for each batch shape.

    Args:
      config: the decoder's.
      mesh: where batches go; parameters must live there already.
      watch: told of every batch.

    Attributes:
      run: `tree_logps` as the program that is run, jitted. Trace it inside `on_mesh`.
    """

    def __init__(self, config: DecoderConfig, mesh: Mesh, watch: Watch | None = None):
        self.config, self._mesh, self._watch = config, mesh, watch or Watch()
        self._one_cpu = mesh.devices.size == 1 and mesh.devices.flat[0].platform == "cpu"
        # Elsewhere a device runs one program after the other anyway, and one thread keeps it busy.
        self._threads = min(os.cpu_count() or 1, CPU_THREADS) if self._one_cpu else 1
        self._ahead = self._threads + 1  # batches that may be under way beside the one that is waited for
        self.run = jax.jit(
            functools.partial(tree_logps, config),
            static_argnames=("candidates", "prompt", "greedy"),
            out_shardings=replicated(mesh),
        )

    def __call__(
        self,
        params: Params,
        trees: Forest,
        *,
        candidates: int,
        prompt: bool = False,
        state: bool = False,
        greedy: bool = False,
        tokens: int = 8192,
        progress: str = "",
        resume: Path | None = None,
        finished: Path | None = None,
    ) -> dict[str, np.ndarray]:
        """What `tree_logps` gives, for any number of trees: numpy arrays with one row a tree (zeros for a gap).

        Args:
          candidates: K of the result.
          prompt, state, greedy: also return "prompt_logp", "state", "greedy".
          tokens: row tokens of one batch.
          progress: what a progress bar is called; empty for none.
          resume: folder for finished batches, from which a pass that was killed goes on, and which processes that score
            the same share; None for none.
          finished: see `PassResults`.

        Raises:
          Finished.
        """
        names = ["logp"] + ["prompt_logp"] * prompt + ["state"] * state + ["greedy"] * greedy
        batches, blocks = self._plan(trees, prompt, tokens)
        # Neither where several processes run one pass, nor in a bucket, which has no locks.
        folder = None if jax.process_count() > 1 or resume and in_bucket(resume) else resume
        results = PassResults(names, len(trees), batches, folder, finished)
        shown = results.done
        bar = Progress(progress, len(batches), shown, under_way=self._ahead) if progress else None
        options = {"candidates": candidates, "prompt": prompt, "greedy": greedy}
        with contextlib.closing(results):
            news = time.monotonic()  # when something was found last
            while (before := results.done) < len(batches):
                stuck = time.monotonic() - news > PATIENCE_S
                for number, out in self._run(params, trees, batches, results.claims(stuck), blocks, options):
                    results.add(number, {name: _kept(jax.device_get(out[name])) for name in names})
                    self._watch.end(out)
                    if bar:
                        for _ in range(shown, results.done - 1):  # of other processes
                            bar.advance()
                        bar.advance(prompts=len(batches[number].trees))
                        bar.show()
                        shown = results.done
                results.refresh()
                if results.done > before:
                    news = time.monotonic()
                elif not stuck:
                    time.sleep(WAIT_S)
            for _ in range(shown, results.done if bar else 0):
                bar.advance()
        if bar:
            bar.close()
        return results.arrays

    def _plan(
        self, trees: Forest, prompt: bool, tokens: int
    ) -> tuple[list[PlannedBatch], dict[Shape, BlockSizes | None]]:
        """The batches of all trees; and the attention blocks of each shape, on one CPU device, where they are known to
        pay."""
        sizes, groups = tree_sizes(trees, prompt=prompt), row_groups(self._mesh)
        batches = batch_plan(sizes, mask_cost=mask_cost(self.config), tokens=tokens, groups=groups)
        by_blocks = self.config.attention == "auto" and self._one_cpu
        blocks: dict[Shape, BlockSizes | None] = {}
        for shape in {batch.shape for batch in batches}:
            parts = [batch.trees for batch in batches if batch.shape == shape]
            blocks[shape] = choose_sizes(trees, parts, shape) if by_blocks else None
        return batches, blocks

    def _run(
        self,
        params: Params,
        trees: Forest,
        batches: Sequence[PlannedBatch],
        numbers: Iterable[int],
        blocks: Mapping[Shape, BlockSizes | None],
        options: Mapping[str, Any],
    ) -> Iterator[tuple[int, dict[str, jax.Array]]]:
        """What `tree_logps` gives for these batches, in order; packed, and on one CPU device run, in threads ahead."""
        shardings = batch_shardings(self._mesh)
        compiling, compiled = threading.Lock(), set()

        def compute(number: int) -> tuple[int, dict[str, jax.Array]]:
            self._watch.begin()
            shape, own = batches[number].shape, trees.take(batches[number].padded)
            batch = pack(own, shape, candidates=options["candidates"], prompt=options["prompt"])
            if sizes := blocks[shape]:
                batch = batch._replace(blocks=make_blocks(batch.tree, batch.branch, sizes))
            everywhere = jax.tree.map(lambda _: replicated(self._mesh), batch.blocks)
            batch = put(batch, shardings._replace(blocks=everywhere))
            # One thread compiles a shape's program, and the others wait for it.
            with on_mesh(self._mesh), contextlib.nullcontext() if shape in compiled else compiling:
                out = self.run(params, batch, **options)
                compiled.add(shape)
            return number, jax.block_until_ready(out) if self._threads > 1 else out

        return prefetched(compute, numbers, self._ahead, self._threads)


def _kept(values: np.ndarray) -> np.ndarray:
    """Values as files keep them, which know no bfloat16."""
    return np.asarray(values, np.float32 if values.dtype == jnp.bfloat16 else None)
