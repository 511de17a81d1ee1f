"""The order of keys in logs."""

import random

from consistency_jax.logs.told import counted


def test_numbers_in_keys_count_as_numbers_whatever_the_order_they_come_in():
    keys = ["", "2", "10", "a", "a2", "a10", "a10b", "b", "q²"]
    for seed in range(5):
        assert counted(random.Random(seed).sample(keys, len(keys))) == keys
