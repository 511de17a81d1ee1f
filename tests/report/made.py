"""Made-up tables and the items behind them, for tests of the report."""

import numpy as np

from consistency_jax.data.items import ParallelItem
from consistency_jax.metrics.accuracy import right_cells
from consistency_jax.table import Table

LANGUAGES = ("en", "ar", "sw", "zh")
QUESTIONS = {
    "en": "The city of {} lies in the country:",
    "ar": "تقع مدينة {} في البلد:",
    "sw": "Mji wa {} uko katika nchi:",
    "zh": "城市{}所在的国家：",
}
COUNTRIES = {
    "en": (" Egypt", " Kenya", " China", " <b>Chad</b>"),
    "ar": (" مصر", " كينيا", " الصين", " تشاد"),
    "sw": (" Misri", " Kenya", " China", " Chadi"),
    "zh": ("埃及", "肯尼亚", "中国", "乍得"),
}


def make_table(
    seed: int, strength: float = 1.0, items: int = 60, languages=LANGUAGES, labelled=True
) -> Table:
    rng = np.random.default_rng(7)
    shape = (items, len(languages), 4)
    gold = rng.integers(0, 4, items).astype(np.int32)
    truth = 2 * strength * np.eye(4)[gold][:, None, :] + rng.normal(size=(items, 1, 4))
    logp = truth + np.random.default_rng(seed).normal(size=shape) / strength - 9
    ones = np.ones(shape, np.int32)
    return Table(
        ids=tuple(f"city/{n}" for n in range(items)),
        languages=tuple(languages),
        logp=logp.astype(np.float32),
        length=ones,
        bytes=4 * ones,
        mask=ones.astype(bool),
        gold=gold if labelled else np.full(items, -1, np.int32),
        prompt_logp=np.zeros(shape, np.float32),
        prompt_length=3 * ones,
    )


def make_items(table: Table) -> list[ParallelItem]:
    return [
        ParallelItem(
            id=name,
            group="city",
            prompts={l: QUESTIONS[l].format(f"No {n}") + " <mask>" for l in table.languages},
            candidates={l: COUNTRIES[l] for l in table.languages},
            gold=next(iter(right), None),
            also=tuple(right[1:]),
        )
        for n, name in enumerate(table.ids)
        for right in [np.flatnonzero(right_cells(table.gold, table.mask.shape)[n]).tolist()]
    ]


RAGGED_ITEMS = 80
GROUPS = [("capital", "river", "river", "sea")[n % 4] for n in range(RAGGED_ITEMS)]


def make_ragged_table(seed: int, strength: float = 1.0) -> Table:
    """Ragged: some items lack a language, or have three candidates; lengths that make normalisations differ."""
    same, rng = np.random.default_rng(1), np.random.default_rng(seed)
    shape = (RAGGED_ITEMS, len(LANGUAGES), 4)
    gold = same.integers(0, 3, RAGGED_ITEMS).astype(np.int32)
    mask = np.ones(shape, bool)
    mask[:20, :, 3] = False
    mask[20:30, 2] = False
    length = same.integers(1, 5, shape).astype(np.int32)
    truth = 2 * strength * np.eye(4)[gold][:, None] + same.normal(size=(RAGGED_ITEMS, 1, 4))
    logp = truth + rng.normal(size=shape) / strength - 3 * length
    return Table(
        ids=tuple(f"q{n}" for n in range(RAGGED_ITEMS)),
        languages=LANGUAGES,
        logp=np.where(mask, logp, 0).astype(np.float32),
        length=length,
        bytes=3 * length,
        mask=mask,
        gold=gold,
        prompt_logp=np.zeros(shape, np.float32),
        prompt_length=np.full(shape, 4, np.int32),
        neutral_logp=(-2.5 * length).astype(np.float32),
    )
