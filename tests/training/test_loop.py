"""The loop around steps: what is not finite is named, and a signal is heard once."""

import signal
import threading

import jax.numpy as jnp
import pytest

from consistency_jax.training.loop import _fetch, stop_signal


def test_the_first_step_that_is_not_finite_is_named():
    metrics = [
        {"loss": jnp.float32(x), "gradient_norm": jnp.float32(1)} for x in (3.0, 2.0, jnp.nan, jnp.inf)
    ]
    assert _fetch(metrics[:2], step=7) == {"loss": 2.0, "gradient_norm": 1.0}  # of the last of them
    with pytest.raises(FloatingPointError, match="loss is nan at step 8;.*optimizer.learning_rate"):
        _fetch(metrics, step=9)
    metrics[1]["gradient_norm"] = jnp.float32(-jnp.inf)
    with pytest.raises(FloatingPointError, match="gradient_norm is -inf at step 7"):
        _fetch(metrics, step=9)


def test_a_signal_is_kept_until_the_step_ends_and_a_second_ctrl_c_is_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with stop_signal() as stopped:
        assert not stopped.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stopped.is_set()
        signal.raise_signal(signal.SIGTERM)  # again: it is stopping already
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_listens_to_no_signal():
    heard = []

    def run() -> None:
        with stop_signal() as stopped:
            heard.append(stopped.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert heard == [False]
