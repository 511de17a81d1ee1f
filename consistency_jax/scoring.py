"""From packed rows to the table of log-probabilities: the only place that turns hidden states into log-probabilities.

    logp[n, k] = sum over answer tokens t of tree n, branch k:  log softmax(head h_source(t))[t]

Training, the reference pass and evaluation all call `tree_logps`. There are no [tokens, vocabulary] logits: the states
that predict something are gathered (each once, however many answers it serves), and the head runs over chunks of them
in float32. Letters: N trees, K candidates, G groups of rows, U states, M targets, D model, V vocabulary.
"""

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from consistency_jax.cache import found_or_made
from consistency_jax.data.blocks import BlockSizes, choose, cut
from consistency_jax.data.forest import ANSWER, PROMPT, Forest, Tree
from consistency_jax.data.items import Items, ParallelItem, check_languages, require_answers
from consistency_jax.data.packing import Batch, Shape, pack, tree_sizes
from consistency_jax.data.pipeline import prefetched
from consistency_jax.data.planning import PlannedBatch, batch_plan
from consistency_jax.data.trees import TreeBuilder
from consistency_jax.flops import mask_cost
from consistency_jax.kept_batches import KeptBatches, forget
from consistency_jax.models.decoder import Decoder, DecoderConfig, Params, head_logits, head_weight
from consistency_jax.models.huggingface import Model
from consistency_jax.progress import Progress
from consistency_jax.sharding import batch_shardings, fetch, mesh_of, on_mesh, put, replicated, row_groups
from consistency_jax.table import Table

CPU_THREADS = 4  # batches that run at once on a CPU: the operations of a small model do not fill its cores
LOGITS_BYTES = 2**28  # float32 logits held at once per group of rows; more states than that go chunk by chunk


# ---------------------------------------------------------------------------------------------------------- on device
def tree_logps(
    config: DecoderConfig,
    params: Params,
    batch: Batch,
    *,
    candidates: int,
    prompt: bool = False,
    layer: int | None = None,
    greedy: bool = False,
) -> dict[str, jax.Array]:
    """Log-probabilities of every branch of every tree in a batch.

    Args:
      config: what the parameters are parameters of.
      params: of `Decoder(config)`.
      batch: packed rows, see data/packing.py; packed with the same `candidates` and `prompt`.
      candidates: K of the table.
      prompt: also sum the tokens of the prompt.
      layer: also give the states after this layer, from 0.
      greedy: also tell which answers the model would write if it always took the likeliest token.

    Returns:
      {"logp": f32[N, K]} in nats; with `prompt` also "prompt_logp": f32[N, K]; "state": [N, D], the last hidden state
      of each prompt, see `Batch.prompt_end` (dead code, hence free, where nobody reads it); with `layer` also
      "layer_state": [N, D], the same token's state after that layer; with `greedy` also "greedy": bool[N, K].
    """
    hidden = Decoder(config).apply(
        {"params": params},
        batch.tokens,
        batch.positions,
        batch.tree,
        batch.branch,
        None if layer is None else batch.prompt_end,
        blocks=batch.blocks,
    )
    hidden, layers = (hidden, None) if layer is None else hidden
    groups, dim = batch.sources.shape[0], hidden.shape[-1]
    grouped = hidden.reshape(groups, -1, dim)
    states = jnp.take_along_axis(grouped, batch.sources[..., None], axis=1)  # [G, U, D]
    logp, below = _target_logps(config, params, states, batch.target_source, batch.target_token)  # [G, M]

    kinds = 2 if prompt else 1
    trees = batch.prompt_end.shape[0]

    def sums_of(values: jax.Array) -> jax.Array:
        slots, count = batch.target_slot.reshape(-1), trees * kinds * (candidates + 1)
        cells = jax.ops.segment_sum(values.reshape(-1), slots, num_segments=count)
        cells = cells.reshape(trees, kinds, candidates + 1)
        return cells[..., :1] + cells[..., 1:]  # what all candidates share + each one's own

    sums = sums_of(logp)
    out = {"logp": sums[:, 0], "state": hidden.reshape(-1, dim)[batch.prompt_end]}
    if layer is not None:
        out["layer_state"] = layers[layer]
    if greedy:
        out["greedy"] = sums_of(below.astype(jnp.int32))[:, 0] == 0
    return out | ({"prompt_logp": sums[:, 1]} if prompt else {})


def _target_logps(
    config: DecoderConfig, params: Params, states: jax.Array, source: jax.Array, token: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """log p(token) under the state that predicts it: states [G, U, D], source and token i32[G, M] -> f32[G, M]; and
    bool[G, M], whether another token is likelier (dead code, hence free, where nobody reads it).

    The head runs once per state, not once per target. A chunk of states serves the targets that point into it; with
    more than one chunk the logits are recomputed in the backward pass, so that only one chunk of them ever lives.
    """
    groups, count, dim = states.shape
    chunks = math.ceil(4 * count * config.vocab_size / LOGITS_BYTES)
    size = math.ceil(count / chunks)
    states = jnp.pad(states, ((0, 0), (0, chunks * size - count), (0, 0)))
    # Devices that share the parameters share out the head's rows: the states, which are few, go to all of them, and
    # the head, which is large, is never whole anywhere, nor are its gradient and the logits.
    head = nn.with_logical_constraint(head_weight(params, config), ("vocab", "embed"))  # so its gradient too
    head = nn.with_logical_constraint(head.astype(states.dtype), ("head_vocab", None))
    states = nn.with_logical_constraint(states, ("head_groups", None, None))

    def add_chunk(
        total: tuple[jax.Array, jax.Array], chunk: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        (first, part), (logps, belows) = chunk, total
        chunk_logits = head_logits(head, config, part)  # f32[G, size, V]
        chunk_logits = nn.with_logical_constraint(chunk_logits, ("head_groups", None, "head_vocab"))
        log_z = jax.nn.logsumexp(chunk_logits, axis=-1)
        local = source - first
        inside = (local >= 0) & (local < size)
        local = jnp.clip(local, 0, size - 1)
        # Group by group, so that the compiler sees that no group looks into another's logits.
        chosen, log_z, best = jax.vmap(lambda logits, log_z, best, s, t: (logits[s, t], log_z[s], best[s]))(
            chunk_logits, log_z, jax.lax.stop_gradient(chunk_logits.max(-1)), local, token
        )
        logps = logps + jnp.where(inside, chosen - log_z, 0.0)
        return (logps, belows | (inside & (chosen < best))), None

    total = jnp.zeros(source.shape, jnp.float32), jnp.zeros(source.shape, bool)
    if chunks == 1:
        return add_chunk(total, (jnp.int32(0), states))[0]
    parts = states.reshape(groups, chunks, size, dim).swapaxes(0, 1)
    firsts = jnp.arange(chunks, dtype=jnp.int32) * size
    return jax.lax.scan(jax.checkpoint(add_chunk), total, (firsts, parts))[0]


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


def score(
    model: Model,
    items: Sequence[ParallelItem],
    boundary: str = "joint",
    tokenizer: Any = None,
    *,
    languages: Sequence[str] | None = None,
    prompt: bool = True,
    neutral: bool = False,
    state: bool = False,
    max_length: int = 1024,
    tokens: int = 8192,
    progress: str = "",
) -> Table:
    """The table of a model on parallel items.

    Args:
      model: from `load_pretrained`.
      items: B items.
      boundary: "joint" tokenizes each full string, "separate" prompt and answer apart (data/trees.py).
      tokenizer: instead of the model's own.
      languages: the order of axis L; all that the items have, by default. Items may lack some of them.
      prompt: also the prompt's log-probabilities, which `scores("mean_full")` needs.
      neutral: also the answers' without their prompts, which `scores("pmi")` needs.
      state: also the last hidden state of each trunk.
      max_length: longest prompt + answer in tokens; longer ones lose tokens at the left.
      tokens: row tokens of one batch.
      progress: what a progress bar is called; empty for none.

    Raises:
      ValueError: where neither the model nor the call has a tokenizer, or there are no items.
      DataError: for a language that no item has, or an item that has no answers or cannot be made into trees.
    """
    tokenizer = model.tokenizer if tokenizer is None else tokenizer
    if tokenizer is None:
        raise ValueError(f"the model of {model.folder} has no tokenizer: give one, score(..., tokenizer=...)")
    if not items:
        raise ValueError("there are no items to score")
    require_answers(items, "score")
    known = Items(items).languages
    languages = known if languages is None else check_languages(languages, known, "score")
    builder = TreeBuilder(tokenizer, boundary=boundary, max_length=max_length)
    trees = builder.build(items, languages)
    return score_trees(
        Scorer(model.config, mesh_of(model.params)),
        model.params,
        items,
        languages,
        trees,
        prompt=prompt,
        neutral=neutral_answers(builder, items, languages) if neutral else None,
        state=state,
        tokens=tokens,
        progress=progress,
    )


@dataclasses.dataclass(frozen=True)
class NeutralAnswers:
    """The answers of a table without their prompts.

    trees: one for each distinct answer, with one branch.
    place: i64[B, L, K], the tree of each cell; cells that are not there point anywhere.
    """

    trees: Forest
    place: np.ndarray


def neutral_answers(
    builder: TreeBuilder, items: Sequence[ParallelItem], languages: Sequence[str]
) -> NeutralAnswers:
    """Every answer behind an empty prompt, each distinct one once.

    Raises:
      DataError: where the tokenizer has neither BOS nor EOS that could predict the first token.
    """
    numbers: dict[str, int] = {}
    cells = []
    counts = np.array([item.num_candidates for item in items])
    place = np.zeros((len(items), len(languages), counts.max()), np.int64)
    for b, item in enumerate(items):
        for l, language in enumerate(languages):
            for k, answer in enumerate(item.candidates.get(language, ())):
                if answer not in numbers:
                    numbers[answer] = len(numbers)
                    alone = ParallelItem(item.id, item.group, {language: ""}, {language: (answer,)})
                    cells.append((alone, language))
                place[b, l, k] = numbers[answer]
    return NeutralAnswers(builder.of_cells(cells), place)


def score_trees(
    scorer: Scorer,
    params: Params,
    items: Sequence[ParallelItem],
    languages: Sequence[str],
    trees: Sequence[Tree | None],
    *,
    prompt: bool = True,
    neutral: NeutralAnswers | None = None,
    state: bool = False,
    tokens: int = 8192,
    progress: str = "",
    kept: Path | None = None,
) -> Table:
    """The table of items whose trees are built already, tree n = item * L + language.

    `neutral`: the answers alone, which `scores("pmi")` needs; `kept`: as for a `Scorer`; the others as for `score`.
    """
    shape = (len(items), len(languages))
    frame = table_frame(items, languages, trees)
    arrays = scorer(
        params,
        trees,
        candidates=frame.mask.shape[2],
        prompt=prompt,
        state=state,
        tokens=tokens,
        progress=progress,
        kept=kept and kept / "answers",
    )
    arrays = {name: values.reshape(*shape, -1).astype(np.float32) for name, values in arrays.items()}
    for name in arrays.keys() & {"logp", "prompt_logp"}:
        # what a trunk shares is summed for candidates that are not there too
        arrays[name] = np.where(frame.mask, arrays[name], np.float32(0))
    if neutral is not None:
        alone = scorer(
            params,
            neutral.trees,
            candidates=1,
            tokens=tokens,
            progress=f"{progress} answers alone" if progress else "",
            kept=kept and kept / "alone",
        )["logp"][:, 0]
        arrays["neutral_logp"] = np.where(frame.mask, alone[neutral.place], np.float32(0)).astype(np.float32)
    if not prompt:
        frame = dataclasses.replace(frame, prompt_length=None)
    return dataclasses.replace(frame, **arrays)


def table_frame(
    items: Sequence[ParallelItem], languages: Sequence[str], trees: Sequence[Tree | None]
) -> Table:
    """A table of these items with everything but log-probabilities: lengths, bytes, mask and gold."""
    forest = Forest.of(trees)
    count = np.maximum(forest.segments - 1, 0)
    mask = np.arange(count.max()) < count[:, None]  # its cells, row by row, are the branches of all trees
    cells = np.zeros((3, *mask.shape), np.int32)  # answer tokens, prompt tokens, bytes
    for values, kind in ((cells[0], ANSWER), (cells[1], PROMPT)):
        own = forest.per_segment(forest.kind == kind)  # a branch's, with those of its trunk
        branch = forest.branch > 0
        values[mask] = own[branch] + np.repeat(own[~branch], count[count > 0])
    cells[2][mask] = forest.bytes
    shape = (len(items), len(languages), -1)
    length, prompt_length, size = (values.reshape(shape) for values in cells)
    return Table(
        ids=tuple(item.id for item in items),
        languages=tuple(languages),
        logp=np.zeros(length.shape, np.float32),
        length=length,
        bytes=size,
        mask=mask.reshape(shape),
        gold=np.array([-1 if item.gold is None else item.gold for item in items], np.int32),
        prompt_length=prompt_length,
    )


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
