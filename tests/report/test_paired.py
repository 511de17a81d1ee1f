"""Figures before and after: differences, and how sure they are."""

import pytest

from consistency_jax.metrics import bootstrap_delta, clc_values
from consistency_jax.report import summarise


def numbers(figures) -> dict[str, float | None]:
    """The figures by dotted path, one entry a number."""
    if isinstance(figures, dict):
        parts = figures.items()
    elif isinstance(figures, list):
        parts = enumerate(figures)
    else:
        return {"": figures}
    return {f".{key}{rest}": value for key, part in parts for rest, value in numbers(part).items()}


def test_all_parts_have_the_same_keys_and_deltas_are_differences(summary):
    for split in ("test", "test_unseen"):
        base, final, delta, sure = (
            numbers(summary[part][split]) for part in ("base", "final", "delta", "confidence")
        )
        assert list(base) == list(final) == list(delta)
        assert {path.rpartition(".")[0] for path in sure} == set(delta)
        for path, change in delta.items():
            if change is None:  # no group is a language that questions come from, and no answer is in words
                assert any(name in path for name in ("mother_tongue", "xac", "xsc")), path
                continue
            assert change == pytest.approx(final[path] - base[path], abs=2e-6), path
            assert sure[f"{path}.0"] <= sure[f"{path}.1"], path


def test_confidence_is_the_paired_bootstrap(tables, summary):
    before, after = (side["test"] for side in tables)
    values = [clc_values(table.scores("mean_full"), table.mask).mean(1) for table in (before, after)]
    expected = bootstrap_delta(*values, replicates=300)
    assert summary["delta"]["test"]["clc_all"] == pytest.approx(expected.estimate, abs=1e-6)
    assert summary["confidence"]["test"]["clc_all"] == pytest.approx([expected.low, expected.high], abs=1e-6)


def test_a_table_against_itself_changes_nothing(tables):
    itself = summarise(tables[0], tables[0], resamples=50)
    assert set(numbers(itself["delta"]).values()) - {None} == {0.0}
    assert set(numbers(itself["confidence"]).values()) - {None} == {0.0}
    assert itself["final"]["test"]["changed_non_en"] == 0
