"""What the TPU compiler says of a config's train and scoring steps: memory, FLOPs, collectives, a roofline."""

import dataclasses
import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import rich.console
import rich.table
from jax.sharding import Mesh
from ml_collections import ConfigDict

from consistency_jax.aot.hlo import COUNT, Program
from consistency_jax.aot.shapes import (
    Load,
    abstract_batch,
    abstract_examples,
    device_bytes,
    placed,
    score_load,
    train_load,
)
from consistency_jax.config.checks import validate
from consistency_jax.config.stages import generates, stages_of
from consistency_jax.data.examples import ANCHOR, StepInput
from consistency_jax.errors import ConfigError
from consistency_jax.models.configured import AUTO, abstract_model
from consistency_jax.models.decoder import REMATS, DecoderConfig, abstract_params
from consistency_jax.models.flops import forward_flops, step_flops
from consistency_jax.models.shardings import param_shardings
from consistency_jax.objectives import OBJECTIVES, make_auxiliary, make_objective
from consistency_jax.runtime.chips import GIB, Chip, chip_of
from consistency_jax.runtime.mesh import make_mesh, mesh_shape, on_mesh, row_groups
from consistency_jax.scoring.logps import batch_shardings
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.training.optimizer import make_optimizer
from consistency_jax.training.remat import beside, compiled
from consistency_jax.training.step import auxiliary_shapes, init_state, sharded_step
from consistency_jax.training.trainable import check_trainable, split_params, trained_names

RECOMPUTE = "rematted_computation"  # in the JAX name of what remat computes again


# ------------------------------------------------------------------------------------------------------------ programs
def lower_train(
    config: ConfigDict, decoder: DecoderConfig, mesh: Mesh, load: Load
) -> tuple[jax.stages.Lowered, int, float]:
    """(the train step of train.py, bytes of its arguments on a device, its useful FLOPs on the whole mesh)."""
    languages = tuple(config.data.languages) or (ANCHOR, *(f"language {n}" for n in range(1, load.languages)))
    languages = sorted(languages, key=lambda name: name != ANCHOR)[: load.languages]
    objective, _ = make_objective(config.objective, languages)
    anchor_state = decoder.hidden if OBJECTIVES[config.objective.name].needs_state else 0
    auxiliary = make_auxiliary(config.auxiliary)
    optimizer = make_optimizer(config.optimizer, config.total_steps)
    names = trained_names(decoder, config.optimizer.freeze)
    step = sharded_step(decoder, objective, optimizer, mesh, names, load.micro_batches, auxiliary)
    trained, frozen = split_params(abstract_params(decoder), names)
    inputs = StepInput(abstract_batch(load), abstract_examples(load, anchor_state))
    if load.micro_batches > 1:
        inputs = jax.tree.map(lambda a: jax.ShapeDtypeStruct((load.micro_batches, *a.shape), a.dtype), inputs)
    extra = auxiliary_shapes(decoder, auxiliary)
    state = jax.eval_shape(lambda *params: init_state(params[0], optimizer, params[1]), trained, extra)
    arguments = (placed(state, step.state), placed(frozen, step.frozen), placed(inputs, step.inputs))
    with on_mesh(mesh):
        lowered = step.run.lower(*arguments)
    return lowered, device_bytes(arguments), step_flops(decoder, inputs.batch, names)


def lower_score(decoder: DecoderConfig, mesh: Mesh, load: Load) -> tuple[jax.stages.Lowered, int, float]:
    """The scoring step (prompts scored too), as `lower_train`."""
    params = placed(abstract_params(decoder), param_shardings(decoder, mesh))
    batch = placed(abstract_batch(load), batch_shardings(mesh))
    with on_mesh(mesh):
        lowered = Scorer(decoder, mesh).run.lower(params, batch, candidates=load.candidates, prompt=True)
    return lowered, device_bytes((params, batch)), forward_flops(decoder, batch)


def topology_devices(topology: str) -> Sequence[jax.Device]:
    """The devices of a slice such as v5e:4x4, for compiling only.

    Raises:
      ConfigError: a name or shape that no slice has, or no TPU compiler here.
    """
    chip_of(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "the TPU compiler (libtpu) is not installed: pip install 'consistency_jax[aot]', or run `make aot`"
        )
    # Without these it looks for a TPU on the network, and allows one process of it on a machine.
    for name, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    shape = [int(size) for size in topology.partition(":")[2].split("x")]
    # A slice smaller than a host's usual 2 x 2 chips is a host of its own.
    host = {"chips_per_host_bounds": [*shape, 1][:3]} if 1 in shape[:2] else {}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology, **host).devices
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(f"--topology={topology}: {str(error).splitlines()[0]}") from error


def prove(
    config: ConfigDict,
    topology: str,
    *,
    rows: int = 0,
    length: int = 0,
    programs: Sequence[str] = ("train", "score"),
    hlo: Path | None = None,
) -> dict[str, Any]:
    """Compiles a config's programs for a slice and says what they need.

    Args:
      rows, length: see `train_load`; 0: as the config makes them.
      programs: of "train", "score".
      hlo: folder to write the compiled programs to, as text.

    Returns:
      The report that the command writes as JSON. Bytes and FLOPs are those of one device.

    Raises:
      ConfigError: a config, model or topology that cannot be.
    """
    chip, devices = chip_of(topology), topology_devices(topology)
    validate(config, len(devices))
    if "train" in programs:
        check_trainable(config)
    decoder = abstract_model(config)
    mesh = make_mesh(mesh_shape(config, len(devices)), devices)
    stages = stages_of(config)
    if "train" in programs and any(generates(stage.config) for stage in stages):
        raise ConfigError("rollout.source=generate: the program that writes answers is not proved here")
    planned = []  # (name, config, load)
    for name in programs:
        if name == "score":
            planned.append((name, config, score_load(config, row_groups(mesh), length)))
            continue
        for stage in stages:
            own = f"{name} {stage.name}" if len(stages) > 1 else name
            planned.append((own, stage.config, train_load(stage.config, row_groups(mesh), rows, length)))
    report: dict[str, Any] = {
        "model": {"name": config.model.path or "model.architecture", "parameters": decoder.num_params},
        "topology": topology,
        "devices": len(devices),
        "mesh": dict(mesh.shape),
        "remat": decoder.remat,
        "programs": {},
    }
    for name, settings, load in planned:
        trains = name != "score"
        for remat in REMATS if trains and config.model.remat == AUTO else (decoder.remat,):
            if trains:
                report["remat"], own = remat, dataclasses.replace(decoder, remat=remat)
                lowered, arguments, useful = lower_train(settings, own, mesh, load)
            else:
                lowered, arguments, useful = lower_score(decoder, mesh, load)
            report["programs"][name] = {
                "load": dataclasses.asdict(load),
                "remat": report["remat"],
            } | program_needs(
                lowered,
                arguments,
                useful / len(devices),
                chip,
                hlo / f"{name.replace(' ', '_')}.hlo" if hlo else None,
            )
            if report["programs"][name]["hbm"]["fits"]:
                break
    report["fits"] = all(program["hbm"]["fits"] for program in report["programs"].values())
    return report


def program_needs(
    lowered: jax.stages.Lowered, arguments: int, useful: float, chip: Chip, hlo: Path | None = None
) -> dict[str, Any]:
    """What one program needs of one device; where it has no room, its memory alone.

    Args:
      arguments: bytes of its arguments on a device.
      useful: FLOPs of a device, counted by hand.
      hlo: file to write the compiled program to.
    """
    start = time.perf_counter()
    too_large = {"fits": False, "arguments": arguments, "capacity": chip.memory}
    if arguments > chip.memory:
        return {"hbm": too_large | {"reason": "its arguments alone are larger"}}
    made = compiled(lowered)
    if isinstance(made, str):
        return {"hbm": too_large | {"reason": made}, "compile_s": time.perf_counter() - start}
    needs = {"arguments": made.memory_analysis().argument_size_in_bytes} | beside(made)
    total = sum(needs.values())
    text = made.as_text()
    if hlo:
        hlo.write_text(text, encoding="utf8")
    program = Program(text)
    flops, recompute = program.flops(), program.flops(RECOMPUTE)
    collectives = program.collectives()
    traffic = program.traffic()
    seconds = chip.seconds(flops, traffic, sum(kind.bytes for kind in collectives.values()))
    return {
        "hbm": {"fits": total <= chip.memory, **needs, "total": total, "capacity": chip.memory},
        "flops": {
            "compiled": flops,
            "recompute": recompute,
            "useful": useful,
            "ratio": (flops - recompute) / useful,
        },
        "traffic": traffic,
        "counted": COUNT,
        "collectives": {kind: dataclasses.asdict(total) for kind, total in sorted(collectives.items())},
        "seconds": seconds,
        "mfu": {name: useful / chip.flops / seconds[name] for name in ("overlapped", "serial")},
        "unknown_loops": program.unknown_loops,
        "compile_s": time.perf_counter() - start,
    }


# ---------------------------------------------------------------------------------------------------------- the report
def advice(report: dict[str, Any], config: ConfigDict) -> str:
    """One sentence for what does not fit: what it needs, and what would help. Empty where all fits."""
    for name, program in report["programs"].items():
        hbm = program["hbm"]
        if hbm["fits"]:
            continue
        needs = f"{hbm['total'] / GIB:.2f} GiB" if "total" in hbm else f"more ({hbm['reason']})"
        state = hbm["arguments"] > hbm["capacity"] / 2
        options = [f"a larger slice than {report['topology']}"]
        if report["mesh"]["data"] > 1:
            options.append("parameters split over more devices (--config.mesh.data=1 --config.mesh.fsdp=-1)")
        if state and not config.lora.rank:
            options.append("adapters instead of full fine-tuning (--config.lora.rank=16)")
        elif state and config.lora.base != "nf4":
            options.append("a quantised base beside the adapters (--config.lora.base=nf4)")
        if name != "score" and program.get("remat", report["remat"]) != "full":
            options.append("--config.model.remat=full (or auto)")
        if name != "score":
            options.append(
                "fewer items at once (--config.batching.items, or more --config.batching.accumulate)"
            )
        else:
            options.append("fewer --config.evaluation.tokens")
        return (
            f"The {name} step does not fit: a device has {hbm['capacity'] / GIB:.2f} GiB, it needs {needs}, "
            f"{hbm['arguments'] / GIB:.2f} GiB of it arguments. What would help: {'; '.join(options)}."
        )
    return ""


def show(report: dict[str, Any], console: rich.console.Console) -> None:
    """The report as a table for people."""
    model, mesh = report["model"], report["mesh"]
    table = rich.table.Table(
        title=f"{model['name']} ({model['parameters'] / 1e9:.2f} B) on {report['topology']}, mesh "
        + " x ".join(f"{axis} {size}" for axis, size in mesh.items())
        + f", remat {report['remat']}"
    )
    names = list(report["programs"])
    table.add_column("each device, one step")
    for name in names:
        table.add_column(name, justify="right")
    lines: dict[str, dict[str, str]] = {}

    def add(label: str, value: str) -> None:
        lines.setdefault(label, dict.fromkeys(names, ""))[name] = value

    for name in names:
        program = report["programs"][name]
        load, hbm = program["load"], program["hbm"]
        add(
            "rows x tokens, micro-batches",
            "{rows} x {length}".format(**load["shape"]) + f", {load['micro_batches']}",
        )
        for label in ("arguments", "output", "temporaries", "program", "total", "capacity"):
            add(f"HBM {label}, GiB", f"{hbm[label] / GIB:.2f}" if label in hbm else "-")
        add("fits", "yes" if hbm["fits"] else "NO")
        if "flops" in program:
            flops = program["flops"]
            add("TFLOP useful (by hand)", f"{flops['useful'] / 1e12:.2f}")
            add("TFLOP compiled, without recompute", f"{(flops['compiled'] - flops['recompute']) / 1e12:.2f}")
            add("  compiled / useful", f"{flops['ratio']:.3f}")
            add("TFLOP recompute (remat)", f"{flops['recompute'] / 1e12:.2f}")
            add("HBM traffic, GB", f"{program['traffic'] / 1e9:.1f}")
            for kind, sent in program["collectives"].items():
                add(f"{kind}, GB sent (times)", f"{sent['bytes'] / 1e9:.2f} ({sent['count']})")
            for part in ("compute", "memory", "network"):
                add(f"estimated s, {part} alone", f"{program['seconds'][part]:.4f}")
            for part, together in (("overlapped", "all at once"), ("serial", "one after the other")):
                add(f"estimated s, {together}", f"{program['seconds'][part]:.4f}")
                add(f"estimated MFU, {together}", f"{100 * program['mfu'][part]:.1f} %")
            if program["unknown_loops"]:
                add("loops of unknown length, counted once", ", ".join(program["unknown_loops"]))
    for label, values in lines.items():
        table.add_row(label, *values.values())
    console.print(table)
