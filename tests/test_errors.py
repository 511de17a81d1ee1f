"""Errors that a user can mend: of one kind, so that one `except` holds them all."""

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.errors import CheckpointError, ConfigError, UserError, nearest


@pytest.mark.parametrize("kind", [ConfigError, CheckpointError, DataError])
def test_all_are_of_one_kind(kind):
    assert issubclass(kind, UserError)
    assert issubclass(kind, ValueError)


def test_a_mistyped_word_is_told_what_it_is_near_to():
    known = ("learning_rate", "rounding", "weight_decay")
    assert nearest("learning_rat", known) == " (did you mean 'learning_rate'?)"
    assert nearest("weigth_decay", iter(known)) == " (did you mean 'weight_decay'?)"
    assert nearest("steer", known) == ""
