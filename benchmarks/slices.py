"""The table of docs/slices.md: the smallest TPU slice for each published model.

    python benchmarks/slices.py                          # all (hours): writes docs/slices.md and docs/slices.json
    python benchmarks/slices.py --models=Qwen/Qwen3-8B   # some
    python benchmarks/slices.py --known                  # what is compiled already, and nothing more

Every line is compiled (consistency_jax/aot/prove.py), from the smallest slice up to the first that fits; slices whose
chips cannot even hold the arguments cost nothing. What is compiled stays in docs/slices.json and is not compiled again.
Needs libtpu, as `make aot` installs it: run this with .venv-aot/bin/python.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from consistency_jax.aot.hlo import COUNT
from consistency_jax.aot.prove import prove
from consistency_jax.config.defaults import default
from consistency_jax.models.decoder import REMATS
from consistency_jax.runtime.chips import GIB, chip_of

DOCS = Path(__file__).resolve().parent.parent / "docs"
MODELS = (
    "Qwen/Qwen2.5-7B",
    "Qwen/Qwen2.5-14B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-14B",
    "google/gemma-3-4b-pt",
    "google/gemma-3-12b-pt",
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.2-3B",
    "CohereLabs/aya-expanse-8b",
)
SLICES = ["v5e:1x1", "v5e:2x2", "v5e:2x4", "v5e:4x4", "v5e:4x8", "v5e:8x8"]
REMATTED, REMAT_SLICES = "meta-llama/Llama-3.2-3B", ("v5e:2x4", "v6e:2x2", "v5p:2x2x1")
AT_MOST = (
    "Lines with at most: compiled when copies into vector memory were counted several times. Compiled again, which "
    "either script does, they come out lower."
)
ROWS = 4  # rows of a device in one micro-batch, at most: what the items fill beyond that is accumulated


def config_of(
    model: str, topology: str, rank: int, items: int, base: str = "none", remat: str = "full"
) -> ConfigDict:
    """The published recipe on a slice: bfloat16, MMMLU-like items, parameters split over all its devices."""
    config = default()
    config.model.path = model
    config.model.dtype = config.model.compute_dtype = "bfloat16"
    config.model.remat = remat
    config.lora.rank, config.lora.base = rank, base
    config.data.source = "mmmlu"
    config.batching["items"] = items
    config.batching.languages = 2
    config.mesh.update(data=1, fsdp=-1, tensor=1)
    rows = items * config.batching.languages // 4  # four typical trees fill a row
    config.batching.accumulate = min(items, max(1, math.ceil(rows / (ROWS * devices_of(topology)))))
    return config


def devices_of(topology: str) -> int:
    """Devices of a slice: chips, or their cores where JAX sees those."""
    shape = topology.partition(":")[2]
    return math.prod(int(size) for size in shape.split("x")) * chip_of(topology).devices


class Reports:
    """Reports by name, kept in a JSON file."""

    def __init__(self, path: Path, compiling: bool = True):
        self._path, self._compiling = path, compiling
        self._known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def __call__(
        self,
        model: str,
        topology: str,
        rank: int,
        items: int,
        programs: tuple[str, ...],
        base: str = "none",
        remat: str = "full",
    ) -> dict[str, Any] | None:
        """The report, compiled now where it is not there; None where nothing may be compiled."""
        stored = ("" if base == "none" else f" base {base}") + ("" if remat == "full" else f" remat {remat}")
        name = f"{model} {topology} rank {rank}{stored} items {items} {'+'.join(programs)}"
        known = self._known.get(name)
        if not self._compiling:
            return known
        if known is None or not all(map(exact, known["programs"].values())):
            print(name, flush=True)
            config = config_of(model, topology, rank, items, base, remat)
            self._known[name] = prove(config, topology, programs=programs)
            self._path.write_text(json.dumps(self._known, indent=1) + "\n", encoding="utf8")
        return self._known[name]


def exact(program: dict[str, Any]) -> bool:
    """Whether its HBM traffic, where it has one, is counted as it is now; before, it came out too large."""
    return program.get("counted") == COUNT or "traffic" not in program


def smallest(reports: Reports, model: str, rank: int, base: str) -> str:
    """The table's line for a model: the first of `SLICES` that fits; "" where that is not known."""
    kind = f"LoRA, rank {rank}" if rank else "full"
    kind += "" if base == "none" else f", {base} base"
    for topology in SLICES:
        report = reports(model, topology, rank, 32, ("train", "score"), base)
        if report is None:
            return ""
        if report["fits"]:
            train, score = report["programs"]["train"], report["programs"]["score"]
            most = "" if exact(train) else "at most "
            return (
                f"| {model} | {kind} | {topology} | {train['hbm']['arguments'] / GIB:.1f} "
                f"| {train['hbm']['total'] / GIB:.1f} | {score['hbm']['total'] / GIB:.1f} "
                f"| {train['flops']['ratio']:.2f} | {most}{train['seconds']['overlapped']:.2f} to "
                f"{train['seconds']['serial']:.2f} |"
            )
    return f"| {model} | {kind} | none up to {SLICES[-1]} | | | | | |"


def recomputed(reports: Reports, topology: str) -> list[str]:
    """Lines of what each way of `model.remat` needs of a device of a slice, from the most memory to the least."""
    lines = []
    for remat in REMATS:
        if (report := reports(REMATTED, topology, 0, 32, ("train",), remat=remat)) is None:
            lines.append(f"| {topology} | {remat} | not compiled yet | | | | |")
            continue
        train = report["programs"]["train"]
        if "flops" not in train:
            lines.append(f"| {topology} | {remat} | too much | | | | |")
            continue
        flops, seconds = train["flops"], train["seconds"]
        lines.append(
            f"| {topology} | {remat} | {train['hbm']['total'] / GIB:.1f} | {flops['compiled'] / 1e12:.1f} "
            f"| {flops['recompute'] / 1e12:.1f} | {train['traffic'] / 1e9:.0f} "
            f"| {seconds['overlapped']:.3f} to {seconds['serial']:.3f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS), help="comma separated")
    parser.add_argument(
        "--kinds", default="0,16,16:nf4", help="0: full fine-tuning; others: LoRA of that rank, RANK:BASE too"
    )
    parser.add_argument("--known", action="store_true", help="compile nothing")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    reports = Reports(DOCS / "slices.json", compiling=not args.known)
    kinds = [
        (int(kind.partition(":")[0]), kind.partition(":")[2] or "none") for kind in args.kinds.split(",")
    ]
    models = [model for model in args.models.split(",") if model]
    rows = [smallest(reports, model, *kind) for model in models for kind in kinds]
    lines = [
        "# Which TPU slice a model needs",
        "",
        "Made by `python benchmarks/slices.py`, without a TPU: the train step and the scoring step of each model went "
        "through the TPU compiler. Memory is the compiler's; times and MFU are estimates, from a roofline at the "
        "chips' data-sheet rates, between all work overlapped and none.",
        "",
        "## The smallest slice",
        "",
        "bfloat16 weights and AdamW moments, remat full, 32 items in 2 languages a step, four MMMLU-like questions a "
        f"row, at most {ROWS} rows a device at once (the rest is accumulated). GiB are those of one device. nf4 base: "
        "the projections beside the adapters in 4 bits (`lora.base=nf4`).",
        "",
        "| model | training | slice | arguments, GiB | train, GiB | score, GiB | compiled / useful FLOPs | step, s |",
        "|---|---|---|---|---|---|---|---|",
        *filter(None, rows),
        "",
        *([AT_MOST, ""] if any("at most " in row for row in rows) else []),
        "Two of them over 1 to 256 chips, and what bounds a step there: [scaling.md](scaling.md).",
        "",
        "## What is computed again",
        "",
        f"The first table's step for {REMATTED}, all parameters trained, with each `model.remat`; `auto` takes the "
        "first that fits.",
        "",
        "| slice | remat | train, GiB | TFLOP of a chip | of it again | HBM traffic, GB | step, s |",
        "|---|---|---|---|---|---|---|",
        *(line for topology in REMAT_SLICES for line in recomputed(reports, topology)),
    ]
    (DOCS / "slices.md").write_text("\n".join(lines) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
