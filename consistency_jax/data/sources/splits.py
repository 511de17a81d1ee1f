"""The seeded train/test split of the published experiments.

Source: the published DCO code: `random.seed(seed)`, train = `random.sample(list(range(n)), n_train)`, test
is the rest.
"""

import random

from consistency_jax.data.items import DataError

SPLITS = ("train", "validation", "test")


def split_rows(
    n: int,
    split: str | None,
    train_size: int | float,
    seed: int,
    where: str,
    validation_size: int | float = 0,
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

    Raises:
        DataError: unknown or empty split, or more training rows than there are.
    """
    if split is None:
        return list(range(n))
    if split not in SPLITS:
        raise DataError.at(
            where, f"unknown split {split!r}", f"Known: {', '.join(SPLITS)}, or None for every row"
        )
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
    train = random.Random(seed).sample(range(n), drawn)
    if split == "test":
        return sorted(set(range(n)) - set(train))
    return train[drawn - kept :] if split == "validation" else train[: drawn - kept]
