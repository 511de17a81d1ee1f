"""The demo with several seeds (another base model, other facts told, other batches): is its effect more than luck?

    python benchmarks/tiny_seeds.py                  # seeds 0, 1, 2; runs/tiny_seeds/SEED, resumed where they stand
    python benchmarks/tiny_seeds.py --options=en=4   # with other options of configs/tiny.py

Prints a markdown table: for each split the figures before, after and their difference, per seed, and the mean with the
standard deviation over seeds.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
from pathlib import Path

FIGURES = {
    "clc_all": "CLC, all pairs",
    "clc_en": "CLC, pairs with English",
    "accuracy_en": "accuracy, English",
    "accuracy_non_en": "accuracy, others",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--options", default="", help="options of configs/tiny.py, comma separated")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny_seeds"))
    args = parser.parse_args()
    reports = []
    for seed in range(args.seeds):
        options = ",".join(filter(None, [f"seed={seed}", args.options]))
        workdir = args.out / str(seed)
        command = [sys.executable, "-m", "consistency_jax.train"]
        subprocess.run([*command, f"--config=configs/tiny.py:{options}", f"--workdir={workdir}"], check=True)
        reports.append(json.loads((workdir / "report.json").read_text(encoding="utf8")))
    print("\n".join(table(reports)))


def table(reports: list[dict]) -> list[str]:
    """The lines of the markdown table."""
    seeds = "".join(f" seed {seed} |" for seed in range(len(reports)))
    lines = [f"| split | figure |{seeds} mean change |", "|---|---|" + "---|" * (len(reports) + 1)]
    for split, first in reports[0]["base"].items():
        rows = [(name, (key,)) for key, name in FIGURES.items()]
        rows += [(f"accuracy, {language}", ("accuracy", language)) for language in first["accuracy"]]
        for name, path in rows:
            get = functools.partial(_at, path=(split, *path))
            cells, deltas = [], []
            for report in reports:
                low, high = get(report["confidence"])
                deltas.append(get(report["delta"]))
                before, after = get(report["base"]), get(report["final"])
                cells.append(f" {before:.1f} → {after:.1f} ({deltas[-1]:+.1f} [{low:+.1f}, {high:+.1f}]) |")
            spread = statistics.stdev(deltas) if len(deltas) > 1 else 0.0
            lines.append(
                f"| {split} | {name} |{''.join(cells)} {statistics.mean(deltas):+.1f} ± {spread:.1f} |"
            )
    return lines


def _at(part: dict, path: tuple[str, ...]) -> float | list[float]:
    return functools.reduce(lambda node, key: node[key], path, part)


if __name__ == "__main__":
    main()
