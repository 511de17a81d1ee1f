"""The seeded train/test split of the published experiments, and their training instances.

Source: the published DCO code. After `random.seed(seed)`, train = `random.sample(list(range(n)), n_train)` and test is
the rest. Then, going through train in that order as often as needed, each row gives an instance: two languages (the
two given, or `random.sample(languages, 2)` of more) and two candidates, the same in both,
`random.sample(list(range(number of answers)), 2)`.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from consistency_jax.data.items import (
    DataError,
    Items,
    ParallelItem,
    check_spacing,
    doubled_candidates,
    pick,
    run_together,
    validate,
)
from consistency_jax.data.sources.source import Row, Rows, Source

SPLITS = ("train", "validation", "test")


class Plan(NamedTuple):
    """Which rows of a data set are asked for; but for the split these are options of every set that is split by seed.

    Attributes:
        split: None (every row, in file order), "train", "validation" or "test".
        train_size: rows (or share of them) in "train"; 0: every row is in "test".
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


class Instance(NamedTuple):
    """A published training instance."""

    row: int
    round: int
    languages: tuple[str, str]
    candidates: tuple[int, int]  # (chosen, rejected); neither need be right


def take(
    rows: Rows,
    plan: Plan,
    languages: tuple[str, ...] | None,
    source: Source,
    *,
    where: str,
    on_error: str,
) -> Items:
    """The items of a split.

    Args:
        rows: all of a data set.
        plan: which of them.
        languages: which, in this order; an item keeps those that it has. None = all.
        source: of the rows, whose items must keep its rules.
        where: the data set, for messages.
        on_error: "raise", or "skip": bad rows are left out and listed. Instances need every row of the split, whose
            numbers of candidates decide the draws that follow, and raise always.

    Raises:
        DataError: a bad row, an id that stands twice, what `split_rows` raises, or instances that cannot be drawn.
    """
    items, n = Items(), len(rows.rows)
    if rows.published and n != rows.published:
        reason = (
            f"{n:,} rows, and the published set has {rows.published:,}: splits are not the published ones."
        )
        items.warnings.append(f"{where}: {reason}")
    rng = random.Random(plan.seed)
    drawn = split_rows(n, plan, where, units=rows.units, rng=rng)
    places: dict[str, Row] = {}
    for row in rows.rows:
        if isinstance(row, Row):
            places.setdefault(row.item.id, row)

    def checked(row: Row | DataError) -> ParallelItem | None:
        if isinstance(row, DataError):
            raise row
        item, place, warnings, _ = row
        if places[item.id] is not row:
            reason = f"id {item.id!r} was already used at {places[item.id].where}"
            raise DataError.at(place, reason, "Make ids unique")
        validate(item, place, bare=rows.bare or not source.answers)
        if languages is not None and item.languages != languages:
            own = [language for language in languages if language in item.prompts]
            if not own:
                reason = f"item {item.id!r} has none of the languages asked for; left out."
                items.warnings.append(f"{place}: {reason}")
                return None
            item = pick(item, range(item.num_candidates), languages=own)
        item = replace(item, where=place)
        check_spacing(item, source.leading_space, place)
        told = list(doubled_candidates(item) if warnings is None else warnings)
        if source.leading_space == "written":
            told += [f"{reason}." for reason in run_together(item)]
        items.warnings.extend(f"{place}: {reason}" for reason in told)
        return item

    if plan.wrong_only and not plan.instances:
        raise DataError.at(where, "wrong_only is a way to draw instances", "Set data.options.instances too")
    if plan.instances and plan.split == "train":
        languages = languages or rows.languages
        if plan.validation_size or len(languages) < 2 or plan.instances % len(drawn):
            reason = f"instances={plan.instances} of {len(drawn)} training rows in {len(languages)} languages"
            mend = "Take a multiple of the rows, two languages or more, and no validation_size"
            raise DataError.at(where, f"{reason} cannot be drawn as published", mend)
        made = {i: checked(rows.rows[i]) for i in drawn}
        for i, item in made.items():
            if item is None or set(languages) - set(item.languages):
                reason = "the item lacks some of the languages, from all of which instances are drawn"
                raise DataError.at(rows.rows[i].where, reason, "Name languages that every item has")

        def choices(i: int) -> list[int]:
            # Wrong by what they say, as published: a second candidate with the gold's text is none.
            return made[i].wrong if plan.wrong_only else range(made[i].num_candidates)

        for one in published_instances(drawn, rng, languages, plan.instances // len(drawn), choices):
            if not rows.rows[one.row].left_out:
                suffix = f"#{one.round}"
                items.append(pick(made[one.row], one.candidates, languages=one.languages, suffix=suffix))
    else:
        for i in drawn:
            try:
                item = None if getattr(rows.rows[i], "left_out", False) else checked(rows.rows[i])
            except DataError as error:
                if on_error == "raise":
                    raise
                items.skipped.append(str(error))
                continue
            if item is not None and rows.shuffle:
                order = list(range(item.num_candidates))
                random.Random(f"{rows.shuffle}-{i}").shuffle(order)
                item = pick(item, order)
            items += [item] if item is not None else []
    if items.skipped and not items:
        reason = f"no usable row: {len(items.skipped)} skipped, the first: {items.skipped[0]}"
        raise DataError.at(where, reason.rstrip("."), "Is this the original file?")
    items.warnings.extend(rows.warnings)
    if not (plan.instances and plan.split == "train"):
        items.warnings += [f"{where}: {told}" for told in gaps(items, languages or items.languages)]
    return items


def gaps(items: Items, languages: Sequence[str]) -> list[str]:
    """One description where items lack some of these languages."""
    lacking = {l: sum(l not in item.prompts for item in items) for l in languages}
    told = ", ".join(f"{language} {count:,}" for language, count in lacking.items() if count)
    few = sum(any(l not in item.prompts for l in languages) for item in items)
    return (
        [f"{few:,} of {len(items):,} items are not asked in all languages; lacking in {told}."]
        if told
        else []
    )


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
    plan: Plan,
    where: str,
    *,
    units: Sequence[Hashable] | None = None,
    rng: random.Random | None = None,
) -> list[int]:
    """Row numbers of a split of n rows: "train" in the order drawn, "validation" (the last of those drawn, which are
    then not in train), "test" (the rest, in file order) or None (all, in file order).

    Args:
        n: number of rows of the whole set, before any filter (which then moves no row across).
        plan: which split; its sizes are shares of all rows where they are floats.
        where: the data set, for messages.
        units: for each row a key; rows of one key stay on one side, so that sizes are met only nearly.
        rng: draws, instead of one made of the plan's seed.

    Raises:
        DataError: unknown or empty split, or more training rows than there are.
    """
    if plan.split is None or (plan.split == "test" and not plan.train_size):
        return list(range(n))
    check_split(plan.split, SPLITS, where)
    if n < 2:
        mend = "Give more questions, or measure it with configs/audit.py (split=every)"
        raise DataError.at(where, f"a set of {n} row{'s' * (n != 1)} cannot be split", mend)
    drawn, kept = (
        round(s * n) if isinstance(s, float) else s for s in (plan.train_size, plan.validation_size)
    )
    if not 0 < drawn < n:
        reason = f"train_size {plan.train_size} of {n} rows leaves no two splits"
        raise DataError.at(where, reason, f"Choose from 1 to {n - 1}")
    if not 0 <= kept < drawn:
        reason = f"validation_size {plan.validation_size} leaves no training rows"
        raise DataError.at(where, reason, f"Choose from 0 to {drawn - 1}")
    if plan.split == "validation" and not kept:
        mend = "Keep rows for it: data.options.validation_size=0.1, say"
        raise DataError.at(where, "there is no split 'validation'", mend)
    rng = random.Random(plan.seed) if rng is None else rng
    train = rng.sample(range(n), drawn) if units is None else _draw_units(units, drawn, rng)
    if plan.split == "test":
        return sorted(set(range(n)) - set(train))
    last = len(train) - kept
    while units is not None and 0 < last < len(train) and units[train[last - 1]] == units[train[last]]:
        last -= 1
    return train[last:] if plan.split == "validation" else train[:last]


def check_split(split: str | None, known: Sequence[str], where: str) -> None:
    """Refuses a split that a set has not; None, every row, is one of any.

    Raises:
        DataError: naming the known ones.
    """
    if split is not None and split not in known:
        raise DataError.at(where, f"unknown split {split!r}", f"Known: {', '.join(known)}, every")


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
