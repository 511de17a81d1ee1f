"""Lines of progress: rates and the time left, by a clock that starts when the first step has ended."""

import time

import pytest

from consistency_jax.runtime.progress import Progress, span


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
    assert lines == ["train: 1/10", "train: 3/10, 0.2 items/s, 200 tokens/s, 2 min left"]  # 7 steps of 20 s


def test_rates_and_the_last_line_are_of_steps_that_have_ended(clock, capsys):
    """A step that was dispatched counted as done: 3 steps of 40 ms told thousands of items a second."""
    bar = Progress("dco", total=3)
    for _ in range(2):
        clock[0] += 0.001
        bar.advance(ended=False, items=4)
    assert (bar.rates(), capsys.readouterr().err) == ({}, "")
    clock[0] += 0.399
    bar.advance(items=4)
    assert bar.rates() == {"items_per_s": pytest.approx(8 / 0.4)}  # of the two behind the first
    clock[0] += 60  # what is done in between, a validation say, belongs to the next steps
    assert bar.rates() == {"items_per_s": pytest.approx(8 / 0.4)}
    assert capsys.readouterr().err.splitlines() == ["dco: 3/3, 20 items/s"]


def test_steps_that_were_under_way_when_the_clock_started_are_no_rate(clock, capsys):
    """Two batches that were scored at once, in two threads, were told as millions of prompts a second."""
    bar = Progress("base test", total=2, under_way=3)
    for _ in range(2):
        bar.advance(prompts=500)
    assert capsys.readouterr().err.splitlines() == ["base test: 2/2"]
    bar = Progress("base test", total=9, first=1, under_way=2)
    for _ in range(8):
        clock[0] += 1
        bar.advance(prompts=7)
    assert bar.rates() == {"prompts_per_s": 5 * 7 / 7}  # 8 less the first and those two, in 7 s
    assert capsys.readouterr().err.splitlines() == ["base test: 9/9, 5 prompts/s"]


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
    assert capsys.readouterr().err.splitlines() == ["score: 8/8"]
    bar.show(loss="1")  # told with the next step
    bar.close()
    assert capsys.readouterr().err == ""


def test_values_stand_before_the_rates(clock, capsys):
    bar = Progress("dco", total=2)
    for loss in ("0.5000", "0.2500"):
        clock[0] += 16
        bar.show(loss=loss, pair_agreement="0.8")
        bar.advance(items=4)
    assert capsys.readouterr().err.splitlines() == [
        "dco: 1/2, loss 0.5000, pair_agreement 0.8",
        "dco: 2/2, loss 0.2500, pair_agreement 0.8, 0.25 items/s",
    ]


def test_a_time_as_one_reads_it():
    assert [span(s) for s in (0.4, 99, 100, 5400, 5999, 7200)] == [
        "0 s",
        "99 s",
        "2 min",
        "90 min",
        "1 h 40 min",
        "2 h 0 min",
    ]
