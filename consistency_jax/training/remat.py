"""`model.remat=auto`: of what may be computed again in the backward pass, the least with which a step fits its device.

The compiler says what a step needs beside its arguments, the device what it has left: no rule of thumb in between. What
was chosen is kept in the workdir, so that a run that is resumed takes the same, to the same bits.
"""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from consistency_jax.data.examples import StepInput
from consistency_jax.data.packing.rows import Shape
from consistency_jax.models.decoder import REMATS
from consistency_jax.runtime.chips import GIB
from consistency_jax.runtime.files import read_json, write_text
from consistency_jax.runtime.processes import on_main
from consistency_jax.training.step import ShardedStep

SPARE = 0.05  # of a device's memory, which stays free: allocators lose some between arrays
KEPT = "remat.json"  # of a workdir: stage -> its choice


def room(device: jax.Device) -> int | None:
    """Bytes of a device that are free for a program; None where it does not tell, as a CPU."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return int((1 - SPARE) * stats["bytes_limit"]) - stats["bytes_in_use"]


def compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled | str:
    """The program, or what the compiler said where it found no place for it."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        _, found, said = str(error).partition("RESOURCE_EXHAUSTED")
        if not found:
            raise
        return said.lstrip(": ").partition("\n")[0]


def beside(program: jax.stages.Compiled) -> dict[str, int]:
    """Bytes that a program takes beside its arguments, by what for."""
    stats = program.memory_analysis()
    return {
        # donated arguments become outputs
        "output": stats.output_size_in_bytes - stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "program": stats.generated_code_size_in_bytes,
    }


def needed(lowered: jax.stages.Lowered) -> float:
    """Bytes that a program takes beside its arguments; infinite where the compiler finds no place for it."""
    program = compiled(lowered)
    return math.inf if isinstance(program, str) else sum(beside(program).values())


def largest(batch: StepInput, shapes: tuple[Shape, ...], places: StepInput) -> list[StepInput]:
    """What a batch would be in the largest of its planned shapes, as shapes alone: in the one of the most tokens, and,
    where that is another, of the most pairs of tokens, which attention may keep.

    Args:
      places: where it lies on the devices.
    """
    most = {max(shapes, key=lambda shape, power=power: shape.rows * shape.length**power) for power in (1, 2)}
    sources, targets = (max(getattr(shape, name) for shape in shapes) for name in ("sources", "targets"))
    return [
        _in_shape(batch, dataclasses.replace(shape, sources=sources, targets=targets), places)
        for shape in sorted(most, key=dataclasses.astuple)
    ]


def _in_shape(batch: StepInput, shape: Shape, places: StepInput) -> StepInput:
    rows, targets = (shape.rows, shape.length), (shape.groups, shape.targets)
    sizes = dict.fromkeys(("tokens", "positions", "tree", "branch"), rows)
    sizes |= dict.fromkeys(("target_source", "target_token", "target_slot"), targets)
    sizes |= {"sources": (shape.groups, shape.sources)}
    parts = batch.batch.tokens.shape[:-2]  # micro-batches
    wide = {name: jax.ShapeDtypeStruct((*parts, *size), jnp.int32) for name, size in sizes.items()}
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        batch._replace(batch=batch.batch._replace(**wide)),
        places,
    )


def chosen_step(
    make: Callable[[str], ShardedStep],
    arguments: tuple[Any, ...],
    batches: Sequence[StepInput],
    workdir: Path,
    stage: str,
    resumed: bool = False,
    free: int | None = None,
) -> ShardedStep:
    """The step with the first of REMATS that fits, with the last where none does; told on the terminal.

    Args:
      make: the step, with what is computed again.
      arguments: of the step, but the batch; they lie on the devices.
      batches: as shapes, `largest`; the step must fit with each.
      workdir: keeps what is chosen for a stage; where that is `resumed`, the search begins with it.
      free: bytes; None: `room` of a device.
    """
    jax.block_until_ready(arguments)  # before that, what is in use is not what will be
    free = room(jax.local_devices()[0]) if free is None else free
    if free is None:
        print("remat     none: this device does not tell how much memory it has")
        return make(REMATS[0])
    known = on_main(lambda: _kept(workdir / KEPT))
    before = known.get(stage) if resumed else None
    for remat in REMATS[REMATS.index(before) if before in REMATS else 0 :]:
        step = make(remat)
        need = max(needed(step.run.lower(*arguments, batch)) for batch in batches)
        if on_main(lambda need=need: need <= free):
            break
    told = "more than there is" if need == math.inf else f"{need / GIB:.2f} GiB"
    print(
        f"remat     {remat}: a step needs {told} beside parameters and moments, {free / GIB:.2f} GiB are free"
    )
    on_main(lambda: write_text(workdir / KEPT, json.dumps(known | {stage: remat}) + "\n"))
    return step


def _kept(path: Path) -> dict[str, str]:
    """What was chosen for each stage; nothing where the file is damaged, for it can be chosen anew."""
    with contextlib.suppress(OSError, ValueError):
        known = read_json(path)
        return known if isinstance(known, dict) else {}
    return {}
