"""Learning rates of the embedded world's methods, compared on its validation split.

    python benchmarks/tune.py                 # every method of RATES, seed 0
    python benchmarks/tune.py --only=dpo,calm --jobs=8

Runs configs/tiny.py:method=NAME,lr=X into runs/tune and prints what each reaches at its last step on questions that
neither training nor the reports' test splits hold; what is finished is not run again. The rates that METHODS in
configs/tiny.py has were chosen from this table: the highest consistency among those that keep English within 3
points, or the one that keeps most of it.
"""

import argparse
import json
from pathlib import Path

from methods import run_all

RATES = {
    "sft": (5e-5, 1e-4, 2e-4, 4e-4),
    "dpo": (2e-5, 5e-5, 1e-4, 2e-4),
    "calm": (5e-6, 2e-5, 5e-5, 1e-4),
    "pco_exact": (2e-4, 4e-4, 8e-4),
    "pco_rollout": (1e-4, 2e-4, 4e-4),
    "dco": (2e-4, 4e-4),
    "dco_random": (1e-4, 2e-4, 4e-4),
    "simpo": (2e-5, 5e-5, 1e-4),
    "orpo": (5e-5, 1e-4, 2e-4),
    "mpo": (2e-5, 5e-5, 1e-4, 2e-4),
    "cm_align": (5e-6, 2e-5, 5e-5),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="methods, comma separated; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each on its share of the CPUs")
    parser.add_argument("--options", default="", help="further options of configs/tiny.py, for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/tune"))
    args = parser.parse_args()
    methods = [name for name in args.only.split(",") if name] or list(RATES)
    planned = {
        (method, rate): args.out / method / f"{rate:g}" for method in methods for rate in RATES[method]
    }
    options = f",{args.options}" if args.options else ""
    run_all(
        [("tiny", f"method={m},lr={r}{options}", workdir) for (m, r), workdir in planned.items()], args.jobs
    )
    print("| method | learning rate | CLC | English | others |\n|---|---|---|---|---|")
    for (method, rate), workdir in planned.items():
        lines = (workdir / "metrics.jsonl").read_text("utf8").splitlines()
        last = [line for line in map(json.loads, lines) if "validation/clc_all" in line][-1]
        figures = [last[f"validation/{name}"] for name in ("clc_all", "accuracy_en", "accuracy_non_en")]
        print(f"| {method} | {rate:g} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
