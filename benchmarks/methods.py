"""Methods against each other on the embedded world, sharing one base model a seed: one table and one picture.

    python benchmarks/methods.py                        # `make compare`: 1 seed, under 30 minutes on 2 cores
    python benchmarks/methods.py --set=full --seeds=3   # `make compare-full`
    python benchmarks/methods.py --set=full --seeds=3 --jobs=8   # on a machine of many cores: 8 runs at once
    python benchmarks/methods.py --options=steps=2,pretrain=4,items=4   # a try in a few minutes

Each run is a `python -m consistency_jax.train --config=configs/tiny.py:...` in runs/methods/runs/NAME/SEED; what has
finished is not run again, what was stopped goes on. Writes into runs/methods/SET: methods.md (the tables), methods.svg
(the picture), compare.html and compare.json; the full set also direction.svg (DCO with English weighted 0.25 ... 4).
"""

import argparse
import os
import queue
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from consistency_jax.compare import compare
from consistency_jax.config import get_config
from consistency_jax.config.parsing import to_json
from consistency_jax.errors import ConfigError
from consistency_jax.report.charts import verdict
from consistency_jax.report.comparison import (
    markdown_comparison,
    picture,
    terminal_comparison,
    write_comparison,
)
from consistency_jax.report.plots import Mark, trend
from consistency_jax.runtime.files import write_text
from consistency_jax.training.workdir import read_config

ROOT = Path(__file__).resolve().parent.parent
UNSEEN = "zh+hi"
RELATION = "city_country"
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)

# Name of a run -> its options of configs/tiny.py.
METHODS = ("sft", "dpo", "calm", "pco_exact", "dco_random", "dco", "dpo_dco")
MORE = ("dpo_grouped", "dpo_mlc", "orpo", "orpo_grouped", "simpo", "mpo", "cm_align", "pco_rollout")
COMPARE = {name: f"method={name}" for name in METHODS}
FULL = COMPARE | {name: f"method={name}" for name in MORE}
UNSEEN_RUN = {f"dco without {UNSEEN}": f"method=dco,unseen={UNSEEN}"}
RELATION_RUN = {f"dco on {RELATION}": f"method=dco,relation={RELATION}"}
DIRECTION = {f"dco en={weight:g}": f"method=dco,en={weight:g}" for weight in WEIGHTS}
SETS = {"compare": COMPARE, "full": FULL}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=tuple(SETS), default="compare")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each on its share of the CPUs")
    parser.add_argument("--only", default="", help="names of the set's runs, comma separated; all by default")
    parser.add_argument("--without", default="", help="names of the set's runs to leave out, comma separated")
    parser.add_argument("--options", default="", help="further options of configs/tiny.py, for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    args = parser.parse_args()
    try:
        left_out = chosen(SETS[args.set], args.without) if args.without else {}
        runs = {n: own for n, own in chosen(SETS[args.set], args.only).items() if n not in left_out}
    except ConfigError as error:
        parser.error(str(error))
    full = args.set == "full" and not args.only and "dco" in runs  # which further tables are held against
    every = runs | (UNSEEN_RUN | RELATION_RUN | DIRECTION if full else {})
    workdirs: dict[str, list[Path]] = {name: [] for name in every}
    planned = []
    for seed in range(args.seeds):  # seed by seed, so that an early stop leaves whole comparisons
        for name, own in every.items():
            workdir = args.out / "runs" / name.replace(" ", "_") / str(seed)
            planned.append(("tiny", ",".join(filter(None, [own, f"seed={seed}", args.options])), workdir))
            workdirs[name].append(workdir)
    run_all(planned, args.jobs)

    folder = args.out / args.set
    main_runs = runs | (UNSEEN_RUN if full else {})
    result = compared(workdirs, main_runs)
    write_comparison(folder, result, command=f"python {' '.join(sys.argv)}")
    write_text(folder / "methods.svg", picture(result, "test"))
    text = [markdown_comparison(result)]
    if full:
        text += ["Languages that one run did not see (`test`):", "", *unseen_table(result)]
        text += ["", "Trained on one relation, tested on the others:", ""]
        text += [markdown_comparison(compared(workdirs, RELATION_RUN))]
        direction = compared(workdirs, DIRECTION)
        text += ["The weight of English in DCO:", "", markdown_comparison(direction)]
        write_text(folder / "direction.svg", direction_picture(direction))
    write_text(folder / "methods.md", "\n".join(text) + "\n")
    print(terminal_comparison(result))
    print(f"{folder / 'methods.md'}, {folder / 'methods.svg'}, {folder / 'compare.html'}")


def chosen(runs: dict[str, str], only: str) -> dict[str, str]:
    """The runs named in `only`, all for an empty one."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in runs:
            raise ConfigError(f"--only={name}: choose from {', '.join(runs)}")
    return {name: runs[name] for name in names or runs}


def run_all(planned: Sequence[tuple[str, str, Path]], jobs: int) -> None:
    """`run` for each (config, options, workdir), so many at once; what several print goes into log.txt of their
    workdirs."""
    if jobs <= 1:
        for plan in planned:
            run(*plan)
        return
    cpus = sorted(os.sched_getaffinity(0))
    shares: queue.Queue[list[int]] = queue.Queue()
    for number in range(jobs):
        shares.put(cpus[number::jobs] or cpus)

    def one(config: str, options: str, workdir: Path) -> None:
        share = shares.get()
        try:
            run(config, options, workdir, share)
        finally:
            shares.put(share)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, *plan) for plan in planned]
    for future in futures:
        future.result()


def run(config: str, options: str, workdir: Path, cpus: Sequence[int] = ()) -> None:
    """Trains a config with these options, unless the workdir holds the report of exactly that.

    Args:
      config: the name of a file of configs/.
      cpus: to run on, quietly; empty: all.
    """
    if (workdir / "report.json").exists() and to_json(read_config(workdir)) == to_json(
        get_config(config, options)
    ):
        print(f"{workdir}: finished already")
        return
    print(f"{workdir}: {options}", flush=True)
    command = [
        sys.executable,
        "-m",
        "consistency_jax.train",
        f"--config={ROOT / 'configs' / config}.py:{options}",
    ]
    command.append(f"--workdir={workdir}")
    if not cpus:
        status, said = subprocess.run(command).returncode, "what it said stands above"
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        with (log := workdir / "log.txt").open("w") as out:
            pinned = ["taskset", "--cpu-list", ",".join(map(str, cpus)), *command]
            status, said = subprocess.run(pinned, stdout=out, stderr=out).returncode, f"see {log}"
    if status:
        sys.exit(f"{shlex.join(command)}\nended with exit status {status}; {said}")


def compared(workdirs: dict[str, list[Path]], runs: dict[str, str]) -> dict[str, Any]:
    """`compare` of these runs with all their seeds."""
    names = {str(workdir): name for name in runs for workdir in workdirs[name]}
    return compare(list(names), names=names)


def unseen_table(result: dict[str, Any]) -> list[str]:
    """Markdown: accuracy in the unseen languages, for the base model, DCO with them and without."""
    languages = UNSEEN.split("+")
    lines = [f"| method | {' | '.join(languages)} |", "|---|" + "---|" * len(languages)]
    rows = result["splits"]["test"]
    for name in ("base", "dco", *UNSEEN_RUN):
        cells = []
        for language in languages:
            key = f"accuracy/{language}"
            figure, change = rows[name]["figures"][key], rows[name]["against_base"][key]
            bounds = f" ({change['mean']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}])"
            cells.append(f"{figure['mean']:.1f}{'' if name == 'base' else bounds}".replace("-", "−"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def direction_picture(result: dict[str, Any]) -> str:
    """What the weight of English does: English answers changed, and the gain of low-resource languages."""
    rows = [result["splits"]["test"][name] for name in DIRECTION]
    panels = [
        ("changed_en", "English answers changed, %"),
        ("accuracy_en", "English accuracy, points"),
        ("accuracy_low", "Low-resource accuracy, points"),
    ]
    lines = [(title, marks([row["against_base"][key] for row in rows])) for key, title in panels]
    return trend("DCO: the weight of English", "weight of English, others 1", WEIGHTS, lines)


def marks(changes: Sequence[dict[str, float]]) -> list[Mark]:
    return [
        Mark(
            change["mean"],
            change["low"],
            change["high"],
            verdict(change["mean"], (change["low"], change["high"])),
        )
        for change in changes
    ]


if __name__ == "__main__":
    main()
