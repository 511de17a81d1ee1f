"""The training loop: one stage from parameters to parameters, resumable at every checkpoint.

Every stage of a run (the embedded pretraining, then an objective, or several) is a call of `fit`.
"""

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from consistency_jax.data.examples import StepInput
from consistency_jax.data.pipeline import Pipeline, prefetched
from consistency_jax.errors import Interrupted
from consistency_jax.models.decoder import DecoderConfig, Params
from consistency_jax.objectives import Loss, Mlc
from consistency_jax.runtime.mesh import on_mesh, put
from consistency_jax.runtime.processes import Vote
from consistency_jax.runtime.progress import Progress
from consistency_jax.training.checkpoints import Checkpointer
from consistency_jax.training.loggers import Log
from consistency_jax.training.optimizer import make_optimizer, make_schedule
from consistency_jax.training.step import (
    State,
    init_auxiliary,
    init_state,
    merge_params,
    sharded_step,
    split_params,
    trained_names,
)


class OnPolicy(Protocol):
    """Batches that depend on the parameters of the moment, besides the seed and the step."""

    on_policy: Literal[True]
    items: int  # of one step

    def __call__(self, step: int, params: Params) -> StepInput:
        """What step number `step` trains on, as numpy arrays; the same for the same parameters."""


def fit(
    *,
    stage: str,
    config: DecoderConfig,
    params: Params,
    objective: Loss,
    pipeline: Pipeline | OnPolicy,
    optimizer: ConfigDict,
    total_steps: int,
    mesh: Mesh,
    checkpoints: Path,
    log: Callable[[int], Log],
    log_every: int,
    checkpoint_every: int,
    keep: int = 2,
    accumulate: int = 1,
    auxiliary: Mlc | None = None,
    seed: int = 0,
    evaluate: Callable[[Params], dict[str, float]] | None = None,
    evaluate_every: int = 0,
) -> Params:
    """Trains for `total_steps` optimizer steps, from the newest checkpoint where there is one.

    Args:
      stage: name for progress and logs.
      params: where to start; they are not donated and stay usable.
      pipeline: batch = f(step), prepared ahead; or, where it is `on_policy`, f(step, the parameters before it).
      optimizer: config of `training/optimizer.py`; what its `freeze` finds is not trained.
      checkpoints: folder of this stage's checkpoints.
      log: makes the metrics log, given the step to continue from.
      auxiliary: a loss that is added to the objective's; what it trains of its own is made from `seed` and is
        checkpointed, but not returned.
      evaluate: measured and logged every `evaluate_every` steps (0: never).

    Returns:
      The parameters after the last step.

    Raises:
      FloatingPointError: a loss that is no finite number; the message names the step.
      CheckpointError: a checkpoint that cannot be written or read.
      Interrupted: after SIGINT or SIGTERM, once a checkpoint is written.
    """
    tx = make_optimizer(optimizer, total_steps)
    names = trained_names(config, optimizer.freeze)
    trained, frozen = split_params(params, names)
    checkpointer = Checkpointer(checkpoints, keep)
    first = checkpointer.latest_step or 0
    if first >= total_steps:
        with checkpointer:
            print(f"{stage}: finished, at step {first}")
            return merge_params(checkpointer.restore(first, {"params": trained})["params"], frozen)
    step_fn = sharded_step(config, objective, tx, mesh, names, accumulate, auxiliary)
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=step_fn.state)
    state = jax.jit(
        lambda p: copy(init_state(p, tx, init_auxiliary(config, auxiliary, jax.random.key(seed)))),
        out_shardings=step_fn.state,
    )(trained)

    # Newest checkpoint, if any. The copy owns its buffers, so that the first step may donate them.
    if first:
        stored = checkpointer.restore(first, _parts(state))
        state = copy(State(params=stored["params"], **stored["progress"]))
        print(f"{stage}: resuming at step {first} of {total_steps}")

    schedule = make_schedule(optimizer, optimizer.learning_rate, total_steps)
    waiting: list[dict[str, jax.Array]] = []  # metrics that still lie on the device

    with contextlib.ExitStack() as stack:
        stack.enter_context(checkpointer)
        metrics_log = stack.enter_context(contextlib.closing(log(first)))
        progress = stack.enter_context(contextlib.closing(Progress(stage, total_steps, first)))
        stopped = stack.enter_context(stop_signal())
        any_stopped = Vote(mesh)
        stack.enter_context(on_mesh(mesh))
        stack.enter_context(jax.transfer_guard("disallow"))

        ahead = None if pipeline.on_policy else prefetched(pipeline, first, total_steps)
        for step in range(first + 1, total_steps + 1):
            if ahead is not None:
                batch = next(ahead)
            else:
                with jax.transfer_guard("allow"):
                    batch = pipeline(step - 1, merge_params(state.params, frozen))
            state, metrics = step_fn.run(state, frozen, put(batch, step_fn.inputs))
            waiting.append(metrics)
            progress.advance(items=pipeline.items, tokens=int((batch.batch.tree > 0).sum()))

            # Looked at once: it may change at any moment. A signal to one process stops all at the same step.
            stopping = any_stopped(stopped.is_set()) and step < total_steps
            last = step == total_steps or stopping
            if step % log_every == 0 or step % checkpoint_every == 0 or last:
                values = _fetch(waiting, step)
                waiting = []
                if step % log_every == 0 or last:
                    with jax.transfer_guard("allow"):
                        values["learning_rate"] = float(schedule(step - 1))
                    metrics_log.write(step, values | _speed(progress))
                    progress.show(loss=f"{values['loss']:.4f}")
            if evaluate and evaluate_every and (step % evaluate_every == 0 or step == total_steps):
                with jax.transfer_guard("allow"):
                    measured = evaluate(merge_params(state.params, frozen))
                metrics_log.write(step, measured)
            if step % checkpoint_every == 0 or last:  # after all that is logged of this step
                with jax.transfer_guard("allow"):  # processes wait for each other by means of arrays
                    checkpointer.save(step, _parts(state))
            if stopping:
                checkpointer.wait()
                raise Interrupted(
                    f"{stage}: stopped at step {step} of {total_steps}, checkpoint written; "
                    "the same command goes on from here"
                )
    return merge_params(state.params, frozen)


def _parts(state: State) -> dict[str, Any]:
    """A state as a checkpoint holds it: the model's parameters apart, so that they can be read alone."""
    progress = {"step": state.step, "optimizer": state.optimizer}
    if state.auxiliary:
        progress["auxiliary"] = state.auxiliary
    return {"params": state.params, "progress": progress}


def _fetch(waiting: list[dict[str, jax.Array]], step: int) -> dict[str, float]:
    """The newest metrics as numbers, after a look at every loss since the last time.

    Raises:
      FloatingPointError: naming the first step whose loss or gradient is not finite.
    """
    fetched = jax.device_get(waiting)
    for number, metrics in enumerate(fetched, start=step - len(fetched) + 1):
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(metrics[name]):
                raise FloatingPointError(
                    f"{name} is {metrics[name]} at step {number}; what an earlier step has checkpointed is good. "
                    "Lower optimizer.learning_rate, or look at the batch of that step."
                )
    return {name: float(value) for name, value in fetched[-1].items()}


def _speed(progress: Progress) -> dict[str, float]:
    return {f"{name}_per_s": rate for name, rate in progress.rates().items()}


@contextlib.contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets; a second SIGINT interrupts at once. Only the main thread may listen."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: Any) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
