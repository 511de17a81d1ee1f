"""The tables of docs/scaling.md: a model on 1 to 512 chips, with as many items on every slice, and with as many a chip.

    python benchmarks/scaling.py                           # all (hours): writes docs/scaling.md
    python benchmarks/scaling.py --generations=v6e         # some
    python benchmarks/scaling.py --known                   # what is compiled already, and nothing more

Every line is a train step that went through the TPU compiler (consistency_jax/aot/prove.py), without a TPU. What is
compiled stays in docs/slices.json, the file of benchmarks/slices.py, and is not compiled again, so a run that was
stopped goes on. Needs libtpu, as `make aot` installs it: run this with .venv-aot/bin/python.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
from slices import AT_MOST, DOCS, ROWS, Reports, devices_of, exact

from consistency_jax.runtime.chips import CHIPS, GIB, chip_of

MODELS = {  # and the generations that each is compiled for
    "meta-llama/Llama-3.2-3B": ("v5e", "v6e", "v5p"),
    "google/gemma-3-4b-pt": ("v6e",),
}
TOPOLOGIES = {  # from one chip, or the smallest that there is, to the largest slice
    "v5e": ("v5e:1x1", "v5e:2x2", "v5e:4x4", "v5e:8x8", "v5e:16x16"),
    "v6e": ("v6e:1x1", "v6e:2x2", "v6e:4x4", "v6e:8x8", "v6e:16x16"),
    "v5p": ("v5p:2x2x1", "v5p:2x2x4", "v5p:4x4x4", "v5p:4x8x8", "v5p:8x8x8"),
}
ITEMS = 512  # of a step, on every slice
ITEMS_A_CHIP = 2 * ROWS  # two items in two languages fill a row: one micro-batch
COLUMNS = (
    ("chips", "items", "tokens of a chip, micro-batches", "GiB of a chip", "TFLOP of a chip")
    + ("all-gather, GB", "other collectives, GB", "sent, in models", "compute, s", "HBM, s", "network, s")
    + ("bound by", "MFU")
)
TEXT = """\
# Scaling, on paper

Made by `python benchmarks/scaling.py`, without a TPU: train steps of {models}, full
fine-tuning in bfloat16, went through the TPU compiler. FLOPs, bytes and memory are the compiler's, those of one chip in
one step; seconds are what computing, HBM and network would each take alone at the chip's data-sheet rates
([chips.py](../consistency_jax/runtime/chips.py)); the largest bounds the step. MFU is an estimate, between one after
the other and all at once. Latencies are not in it, nor is the way that a collective takes through a torus.

Parameters, gradients and moments are split over all chips (`mesh.fsdp=-1`); at most {rows} rows of a chip at once: what
the items fill beyond that is accumulated. A slice ends at 256 chips of v5e and v6e; 512 are a v5p's.

## Where it stops being compute-bound, and why

In a micro-batch a chip sends about as much whatever the number of chips: every layer's weights are gathered twice
(forward, and again for the backward pass, where remat computes it anew) and their gradients are added up and scattered.
With P parameters of 2 bytes that is c x 2 P bytes, c about 3 (the column "sent, in models"; 6 to 7 where the compiler
adds gradients up everywhere, an all-reduce, instead of scattering them). For its t tokens it computes about 8 P t FLOPs
(2 forward, 2 again, 4 backward). So neither the model's size nor the number of chips decides, but t alone:

    compute-bound  <=>  t > c/4 x FLOP/s of a chip / bytes/s that it sends

| | FLOP for each byte sent | tokens of a chip in a micro-batch, c = 3 | c = 6 |
|---|---|---|---|
{thresholds}

* With as many items on every slice (the first table), a chip has the fewer tokens the more chips there are. Once a step
  is a single micro-batch, twice the chips compute half as much each and send as much as before: more chips then bring
  nothing without more items.
* With as many items a chip (the second table), a chip's tokens and computing stay as they are, and what it sends at
  most doubles, where the compiler changes from scattering to adding up everywhere.
* HBM is a bound of its own, and no part of this formula: the column is what the compiled program's instructions read
  and write, each counted by itself, a copy beside the computing once. (It was counted several times: of the same step
  v5e's program seemed to move 245 GB on 64 chips and v6e's 459, and they move 115 and 119.)
  `python -m consistency_jax.aot --hlo=FOLDER` writes the program to look into.
"""


def line(report: dict[str, Any], items: int) -> str:
    """The table's line for a report of a train step."""
    program, chip = report["programs"]["train"], chip_of(report["topology"])
    load, hbm = program["load"], program["hbm"]
    chips = devices_of(report["topology"]) // chip.devices
    shape, parts = load["shape"], load["micro_batches"]
    tokens = shape["rows"] * shape["length"] // shape["groups"]
    start = f"| {chips} | {items} | {tokens:,} x {parts} "
    if "flops" not in program:
        return start + f"| {hbm['arguments'] / GIB:.1f}: too much" + " |" * (len(COLUMNS) - 3)
    sent = {name: kind["bytes"] for name, kind in program["collectives"].items()}
    gathered, total = sent.get("all-gather", 0.0), sum(sent.values())
    models = total / (2 * report["model"]["parameters"]) / parts
    seconds = {name: program["seconds"][name] for name in ("compute", "memory", "network")}
    most, least = ("", "") if exact(program) else ("at most ", "at least ")
    memory = "HBM" if exact(program) else "HBM?"
    bound = {"compute": "compute", "memory": memory, "network": "network"}[max(seconds, key=seconds.get)]
    mfu = "{serial:.0f} to {overlapped:.0f} %".format(**{k: 100 * v for k, v in program["mfu"].items()})
    fits = "" if hbm["fits"] else ": too much"
    return start + (
        f"| {hbm['total'] / GIB:.1f}{fits} | {program['flops']['compiled'] / 1e12:.1f} | {gathered / 1e9:.1f} "
        f"| {(total - gathered) / 1e9:.1f} | {models:.1f} | "
        + f"{seconds['compute']:.3f} | {most}{seconds['memory']:.3f} | {seconds['network']:.3f} "
        + f"| {bound} | {least}{mfu} |"
    )


def table(reports: Reports, model: str, generation: str, items: Any) -> list[str]:
    """A table's lines: `items(chips)` of a step on each slice of a generation."""
    lines = []
    for topology in TOPOLOGIES[generation]:
        count = items(devices_of(topology) // chip_of(topology).devices)
        report = reports(model, topology, 0, count, ("train",))
        lines += [line(report, count)] if report else []
    head = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    return ["", f"### {model}, {generation}", "", *head, *lines] if lines else []


def thresholds() -> str:
    lines = []
    for name in TOPOLOGIES:
        intensity = CHIPS[name].flops / CHIPS[name].network_rate
        lines.append(f"| {name} | {intensity:,.0f} | {3 / 4 * intensity:,.0f} | {6 / 4 * intensity:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS), help="comma separated")
    parser.add_argument("--generations", default=",".join(TOPOLOGIES), help="comma separated")
    parser.add_argument("--known", action="store_true", help="compile nothing")
    parser.add_argument(
        "--store", type=Path, default=DOCS / "slices.json", help="where compiled lines are kept"
    )
    parser.add_argument("--out", type=Path, default=DOCS / "scaling.md")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    reports = Reports(args.store, compiling=not args.known)
    kinds = {
        f"As many items on every slice: {ITEMS}": lambda chips: ITEMS,
        f"As many items a chip: {ITEMS_A_CHIP}": lambda chips: ITEMS_A_CHIP * chips,
    }
    models, generations = args.models.split(","), args.generations.split(",")
    text = TEXT.format(models=" and ".join(models), rows=ROWS, thresholds=thresholds())
    lines = [text.rstrip()]
    for title, items in kinds.items():
        tables = [
            table(reports, model, generation, items)
            for model in models
            for generation in MODELS.get(model, tuple(TOPOLOGIES))
            if generation in generations
        ]
        if any(tables):
            lines += ["", f"## {title}", *(line for own in tables for line in own)]
    if any("at most " in line for line in lines):
        lines += ["", AT_MOST]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf8")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
