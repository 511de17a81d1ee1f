"""The seeded splits: as published, and with rows kept for validation."""

import random

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.splits import split_rows


def test_train_and_test_are_as_published():
    random.seed(3)
    train = random.sample(list(range(50)), 30)
    assert split_rows(50, "train", 30, 3, "x") == train
    assert split_rows(50, "test", 0.6, 3, "x") == sorted(set(range(50)) - set(train))
    assert split_rows(50, None, 30, 3, "x") == list(range(50))


def test_validation_is_taken_from_train_and_moves_no_test_row():
    whole, test = (split_rows(50, split, 30, 3, "x") for split in ("train", "test"))
    train, validation = (split_rows(50, split, 30, 3, "x", 0.1) for split in ("train", "validation"))
    assert train + validation == whole
    assert len(validation) == 5
    assert split_rows(50, "test", 30, 3, "x", 5) == test


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("dev", 30, 0, "x"), "unknown split 'dev'"),
        (("train", 50, 0, "x"), "Choose from 1 to 49"),
        (("train", 30, 0, "x", 30), "Choose from 0 to 29"),
        (("validation", 30, 0, "x"), "data.options.validation_size"),
    ],
)
def test_splits_that_cannot_be_are_told(arguments, reason):
    with pytest.raises(DataError, match=reason):
        split_rows(50, *arguments)
