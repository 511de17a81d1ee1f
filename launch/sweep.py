"""A grid of runs: the papers' models x data sets x methods x seeds, through any launcher, and one table of results.

    python launch/sweep.py --out=runs/paper --data bmlama17=FOLDER --launcher="launch/gpu.sh --"
    python launch/sweep.py --out=runs/paper --data bmlama17=FOLDER --launcher="sbatch launch/slurm.sbatch"
    python launch/sweep.py --out=gs://BUCKET/paper --data mmmlu=FOLDER --jobs=4 --launcher="launch/tpu.sh watch ... --"

A run is finished when its workdir has a report.json of its last step: such runs are skipped, so the same command goes
on after any stop.
The launcher stands in front of `python -m consistency_jax.train ...`; in it {name} is the run's name (letters,
digits, hyphens). --dry-run prints the commands, --table the results so far; neither runs anything. Exit status: 0 all
well, 1 where a command failed, 2 for a grid that cannot run.
"""

import argparse
import collections
import dataclasses
import hashlib
import importlib.util
import io
import itertools
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from consistency_jax.data.sources import SOURCES

ROOT = Path(__file__).resolve().parent.parent
# The nine models of the PCO/DCO paper (arXiv 2603.04678), as config file and size.
MODELS = (
    "qwen2_5:7b",
    "qwen2_5:14b",
    "qwen3:8b",
    "qwen3:14b",
    "gemma3:4b",
    "gemma3:12b",
    "llama3:3b",
    "llama3:8b",
    "aya:8b",
)
DATA = ("bmlama17", "mmmlu", "xcsqa")
METHODS = ("dco", "sft", "dpo")
# Column -> where it stands in a split of report.json.
FIGURES = {"CLC": "clc_all", "CLC with English": "clc_en", "accuracy, not English": "accuracy_non_en"}


@dataclasses.dataclass(frozen=True)
class Run:
    """One cell of the grid.

    Attributes:
      model: config file and size, "gemma3:4b"; data: source; path: of its files ("" where it needs none).
      method, seed: options of the config (consistency_jax/config/recipes.py).
      options: further options of the config, "lora=16,lr=1e-4".
      overrides: single keys of it, "optimizer.b2=0.99".
    """

    model: str
    data: str
    path: str
    method: str
    seed: int
    options: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the workdir, and of machines: lower-case letters, digits and hyphens. Options and folders, which may be
        long, are there by a hash, so that no other run is taken for this one."""
        folder, data = os.path.split(self.data) if self.data.startswith("/") else ("", self.data)
        words = [self.model, data, self.method, f"s{self.seed}"]
        if any(more := (folder, self.options, *self.overrides)):
            words.append(hashlib.sha256("\n".join(more).encode()).hexdigest()[:6])
        return "-".join(re.sub("[^a-z0-9]+", "-", word.lower()).strip("-") for word in words)

    @property
    def config(self) -> str:
        """What stands behind the colon of --config."""
        size = self.model.partition(":")[2]
        words = [f"size={size}", f"data={self.data}", f"method={self.method}", f"seed={self.seed}"]
        return ",".join(
            words + ([f"data_path={self.path}"] if self.path else []) + ([self.options] * bool(self.options))
        )

    def command(self, launcher: Sequence[str], workdir: str) -> list[str]:
        """The words of the command that makes this run."""
        file = f"configs/{self.model.partition(':')[0]}.py"
        train = [
            "python" if launcher else sys.executable,
            "-m",
            "consistency_jax.train",
            f"--config={file}:{self.config}",
            f"--workdir={workdir}",
            *(f"--config.{override}" for override in self.overrides),
        ]
        return [word.replace("{name}", self.name) for word in launcher] + train


def grid(args: argparse.Namespace) -> list[Run]:
    """The runs that the flags ask for, each of whose configs exists.

    Raises:
      ValueError: naming the run whose config cannot be, and why; or the name that several have.
    """
    data = [entry.partition("=")[::2] for entry in args.data]
    cells = itertools.product(args.models, data, args.methods, args.seeds)
    if any(override.partition("=")[0] == "seed" for override in args.override):
        raise ValueError("--override seed=... would make all seeds one: give --seeds")
    more = (args.options, tuple(args.override))
    runs = [Run(model, name, path, method, seed, *more) for model, (name, path), method, seed in cells]
    for run in runs:
        try:
            config_of(run)
        except (ValueError, OSError) as error:
            raise ValueError(f"{run.name}: {error}") from error
    (name, count), *_ = collections.Counter(run.name for run in runs).most_common(1)
    if count > 1:
        told = "give each a sweep of its own, with another --out"
        raise ValueError(f"{count} runs have the name {name}: {told}")
    return runs


def config_of(run: Run) -> ConfigDict:
    """What configs/FILE.py gives for a run."""
    file = run.model.partition(":")[0]
    path = ROOT / "configs" / f"{file}.py"
    spec = importlib.util.spec_from_file_location(f"config_{file}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(run.config)


def report_of(out: str, run: Run) -> dict | None:
    """What report.json of a run holds; None where it is not finished, or is of the base or an earlier step alone."""
    path = epath.Path(out) / run.name / "report.json"
    try:
        report = json.loads(path.read_text()) if path.exists() else None
        if report is None or ("final" not in report and report["base"]):
            return None
        if not report.get("settings", {}).get("finished", True):
            return None
        for split in report["final"]:
            sides(report, split)
        return report
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"error: {path} is damaged ({error}): delete it, and give this command again")


def spread(values: Sequence[float]) -> str:
    """Mean, and the standard deviation over the seeds where there is more than one."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.1f}"
    return f"{mean} ± {statistics.stdev(known):.1f}" if len(known) > 1 else mean


def table(runs: Iterable[Run], out: str) -> str:
    """A Markdown table: a row for each model, data set, split and method; means over the seeds that are finished."""
    rows: dict[tuple[str, ...], list[dict]] = {}
    for run in runs:
        report = report_of(out, run)
        for split in report["final"] if report else ():
            rows.setdefault((run.model, run.data, split, run.method), []).append(sides(report, split))
    names = [*FIGURES, "accuracy, English"]
    head = [
        "model",
        "data",
        "split",
        "method",
        "seeds",
        *(f"{name}: before, after, change" for name in names),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key, seeds in rows.items():
        cells = []
        for name in names:
            before, after, change = (
                [seed[side][name] for seed in seeds] for side in ("base", "final", "delta")
            )
            cells.append(f"{spread(before)}, {spread(after)}, {spread(change)}")
        lines.append("| " + " | ".join([*key, str(len(seeds)), *cells]) + " |")
    return "\n".join(lines)


def sides(report: dict, split: str) -> dict[str, dict[str, float | None]]:
    """The columns' figures of a split before, after, and their change."""
    return {side: figures(report[side][split]) for side in ("base", "final", "delta")}


def figures(split: dict) -> dict[str, float | None]:
    """The columns' figures of one side of one split."""
    return {name: split[key] for name, key in FIGURES.items()} | {
        "accuracy, English": split["accuracy"].get("en")
    }


def launch(run: Run, command: list[str]) -> int:
    """Runs one command to its end and says how it ended."""
    print(f"+ {shlex.join(command)}", flush=True)
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status:
        print(f"{run.name}: ended with status {status}", file=sys.stderr, flush=True)
    return status


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="folder of the runs' workdirs; local or gs://")
    parser.add_argument(
        "--models", nargs="+", default=MODELS, metavar="FILE:SIZE", help="default: the paper's nine"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=DATA,
        metavar="NAME[=PATH]",
        help=f"default: {' '.join(DATA)}, of which each needs its path",
    )
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"default: {' '.join(METHODS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="default: 0 1 2")
    parser.add_argument("--options", default="", help="further options of every config, like lora=16,lr=1e-4")
    parser.add_argument(
        "--override", nargs="+", default=(), metavar="KEY=VALUE", help="--config.KEY=VALUE of every run"
    )
    parser.add_argument(
        "--launcher", default="", help="what stands in front of the train command; {name} is the run's"
    )
    parser.add_argument("--jobs", type=_count, default=1, help="commands at a time (1)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run none")
    parser.add_argument("--table", action="store_true", help="print the results so far, run nothing")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} should be 1 or more")
    return int(text)


def _here(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else path


def _found(entry: str) -> str:
    """NAME=PATH, or a file alone, with a path that is there made absolute."""
    name, separator, path = entry.partition("=")
    if not separator and name not in SOURCES and Path(name).exists():
        return _here(name)
    return f"{name}={_here(path)}" if path and Path(path).exists() else entry


def main(argv: Sequence[str] | None = None) -> int:
    args = flags().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot write must not end a sweep
        sys.stdout.reconfigure(errors="replace")
    if Path.cwd() != ROOT:  # the commands run in the checkout
        args.data = [_found(entry) for entry in args.data]
    try:
        runs = grid(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if "://" not in args.out:
        args.out = str(Path(args.out).expanduser())
        if Path.cwd() != ROOT:
            args.out = _here(args.out)
    if args.table:
        print(table(runs, args.out))
        return 0
    sources = {run.data for run in runs if not run.path and config_of(run).data.source in DATA}
    if sources:
        told = " ".join(f"{name}=FOLDER" for name in sorted(sources))
        print(f"error: --data {told}: they are read from files (docs/data.md)", file=sys.stderr)
        return 2
    todo = [run for run in runs if report_of(args.out, run) is None]
    print(f"{len(runs)} runs: {len(runs) - len(todo)} finished, {len(todo)} to do", flush=True)
    words = shlex.split(args.launcher)
    if words and not shutil.which(str(ROOT / words[0]) if "/" in words[0] else words[0]):
        print(f"error: --launcher={args.launcher}: there is no command {words[0]}", file=sys.stderr)
        return 2
    commands = [run.command(words, f"{args.out.rstrip('/')}/{run.name}") for run in todo]
    if args.dry_run:
        for command in commands:
            print(f"+ {shlex.join(command)}")
        return 0
    with ThreadPoolExecutor(max_workers=args.jobs) as pool:
        statuses = list(pool.map(launch, todo, commands))
    results = table(runs, args.out)
    folder = epath.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(results + "\n")
    print(results)
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main())
