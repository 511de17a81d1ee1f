"""The seeded train/test split of the published experiments, and their training instances.

Source: the published DCO code. After `random.seed(seed)`, train = `random.sample(list(range(n)), n_train)` and test is
the rest. Then, going through train in that order as often as needed, each row gives an instance: two languages (the
two given, or `random.sample(languages, 2)` of more) and two candidates, the same in both,
`random.sample(list(range(number of answers)), 2)`.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from consistency_jax.data.items import DataError, Items, ParallelItem, pick, validate

SPLITS = ("train", "validation", "test")


class Plan(NamedTuple):
    """Which rows of a benchmark are asked for; every reader of one takes these as options.

    Attributes:
        split: None (every row, in file order), "train", "validation" or "test".
        train_size: rows (or share of them) in "train".
        seed: of that draw.
        validation_size: how many of those to keep apart for validation.
        instances: of the split "train": 0 gives whole items; otherwise the published instances, this many, each an
            item of two languages and two candidates, in the order drawn. A multiple of train_size.
        wrong_only: draw those candidates among the wrong ones (the published option "false examples").
    """

    split: str | None
    train_size: int | float
    seed: int = 0
    validation_size: int | float = 0
    instances: int = 0
    wrong_only: bool = False


class Made(NamedTuple):
    """An item that a reader made of a row, with its candidates in the file's order."""

    item: ParallelItem
    where: str  # its place, for messages
    odd: Sequence[str] = ()  # what is odd about it


class Instance(NamedTuple):
    """A published training instance."""

    row: int
    round: int
    languages: tuple[str, str]
    candidates: tuple[int, int]  # (chosen, rejected); neither need be right


def take(
    n: int,
    make: Callable[[int], Made],
    plan: Plan,
    languages: Sequence[str],
    *,
    where: str,
    on_error: str,
    published: int = 0,
    units: Sequence[Hashable] | None = None,
    left_out: frozenset[int] = frozenset(),
    shuffle: Callable[[int], str] | None = None,
    bare: bool = False,
) -> Items:
    """The items of a split of a benchmark with n rows.

    Args:
        make: row number -> its item in all `languages`; raises DataError for a bad row.
        plan: which.
        where: the data set, for messages.
        on_error: "raise", or "skip": bad rows are left out and listed. Instances need every row of the split, whose
            numbers of candidates decide the draws that follow, and raise always.
        published: rows of the published set; another number is a warning. 0 = not known.
        units: for each row what it must stay together with in the split; None = rows are split one by one.
        left_out: rows that a filter leaves out; no other row changes its split for it.
        shuffle: row number -> seed of the order of its candidates; None keeps the file's. (Instances keep it.)
        bare: items are prompts without candidates.

    Raises:
        DataError: what `make`, `validate` and `split_rows` raise, or instances that cannot be drawn.
    """
    items = Items()
    if published and n != published:
        items.warnings.append(
            f"{where}: {n:,} rows, and the published set has {published:,}: splits are not the published ones."
        )
    rng = random.Random(plan.seed)
    rows = split_rows(
        n, plan.split, plan.train_size, plan.seed, where, plan.validation_size, units=units, rng=rng
    )

    def checked(i: int) -> ParallelItem:
        item, place, odd = make(i)
        validate(item, place, allow_doubled=True, bare=bare)
        items.warnings.extend(f"{place}: {reason}" for reason in odd)
        return item

    if plan.wrong_only and not plan.instances:
        raise DataError.at(where, "wrong_only is a way to draw instances", "Set data.options.instances too")
    if plan.instances and plan.split == "train":
        if plan.validation_size or len(languages) < 2 or plan.instances % len(rows):
            reason = f"instances={plan.instances} of {len(rows)} training rows in {len(languages)} languages"
            mend = "Take a multiple of the rows, two languages or more, and no validation_size"
            raise DataError.at(where, f"{reason} cannot be drawn as published", mend)
        made = {i: checked(i) for i in rows}

        def choices(i: int) -> list[int]:
            gold = made[i].gold if plan.wrong_only else None
            return [k for k in range(made[i].num_candidates) if k != gold]

        for drawn in published_instances(rows, rng, languages, plan.instances // len(rows), choices):
            if drawn.row not in left_out:
                item, suffix = made[drawn.row], f"#{drawn.round}"
                items.append(pick(item, drawn.candidates, languages=drawn.languages, suffix=suffix))
        return items

    for i in rows:
        if i in left_out:
            continue
        try:
            item = checked(i)
        except DataError as error:
            if on_error == "raise":
                raise
            items.skipped.append(str(error))
            continue
        if shuffle is not None:
            order = list(range(item.num_candidates))
            random.Random(shuffle(i)).shuffle(order)
            item = pick(item, order)
        items.append(item)
    if items.skipped and not items:
        reason = f"no usable row: {len(items.skipped)} skipped, the first: {items.skipped[0]}"
        raise DataError.at(where, reason.rstrip("."), "Is this the original file?")
    return items


def published_instances(
    train: Sequence[int],
    rng: random.Random,
    languages: Sequence[str],
    rounds: int,
    choices: Callable[[int], Sequence[int]],
) -> Iterator[Instance]:
    """The published draws, in their order.

    Args:
        train: rows, in the order drawn.
        rng: as it is after that draw.
        rounds: times that train is gone through.
        choices: row -> the candidates to draw from; a row with fewer than two gives no instance.
    """
    for number in range(rounds):
        for row in train:
            pair = tuple(languages) if len(languages) == 2 else tuple(rng.sample(list(languages), 2))
            known = choices(row)
            if len(known) >= 2:
                chosen, rejected = rng.sample(range(len(known)), 2)
                yield Instance(row, number, pair, (known[chosen], known[rejected]))


def split_rows(
    n: int,
    split: str | None,
    train_size: int | float,
    seed: int,
    where: str,
    validation_size: int | float = 0,
    *,
    units: Sequence[Hashable] | None = None,
    rng: random.Random | None = None,
) -> list[int]:
    """Row numbers of a split of n rows.

    Args:
        n: number of rows of the whole set, before any filter (which then moves no row across).
        split: "train" (in the order drawn), "validation" (the last of those drawn, which are then not in train), "test"
            (the rest, in file order) or None (all, in file order).
        train_size: number of rows drawn, or their share where it is a float.
        seed: of the draw.
        where: the data set, for messages.
        validation_size: number of the rows drawn, or share of all, that are kept for validation; published: 0.
        units: for each row a key; rows of one key stay on one side, so that sizes are met only nearly.
        rng: draws, instead of one made of `seed`.

    Raises:
        DataError: unknown or empty split, or more training rows than there are.
    """
    if split is None:
        return list(range(n))
    if split not in SPLITS:
        raise DataError.at(where, f"unknown split {split!r}", f"Known: {', '.join(SPLITS)}, every")
    drawn, kept = (round(s * n) if isinstance(s, float) else s for s in (train_size, validation_size))
    if not 0 < drawn < n:
        raise DataError.at(
            where, f"train_size {train_size} of {n} rows leaves no two splits", f"Choose from 1 to {n - 1}"
        )
    if not 0 <= kept < drawn:
        raise DataError.at(
            where,
            f"validation_size {validation_size} leaves no training rows",
            f"Choose from 0 to {drawn - 1}",
        )
    if split == "validation" and not kept:
        raise DataError.at(
            where, "there is no split 'validation'", "Keep rows for it: data.options.validation_size=0.1, say"
        )
    rng = random.Random(seed) if rng is None else rng
    train = rng.sample(range(n), drawn) if units is None else _draw_units(units, drawn, rng)
    if split == "test":
        return sorted(set(range(n)) - set(train))
    last = len(train) - kept
    while units is not None and 0 < last < len(train) and units[train[last - 1]] == units[train[last]]:
        last -= 1
    return train[last:] if split == "validation" else train[:last]


def _draw_units(units: Sequence[Hashable], size: int, rng: random.Random) -> list[int]:
    """At least `size` rows: whole units in a drawn order, each with its rows in file order."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for i, unit in enumerate(units):
        rows[unit].append(i)
    train: list[int] = []
    for unit in rng.sample(list(rows), len(rows)):
        if len(train) >= size:
            break
        train += rows[unit]
    return train
