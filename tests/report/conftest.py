"""Reports before and after, of whole and of ragged tables, made once for all files here."""

import pytest
from made import GROUPS, make_ragged_table, make_table

from consistency_jax.report import summarise
from consistency_jax.table import Table


@pytest.fixture(scope="session")
def tables() -> tuple[dict[str, Table], dict[str, Table]]:
    base = {"test": make_table(0), "test_unseen": make_table(1, items=30)}
    final = {"test": make_table(2, 2.0), "test_unseen": make_table(3, 1.2, items=30)}
    return base, final


@pytest.fixture(scope="session")
def summary(tables) -> dict:
    return summarise(*tables, resamples=300)


@pytest.fixture(scope="session")
def ragged() -> tuple[Table, Table]:
    return make_ragged_table(2), make_ragged_table(3, 2.0)


@pytest.fixture(scope="session")
def ragged_summary(ragged) -> dict:
    return summarise(
        *ragged,
        normalization="sum",
        resamples=200,
        groups={"test": GROUPS},
        language_groups={"far": ["ar", "zh", "xx"], "one": ["sw"]},
        steer={"en": 5.0},
    )
