"""The seeded train/test split of the published experiments.

Source: the published DCO code: `random.seed(seed)`, train = `random.sample(list(range(n)), n_train)`, test
is the rest.
"""

import random

from consistency_jax.data.items import DataError

SPLITS = ("train", "test")


def split_rows(n: int, split: str | None, train_size: int | float, seed: int, where: str) -> list[int]:
    """Row numbers of a split of n rows.

    Args:
        n: number of rows of the whole set, before any filter (which then moves no row across).
        split: "train" (in the order drawn), "test" (the rest, in file order) or None (all, in file order).
        train_size: number of training rows, or their share where it is a float.
        seed: of the draw.
        where: the data set, for messages.

    Raises:
        DataError: unknown split, or more training rows than there are.
    """
    if split is None:
        return list(range(n))
    if split not in SPLITS:
        raise DataError.at(
            where, f"unknown split {split!r}", f"Known: {', '.join(SPLITS)}, or None for every row"
        )
    n_train = round(train_size * n) if isinstance(train_size, float) else train_size
    if not 0 < n_train < n:
        raise DataError.at(
            where, f"train_size {train_size} of {n} rows leaves no two splits", f"Choose from 1 to {n - 1}"
        )
    train = random.Random(seed).sample(range(n), n_train)
    if split == "train":
        return train
    held_out = set(range(n)) - set(train)
    return sorted(held_out)
