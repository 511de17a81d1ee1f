"""Lines of progress: rates and the time left, by a clock that starts when the first step has ended."""

import time

import pytest

from consistency_jax.runtime.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as the test sets them."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rates_and_time_left_leave_out_the_first_step(clock, capsys):
    bar = Progress("train", total=10, every_s=30)
    clock[0] += 60  # compilation
    bar.advance(items=4)
    clock[0] += 20
    bar.advance(items=4, tokens=3000)
    clock[0] += 20
    bar.advance(items=4, tokens=5000)
    assert bar.rates() == {"items_per_s": 8 / 40, "tokens_per_s": 8000 / 40}
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["train: 1/10", "train: 3/10, 0 items/s, 200 tokens/s, 140 s left"]  # 7 steps of 20 s


def test_mfu_is_useful_flops_over_time_and_peak(clock, capsys):
    bar = Progress("train", total=3, peak=8 * 197e12)  # eight v5e chips
    for _ in range(3):
        clock[0] += 2
        bar.advance(tokens=10, flops=1.6e15)  # 0.8 PFLOP/s of 1.576
    assert bar.rates() == {"tokens_per_s": 5, "mfu": pytest.approx(100 * 0.8 / 1.576)}
    assert "train: 3/3, 5 tokens/s, 50.8 % MFU" in capsys.readouterr().err


def test_a_resumed_run_counts_its_own_steps_and_the_last_is_always_told(clock, capsys):
    bar = Progress("score", total=8, first=5)
    for _ in range(3):
        clock[0] += 1
        bar.advance()
    assert capsys.readouterr().err.splitlines() == ["score: 8/8, 0 s left"]
    bar.show(loss="1")  # of a terminal's bar alone
    bar.close()
    assert capsys.readouterr().err == ""
