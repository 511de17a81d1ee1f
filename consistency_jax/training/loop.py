"""The training loop: one stage from parameters to parameters, resumable at every checkpoint.

Every stage of a run (the embedded pretraining, then an objective, or several) is a call of `fit`.
"""

import contextlib
import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp

from consistency_jax.config.stages import Stage
from consistency_jax.data.examples import StepInput
from consistency_jax.data.packing.rows import Shape
from consistency_jax.data.pipeline import Pipeline, prefetched
from consistency_jax.errors import Interrupted
from consistency_jax.models.configured import AUTO
from consistency_jax.models.decoder import Params
from consistency_jax.models.flops import step_flops
from consistency_jax.models.huggingface import Model
from consistency_jax.objectives import Loss, make_auxiliary
from consistency_jax.runtime.chips import peak_flops
from consistency_jax.runtime.mesh import mesh_of, on_mesh, put
from consistency_jax.runtime.processes import Vote
from consistency_jax.runtime.progress import Progress
from consistency_jax.runtime.watch import Watch
from consistency_jax.training.checkpoints import Checkpointer
from consistency_jax.training.loggers import MetricsLog
from consistency_jax.training.optimizer import make_optimizer, make_schedule
from consistency_jax.training.remat import chosen_step, largest
from consistency_jax.training.step import ShardedStep, TrainState, init_auxiliary, init_state, sharded_step
from consistency_jax.training.trainable import merge_params, split_params, trained_names

SHOWN = ("loss", "pair_agreement", "pair_accuracy")  # of what is logged, beside the bar


class OnPolicy(Protocol):
    """Batches that depend on the parameters of the moment, besides the seed and the step."""

    on_policy: Literal[True]
    items: int  # of one step
    shapes: tuple[Shape, ...]  # of its batches

    def __call__(self, step: int, params: Params) -> StepInput:
        """What step number `step` trains on, as numpy arrays; the same for the same parameters."""


def fit(
    stage: Stage,
    policy: Model,
    objective: Loss,
    batches: Pipeline | OnPolicy,
    workdir: Path,
    *,
    checkpoints: Path | None = None,
    validate: Callable[[Params], dict[str, float]] | None = None,
    watch: Watch | None = None,
) -> Model:
    """Trains a policy for the optimizer steps of a stage, from the newest checkpoint where there is one.

    Args:
      policy: where to start. Those of its parameters that are trained are donated, and gone after this call; unless
        batches are `on_policy`, whose rewards they may give.
      batches: batch = f(step), prepared ahead; or, where it is `on_policy`, f(step, the parameters before it).
      workdir: where the stage's metrics are logged and its checkpoints are.
      checkpoints: another folder for them.
      validate: what it measures is logged every `evaluation.every` steps, and at the last.
      watch: told of every step.

    An auxiliary loss is added to the objective's; what it trains of its own is made from the seed and is checkpointed,
    but not returned.

    Returns:
      The policy after the last step.

    Raises:
      FloatingPointError: a loss that is no finite number; the message names the step.
      CheckpointError: a checkpoint that cannot be written or read.
      Interrupted: after SIGINT or SIGTERM, once a checkpoint is written.
    """
    config, decoder, mesh = stage.config, policy.config, mesh_of(policy.params)
    total_steps = config.total_steps
    tx = make_optimizer(config.optimizer, total_steps)
    auxiliary = make_auxiliary(config.auxiliary)
    names = trained_names(decoder, config.optimizer.freeze)
    trained, frozen = split_params(policy.params, names)
    checkpointer = Checkpointer(checkpoints or workdir / stage.folder, config.checkpoint.keep)
    checkpointer.prune()
    first = checkpointer.latest_step or 0
    if first >= total_steps:
        with checkpointer:
            print(f"{stage.name}: finished, at step {first}")
            params = checkpointer.restore(first, {"params": trained})["params"]
            return dataclasses.replace(policy, params=merge_params(params, frozen))

    def make_step(remat: str) -> ShardedStep:
        with_remat = dataclasses.replace(decoder, remat=remat)
        return sharded_step(with_remat, objective, tx, mesh, names, config.batching.accumulate, auxiliary)

    step_fn = make_step(decoder.remat)

    def begin(params: Params) -> TrainState:
        extra = init_auxiliary(decoder, auxiliary, jax.random.key(config.seed))
        return jax.tree.map(jnp.copy, init_state(params, tx, extra))

    # From the newest checkpoint, if any. The state owns its buffers, so that the first step may donate them.
    if first:
        shapes = jax.eval_shape(begin, trained)
        if not batches.on_policy:
            jax.tree.map(lambda leaf: leaf.delete(), trained)
        like = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, step_fn.state
        )
        state = _owned(checkpointer.restore(first, _parts(like)))
        print(f"{stage.name}: resuming at step {first} of {total_steps}")
    else:
        donated = () if batches.on_policy else (0,)
        state = jax.jit(begin, donate_argnums=donated, out_shardings=step_fn.state)(trained)
    del trained

    schedule = make_schedule(config.optimizer, config.optimizer.learning_rate, total_steps)
    waiting: list[dict[str, jax.Array]] = []  # metrics that still lie on the device
    useful: dict[tuple, float] = {}  # FLOPs of a step by its batch's shape

    with contextlib.ExitStack() as stack:
        stack.enter_context(checkpointer)
        mirrors = {"tensorboard": config.logging.tensorboard, "wandb": config.logging.wandb}
        log = MetricsLog(workdir, stage=stage.name, first_step=first, **mirrors)
        stack.enter_context(contextlib.closing(log))
        peak = peak_flops(mesh.devices.flat[0])
        progress = Progress(stage.name, total_steps, first, peak=peak and peak * mesh.size)
        stack.enter_context(contextlib.closing(progress))
        watch = watch or Watch()
        stack.callback(watch.stop)
        stopped = stack.enter_context(stop_signal())
        any_stopped = Vote(mesh)
        stack.enter_context(jax.transfer_guard("disallow"))

        ahead = None if batches.on_policy else prefetched(batches, range(first, total_steps))
        for step in range(first + 1, total_steps + 1):
            if ahead is not None:
                batch = next(ahead)
            else:
                with jax.transfer_guard("allow"):
                    batch = batches(step - 1, merge_params(state.params, frozen))
            if step == first + 1 and config.model.remat == AUTO:
                with jax.transfer_guard("allow"), on_mesh(mesh):
                    most = largest(batch, batches.shapes, step_fn.inputs)
                    kept = checkpoints.parent if checkpoints else workdir
                    step_fn = chosen_step(
                        make_step, (state, frozen), most, kept, stage.name, resumed=first > 0
                    )
            watch.begin(step, stage.name, after=state)
            with on_mesh(mesh):
                state, metrics = step_fn.run(state, frozen, put(batch, step_fn.inputs))
            watch.end(metrics, step)
            waiting.append(metrics)
            counts = {"items": batches.items, "tokens": int((batch.batch.tree > 0).sum())}
            if peak:
                shape = batch.batch.tokens.shape, batch.batch.sources.shape
                if shape not in useful:
                    with jax.transfer_guard("allow"):
                        useful[shape] = step_flops(decoder, batch.batch, names)
                counts["flops"] = useful[shape]

            # Looked at once: it may change at any moment. A signal to one process stops all at the same step.
            stopping = any_stopped(stopped.is_set()) and step < total_steps
            last = step == total_steps or stopping
            to_log, to_save = (
                step % every == 0 or last for every in (config.logging.every, config.checkpoint.every)
            )
            if to_log or to_save:
                values = _fetch(waiting, step)
                waiting = []
            if to_log:
                progress.show(**{name: f"{values[name]:.4f}" for name in SHOWN if name in values})
            progress.advance(ended=not waiting, **counts)
            if to_log:
                with jax.transfer_guard("allow"):
                    values["learning_rate"] = float(schedule(step - 1))
                log.write(step, values | progress.rates())
            if validate and (step % config.evaluation.every == 0 or step == total_steps):
                with jax.transfer_guard("allow"):
                    log.write(step, validate(merge_params(state.params, frozen)))
            if to_save:  # after all that is logged of this step
                with jax.transfer_guard("allow"):  # processes wait for each other by means of arrays
                    checkpointer.save(step, _parts(state))
            if stopping:
                break
        # Looked at once more, until all votes are out: the last step's validation and checkpoint take their time.
        if any([any_stopped(stopped.is_set()) for _ in range(Vote.LAG + 1)]):
            checkpointer.wait()
            raise Interrupted(
                f"{stage.name}: stopped at step {step} of {total_steps}, checkpoint written; "
                "the same command goes on from here"
            )
    return dataclasses.replace(policy, params=merge_params(state.params, frozen))


def _parts(state: TrainState) -> dict[str, Any]:
    """A state as a checkpoint holds it: the model's parameters apart, so that they can be read alone."""
    progress = {"step": state.step, "optimizer": state.optimizer}
    if state.auxiliary:
        progress["auxiliary"] = state.auxiliary
    return {"params": state.params, "progress": progress}


def _owned(stored: dict[str, Any]) -> TrainState:
    """A state of restored `_parts` in buffers of its own, array by array: what is read may lie in the reader's."""
    leaves, structure = jax.tree.flatten(TrainState(params=stored.pop("params"), **stored.pop("progress")))
    return structure.unflatten([jnp.copy(leaves.pop(0)) for _ in range(len(leaves))])


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
    # Those of an auxiliary loss are of the newest step that had it: with prompts of its own, only every n-th has.
    counted = [metrics for metrics in fetched if metrics.get("mlc_items", 0) > 0]
    newest = {name: value for name, value in fetched[-1].items() if not name.startswith("mlc_")}
    newest |= {name: value for name, value in (counted or [{}])[-1].items() if name.startswith("mlc_")}
    return {name: float(value) for name, value in newest.items()}


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
