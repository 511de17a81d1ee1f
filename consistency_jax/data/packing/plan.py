"""Which batch shapes to compile: few of them, with little padding.

The cost of a batch, in row tokens:  R * T * (1 + T * mask_cost) + G * U * HEAD_COST
The first term is the decoder, whose dense mask costs T per token (why rows are kept near the longest tree
where attention is dense); the second is the head, which runs on the states that predict something.

Every shape is compiled on its own, which takes seconds: hence few shapes. A batch runs in a shape that is larger than
it, and pays for what it does not use: hence more than one. What is searched is small (tens of shapes, hundreds of
batches), so that all of it is planned before the first step, and the same data always get the same shapes.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from consistency_jax.data.packing.rows import Shape, lay_out

# A state's pass through the head, in row tokens: measured on small Llamas on CPU; smaller for large models. What a
# token's dense mask costs for each key depends much more on the model, and is given (`models.flops.mask_cost`).
HEAD_COST = 1.0
COMPILE_COST = 50_000  # row tokens that one more compilation is worth, where a whole data set is scored
LENGTHS = 3  # row lengths at most, where a whole data set is scored
MULTIPLE = 8  # of row lengths, sources and targets: devices are faster at such, and near ones become the same
SLACK = 0.05  # by which the largest shape exceeds what was seen, for batches that were not
GROWTH = 0.25  # of a shape that turns out to be too small: large steps, so that few shapes are ever compiled


class PlannedBatch(NamedTuple):
    """A batch of a whole data set: `trees` i64[n], indices; `places` >= n, the N that it is packed with."""

    trees: np.ndarray
    shape: Shape
    places: int

    @property
    def padded(self) -> np.ndarray:
        """i64[places]: the trees, and -1 behind them."""
        return np.pad(self.trees, (0, self.places - len(self.trees)), constant_values=-1)


def plan(
    batches: Sequence[np.ndarray], *, mask_cost: float, limit: int = 4, groups: int = 1, row_length: int = 0
) -> tuple[Shape, ...]:
    """A ladder of shapes for the batches of a run.

    Args:
        batches: `tree_sizes` of many batches, i64[N, 3] each.
        mask_cost: see the top of this file.
        limit: most shapes.
        groups: G.
        row_length: T; 0 = planned.

    Returns:
        At most `limit` shapes, cheapest first; each batch given fits in at least one.

    Raises:
        ValueError: no batches, or a tree longer than row_length.
    """
    if not len(batches) or limit < 1:
        raise ValueError(
            f"planning needs batches and room for a shape (limit {limit}, {len(batches)} batches)"
        )
    longest = np.array([sizes[:, 0].max(initial=1) for sizes in batches])
    shapes: list[Shape] = []
    measured: dict[int, list[Shape | None]] = {}
    for length in [row_length] if row_length else _lengths(longest):
        tight = [
            lay_out(sizes, length, groups).shape if fits or row_length else None
            for sizes, fits in zip(batches, longest <= length)
        ]
        measured[length] = tight
        counts = np.array([(s.rows, s.sources, s.targets) for s in tight if s is not None])
        # A rung for the smaller batches, one for most, one for all: steps between them would save little.
        for level in (0.25, 0.5, 0.75, 0.9, 1.0):
            rows, sources, targets = np.quantile(counts, level, axis=0, method="higher").tolist()
            shape = Shape(rows, length, _up(sources), _up(targets), groups)
            if shape not in shapes:
                shapes.append(shape)
    holds = np.array([[t is not None and s.holds(t) for t in measured[s.length]] for s in shapes])
    cost = np.array([_cost(s, mask_cost) for s in shapes])
    chosen = _cover(np.where(holds, cost[:, None], np.inf), limit)
    ladder = sorted((shapes[i] for i in chosen), key=lambda s: _cost(s, mask_cost))
    if len(ladder) > 1:
        ladder[-1] = _grown(ladder[-1], SLACK)
    return tuple(ladder)


def choose_shape(
    shapes: Sequence[Shape], batches: Sequence[np.ndarray], *, mask_cost: float, groups: int = 1
) -> Shape:
    """The cheapest of the shapes that holds every one of these batches (micro-batches of one step, say).

    Where none does, the largest of them grown by quarters until it does: one more compilation, but of few shapes.
    The answer depends on these batches alone, so that a resumed run chooses as an unbroken one.

    Args:
        shapes: of `plan`.
        batches: `tree_sizes` of each batch.
        mask_cost, groups: as in `plan`.
    """
    longest = max(sizes[:, 0].max(initial=1) for sizes in batches)
    tight: dict[int, Shape] = {}
    for shape in sorted(shapes, key=lambda s: _cost(s, mask_cost)):
        if shape.groups != groups or shape.length < longest:
            continue
        if shape.length not in tight:
            tight[shape.length] = _largest([lay_out(sizes, shape.length, groups).shape for sizes in batches])
        if shape.holds(tight[shape.length]):
            return shape
    length = max([_up(int(longest)), *(shape.length for shape in shapes)])
    needed = _largest([lay_out(sizes, length, groups).shape for sizes in batches])
    grown = replace(_largest(shapes), length=length, groups=groups) if shapes else _grown(needed, 0.0)
    while not grown.holds(needed):
        grown = _grown(grown, GROWTH)
    return grown


def batch_plan(
    sizes: np.ndarray, *, mask_cost: float, tokens: int = 8192, groups: int = 1
) -> list[PlannedBatch]:
    """Batches that together hold every tree of a data set once, in at most `LENGTHS` shapes.

    Trees of like length share a batch; those of one shape are dealt out in turn from the longest to the
    shortest, so that its batches are alike.

    Args:
        sizes: i64[N, 3] of `tree_sizes`; trees of no size (gaps) are in no batch.
        mask_cost: as in `plan`.
        tokens: about this many row tokens a batch.
        groups: G.
    """
    order = np.argsort(-sizes[:, 0], kind="stable")
    order = order[sizes[order, 0] > 0]
    if not len(order):
        return []
    batches = []
    for start, stop, length in _split_by_length(sizes[order], mask_cost):
        dealt, shape, places = _deal_out(sizes, order[start:stop], length, tokens, groups)
        shape = replace(shape, sources=_up(shape.sources), targets=_up(shape.targets))
        batches += [PlannedBatch(trees, shape, places) for trees in dealt]
    return batches


def _deal_out(
    sizes: np.ndarray, trees: np.ndarray, length: int, tokens: int, groups: int
) -> tuple[list[np.ndarray], Shape, int]:
    """Trees (longest first) dealt to batches of one shape: as many as leave the least padding."""
    fewest = max(-(-int(sizes[trees, 0].sum()) // max(tokens, length * groups)), 1)
    best = None
    most = min(fewest + 1 + fewest // 12, len(trees))
    for count in np.unique(np.linspace(fewest, max(most, fewest), 8).astype(int)).tolist():
        dealt = [_snake(trees, i, count) for i in range(count)]
        shape = _largest([lay_out(sizes[part], length, groups).shape for part in dealt])
        taken = count * shape.rows
        if best is None or taken < best[0]:
            best = (taken, dealt, shape)
    assert best is not None
    return best[1], best[2], max(len(part) for part in best[1])


def _snake(trees: np.ndarray, i: int, count: int) -> np.ndarray:
    """Every count-th tree, to and fro (0 1 2 2 1 0 0 1 2 ...), so that no batch always gets the longer."""
    taken = np.r_[i : len(trees) : 2 * count, 2 * count - 1 - i : len(trees) : 2 * count]
    return trees[np.sort(taken)]


def _split_by_length(sizes: np.ndarray, mask_cost: float) -> list[tuple[int, int, int]]:
    """(start, stop, row length) of at most `LENGTHS` runs of trees that are sorted from long to short.

    Under a dense mask a short tree in a long row pays for all of the row, so that a second and third length may be
    worth their compilations. Where the runs may end is a handful of places, denser among the few long trees.
    """
    n = len(sizes)
    ends = sorted({0, n, *(int(n * share) for share in (0.01, 0.03, 0.1, 0.25, 0.5, 0.75))})
    cost: dict[tuple[int, int], tuple[float, int]] = {}
    for i, start in enumerate(ends):
        for stop in ends[i + 1 :]:
            sample = sizes[start : stop : max((stop - start) // 500, 1)]
            options = []
            for length in _lengths(sample[:1, 0]):
                rows = lay_out(sample, length).shape.rows
                options.append(
                    (rows * length * (1 + length * mask_cost) * (stop - start) / len(sample), length)
                )
            cost[start, stop] = min(options)
    # best[stop]: the cheapest way to cover the first `stop` trees with one run, then with two ...
    best = {0: (0.0, [0])}
    answer = (np.inf, [0])
    for _ in range(LENGTHS):
        best = {
            stop: min(
                (spent + cost[start, stop][0] + COMPILE_COST, [*path, stop])
                for start, (spent, path) in best.items()
                if start < stop
            )
            for stop in ends
            if any(start < stop for start in best)
        }
        answer = min(answer, best.get(n, answer))
    return [(start, stop, cost[start, stop][1]) for start, stop in pairwise(answer[1])]


def _cover(cost: np.ndarray, limit: int) -> list[int]:
    """Rows of cost [S, B] whose columnwise minimum has the least sum: greedy, from one that covers all.

    The first must hold every batch, or one would have no shape; once others stand beside it, a larger set may do
    without it as it is, so each is exchanged once for the best in its place.
    """
    total = cost.sum(1)
    chosen = [int(total.argmin())]
    while len(chosen) < limit:
        gains = np.minimum(cost, cost[chosen].min(0)).sum(1)
        if gains.min() >= cost[chosen].min(0).sum() * 0.995:  # not worth a compilation
            break
        chosen.append(int(gains.argmin()))
    for place in range(len(chosen)):
        others = chosen[:place] + chosen[place + 1 :]
        rest = cost[others].min(0) if others else np.full(cost.shape[1], np.inf)
        chosen[place] = int(np.minimum(cost, rest).sum(1).argmin())
    return sorted(set(chosen))


def _lengths(longest: np.ndarray) -> list[int]:
    """Row lengths to try: near the longest tree of many batches, and a few times that. The largest fits.

    A row as long as the longest tree costs the least mask; a longer one leaves less empty behind its last tree.
    """
    bases = np.quantile(longest, (0.5, 0.9, 1.0), method="higher")
    return sorted({_up(int(base * factor)) for base in bases for factor in (1, 1.5, 2, 3)})


def _cost(shape: Shape, mask_cost: float) -> float:
    decoder = shape.rows * shape.length * (1 + shape.length * mask_cost)
    return decoder + shape.groups * shape.sources * HEAD_COST


def _largest(shapes: Sequence[Shape]) -> Shape:
    rows, sources, targets = (
        max(getattr(s, name) for s in shapes) for name in ("rows", "sources", "targets")
    )
    return replace(shapes[0], rows=rows, sources=sources, targets=targets)


def _grown(shape: Shape, slack: float) -> Shape:
    return replace(
        shape,
        rows=_up(shape.rows * (1 + slack), shape.groups),
        sources=_up(shape.sources * (1 + slack)),
        targets=_up(shape.targets * (1 + slack)),
    )


def _up(x: float, multiple: int = MULTIPLE) -> int:
    return int(-(-x // multiple)) * multiple
