"""What programs are compiled for when there is nothing to run them on: models and batches as shapes.

The batch is as large as a config makes it of typical items of its source (`Source.typical`).
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from consistency_jax.config.stages import languages_apart, selects
from consistency_jax.data.examples import Examples
from consistency_jax.data.packing.rows import Batch, Shape
from consistency_jax.data.sources import source_of
from consistency_jax.data.sources.source import Typical
from consistency_jax.objectives import OBJECTIVES, options_of

LONGEST = 4  # a data set's longest tree, in typical ones (4.2 in bmlama17, 4.6 in MMLU's English and Arabic)


@dataclasses.dataclass(frozen=True)
class Load:
    """What one call of a program is given: the batch's shape, and its trees: items x languages with K candidates each,
    and for MLC prompts x prompt_languages without.
    """

    shape: Shape
    items: int
    languages: int
    candidates: int
    micro_batches: int = 1
    prompts: int = 0
    prompt_languages: int = 0

    @property
    def trees(self) -> int:
        return self.items * self.languages + self.prompts * self.prompt_languages


# --------------------------------------------------------------------------------------------------------------- loads
def train_load(config: ConfigDict, groups: int, rows: int = 0, length: int = 0) -> Load:
    """What a train step is given, for each of its micro-batches.

    Args:
      groups: G, the devices that the rows are split over.
      rows: of each group; 0: what the items of a micro-batch fill.
      length: T; 0: `batching.row_length`, else room for the longest tree of the source.
    """
    source = source_of(config.data.source)
    typical = source.typical
    known = config.data.train.languages or config.data.languages
    known = known or source.experiment.languages or source.languages
    languages = config.batching.languages or len(known) or 2
    own = options_of(config.objective)
    pairs = own.get("candidates") == "pair" or "rejected" in own
    candidates = 2 if pairs else typical.candidates - own.get("false_examples", False)
    candidates = 1 if OBJECTIVES[config.objective.name].gold_alone else candidates
    typical = typical._replace(candidates=candidates)
    items = config.batching["items"] // config.batching.accumulate
    examples = (items * languages, 1) if languages_apart(config) else (items, languages)
    if config.batching.name == "random" and (selects(config) or config.data.train.pairs):
        examples = items, 1  # a pair is of one language
    load = _load(config, typical, groups, *examples, rows, length, config.batching.accumulate)
    mlc = config.auxiliary.mlc
    if not (mlc.weight and mlc.split):
        return load
    prompts = mlc["items"] // config.batching.accumulate
    more = math.ceil(prompts * languages / groups / max(1, load.shape.length // typical.prompt)) * groups
    shape = dataclasses.replace(load.shape, rows=load.shape.rows + more)
    return dataclasses.replace(load, shape=shape, prompts=prompts, prompt_languages=languages)


def score_load(config: ConfigDict, groups: int, length: int = 0) -> Load:
    """What one call of the scorer is given: `evaluation.tokens` row tokens, prompts predicted too."""
    typical = source_of(config.data.source).typical
    items = max(1, config.evaluation.tokens // typical.tokens)
    load = _load(config, typical, groups, items, 1, 0, length, 1)
    more = math.ceil(load.trees / groups) * typical.prompt
    shape = dataclasses.replace(
        load.shape, sources=_up(load.shape.sources + more), targets=_up(load.shape.targets + more)
    )
    return dataclasses.replace(load, shape=shape)


def _load(
    config: ConfigDict,
    typical: Typical,
    groups: int,
    items: int,
    languages: int,
    rows: int,
    length: int,
    micro_batches: int,
) -> Load:
    longest = min(LONGEST * typical.tokens, config.data.max_length)
    length = length or config.batching.row_length or max(128, _up(longest, 128))
    trees_per_row = max(1, length // typical.tokens)
    if rows:
        items = max(1, rows * groups * trees_per_row // languages)
    per_group = math.ceil(items * languages / groups)
    shape = Shape(
        rows=(rows or math.ceil(per_group / trees_per_row)) * groups,
        length=length,
        sources=_up(per_group * (1 + typical.candidates * (typical.answer - 1))),
        targets=_up(per_group * typical.candidates * typical.answer),
        groups=groups,
    )
    return Load(shape, items, languages, typical.candidates, micro_batches)


def _up(x: float, multiple: int = 8) -> int:
    return math.ceil(x / multiple) * multiple


def abstract_batch(load: Load) -> Batch:
    """The load's batch, of shapes."""
    shape = load.shape

    def ints(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, jnp.int32)

    rows, sources = ints(shape.rows, shape.length), ints(shape.groups, shape.sources)
    targets = ints(shape.groups, shape.targets)
    return Batch(rows, rows, rows, rows, sources, targets, targets, targets, ints(load.trees))


def abstract_examples(load: Load, state: int = 0) -> Examples:
    """The load's examples, of shapes.

    Args:
      state: D of the reference's states; 0 where the objective needs none.
    """
    cells = (load.items, load.languages, load.candidates)
    sizes = {"mask": cells, "length": cells, "gold": cells[:1], "reference": cells}
    sizes |= {"partners": cells[:2], "rejected": cells[:2], "seed": cells[:1], "state": (load.items, state)}
    sizes |= {"prompts": (load.prompts, load.prompt_languages)}
    types = {"mask": jnp.bool_, "prompts": jnp.bool_, "reference": jnp.float32, "state": jnp.float32}
    types["seed"] = jnp.uint32
    return Examples(**{k: jax.ShapeDtypeStruct(size, types.get(k, jnp.int32)) for k, size in sizes.items()})


def placed(shapes: Any, shardings: Any) -> Any:
    """Shapes with where they live: what a program is compiled for instead of arrays."""
    return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings)


def device_bytes(arguments: Any) -> int:
    """Bytes of `placed` shapes on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(arguments)
    )
