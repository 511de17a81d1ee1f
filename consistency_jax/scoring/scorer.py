"""Scores trees batch by batch: plans shapes, packs rows, runs them on the mesh, and keeps what is done on disk."""

import contextlib
import functools
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from consistency_jax.data.packing.attention_blocks import BlockSizes, choose, cut
from consistency_jax.data.packing.plan import PlannedBatch, batch_plan
from consistency_jax.data.packing.rows import Shape, pack, tree_sizes
from consistency_jax.data.pipeline import prefetched
from consistency_jax.data.trees.forest import Forest, Tree
from consistency_jax.models.decoder import DecoderConfig, Params
from consistency_jax.models.flops import mask_cost
from consistency_jax.runtime.mesh import on_mesh, put, replicated, row_groups
from consistency_jax.runtime.progress import Progress
from consistency_jax.scoring.logps import batch_shardings, tree_logps
from consistency_jax.scoring.stored import KeptBatches

CPU_THREADS = 4  # batches that run at once on a CPU: the operations of a small model do not fill its cores


# ------------------------------------------------------------------------------------------------------ over data sets
class Scorer:
    """Scores trees with one model: compiled once for each batch shape.

    Args:
      config: the decoder's.
      mesh: where batches go; parameters must live there already.

    Attributes:
      run: `tree_logps` as the program that is run, jitted. Trace it inside `on_mesh`.
    """

    def __init__(self, config: DecoderConfig, mesh: Mesh):
        self.config, self._mesh = config, mesh
        self._one_cpu = mesh.devices.size == 1 and mesh.devices.flat[0].platform == "cpu"
        self.run = jax.jit(
            functools.partial(tree_logps, config),
            static_argnames=("candidates", "prompt", "greedy"),
            out_shardings=replicated(mesh),
        )

    def __call__(
        self,
        params: Params,
        trees: Sequence[Tree | None],
        *,
        candidates: int,
        prompt: bool = False,
        state: bool = False,
        greedy: bool = False,
        tokens: int = 8192,
        progress: str = "",
        kept: Path | None = None,
    ) -> dict[str, np.ndarray]:
        """What `tree_logps` gives, for any number of trees: numpy arrays with one row a tree (zeros where None).

        Args:
          candidates: K of the result.
          prompt, state, greedy: also return "prompt_logp", "state", "greedy".
          tokens: row tokens of one batch.
          progress: what a progress bar is called; empty for none.
          kept: folder where finished batches are kept, and from which a pass that was killed goes on; None for none.
        """
        groups = row_groups(self._mesh)
        forest = Forest.of(trees)
        sizes = tree_sizes(forest, prompt=prompt)
        names = ["logp"] + ["prompt_logp"] * prompt + ["state"] * state + ["greedy"] * greedy
        results: dict[str, np.ndarray] = {}
        batches = batch_plan(sizes, tokens=tokens, groups=groups, mask_cost=mask_cost(self.config))
        shardings = batch_shardings(self._mesh)
        blocks = self._blocks(forest, batches)
        done = KeptBatches(kept, batches) if kept is not None and jax.process_count() == 1 else None

        def note(part: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
            for name in names:
                if name not in results:
                    shape, dtype = values[name].shape[1:], values[name].dtype
                    results[name] = np.zeros((len(forest), *shape), dtype)
                results[name][part] = values[name][: len(part)]

        for part, values in done.load() if done else ():
            note(part, values)
        first = done.done if done else 0
        bar = Progress(progress, len(batches), first) if progress else None

        compiling, compiled = threading.Lock(), set()

        def compute(number: int) -> dict[str, jax.Array]:
            part, shape, places = batches[number]
            batch = pack(forest.take(part).padded(places), shape, candidates=candidates, prompt=prompt)
            sizes = blocks.get(shape)
            if sizes:
                batch = batch._replace(blocks=cut(batch.tree, batch.branch, sizes))
            everywhere = jax.tree.map(lambda _: replicated(self._mesh), batch.blocks)
            batch = put(batch, shardings._replace(blocks=everywhere))
            # One thread compiles a shape's program, and the others wait for it.
            with on_mesh(self._mesh), contextlib.nullcontext() if shape in compiled else compiling:
                out = self.run(params, batch, candidates=candidates, prompt=prompt, greedy=greedy)
                compiled.add(shape)
            return jax.block_until_ready(out) if threads > 1 else out

        def keep(number: int, out: dict[str, jax.Array]) -> None:
            part = batches[number].trees
            note(part, {name: np.asarray(jax.device_get(out[name])) for name in names})
            if done:
                done.save(number + 1, results)
            if bar:
                bar.advance(prompts=len(part))
                bar.show()

        # Elsewhere a device runs one program after the other anyway, and one thread keeps it busy.
        threads = min(os.cpu_count() or 1, CPU_THREADS) if self._one_cpu else 1
        for number, out in enumerate(prefetched(compute, first, len(batches), threads + 1, threads), first):
            keep(number, out)
        if bar:
            bar.close()
        return results

    def _blocks(self, forest: Forest, batches: Sequence[PlannedBatch]) -> dict[Shape, BlockSizes | None]:
        """How attention is cut in the batches of each shape; on one CPU device, where it is known to pay."""
        if self.config.attention != "auto" or not self._one_cpu:
            return {}
        return {
            shape: choose(forest, [batch.trees for batch in batches if batch.shape == shape], shape)
            for shape in {batch.shape for batch in batches}
        }
