"""The papers' experiment on a real model: methods, the direction knob, unseen languages; a table each (docs/real.md).

    python benchmarks/real.py --model=gemma.gguf --data=FOLDER                 # all runs, 3 seeds for those of SEEDED
    python benchmarks/real.py --model=gemma.gguf --data=FOLDER --only=dco,sft --seeds=1
    python benchmarks/real.py --model=gemma.gguf --data=FOLDER --only=dco --options=steps=20,tested=40   # a try
    python benchmarks/real.py --model=gemma.gguf --data=FOLDER --labels-alone --options=trained=1600,tested=300

Each run is a `python -m consistency_jax.train --config=configs/real.py:...` in OUT/runs/NAME/SEED, half an hour to an
hour on 2 cores with a model of 270 M parameters; what has finished is not run again, what was stopped goes on. Writes
into OUT: real.md (the tables), compare.html and compare.json.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from methods import chosen, compared, run_all

from consistency_jax.config import get_config
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.splits import load_tests
from consistency_jax.report.comparison import markdown_comparison, terminal_comparison, write_comparison
from consistency_jax.runtime.files import write_text
from consistency_jax.training.stages import load_training

NAMES = ("sft", "sft_grouped", "dpo", "dpo_mlc", "calm", "dco", "dco_all", "pco_exact", "dpo_dco")
METHODS = {name: f"method={name}" for name in NAMES}
DIRECTION = {"dco en=0.25": "method=dco,en=0.25", "dco": METHODS["dco"], "dco en=4": "method=dco,en=4"}
UNSEEN = {"dco without he+fa+uk+ca": "method=dco,unseen=he+fa+uk+ca"}
ALL = {"dco in 17 languages": "method=dco,languages="}
SEEDED = ("sft", "dco", "dco_all")  # what three seeds are run of
TABLES = {
    "Methods": METHODS,
    "The weight of English": DIRECTION,
    "Unseen languages": UNSEEN,
    "All languages": ALL,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="GGUF file, Hugging Face folder or hub id")
    parser.add_argument("--data", required=True, help="folder of BMLAMA-17")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each on its share of the CPUs")
    parser.add_argument("--only", default="", help="names of runs, comma separated; all by default")
    parser.add_argument("--options", default="", help="further options of configs/real.py, for every run")
    parser.add_argument(
        "--labels-alone", action="store_true", help="print what labels tell without the question, and end"
    )
    parser.add_argument("--out", type=Path, help="runs/real/NAME OF THE MODEL by default")
    args = parser.parse_args()
    every = {name: own for runs in TABLES.values() for name, own in runs.items()}
    try:
        if args.labels_alone:
            given = [f"path={args.model}", f"data_path={args.data}", "method=dpo", args.options]
            print(f"ranked by labels alone: {labels_alone(','.join(filter(None, given))):.1f} % right")
            return
        wanted = chosen(every, args.only)
    except ConfigError as error:
        parser.error(str(error))
    out = args.out or Path("runs/real") / Path(args.model).stem
    workdirs: dict[str, list[Path]] = {name: [] for name in wanted}
    planned = []
    for seed in range(args.seeds):  # seed by seed, so that an early stop leaves whole comparisons
        for name, own in wanted.items():
            if seed and name not in SEEDED:
                continue
            workdirs[name].append(out / "runs" / name.replace(" ", "_") / str(seed))
            given = [f"path={args.model}", f"data_path={args.data}", own, f"seed={seed}", args.options]
            planned.append(("real", ",".join(filter(None, given)), workdirs[name][-1]))
    run_all(planned, args.jobs)

    text = []
    for title, runs in TABLES.items():
        if runs := {name: own for name, own in runs.items() if name in wanted}:
            result = compared(workdirs, runs)
            text += [f"{title}:", "", markdown_comparison(result)]
            print(title, terminal_comparison(result), sep="\n")
            if title == "Methods":
                write_comparison(out, result, command=f"python {' '.join(sys.argv)}")
    write_text(out / "real.md", "\n".join(text) + "\n")
    print(out / "real.md")


def labels_alone(options: str) -> float:
    """Accuracy, in percent, of candidates ranked by the share of the training questions of their relation that offered
    them in which they were the right one."""
    config = get_config("real", options)
    (items, _), (tests,) = load_training(config), load_tests(config).values()
    shown, right = Counter(), Counter()
    for item in items:
        names = [(item.group, name) for name in item.candidates["en"]]
        shown.update(names)
        right[names[item.gold]] += 1
    credit = []
    for item in tests:
        names = [(item.group, name) for name in item.candidates["en"]]
        shares = np.array([(right[name] + 0.1) / (shown[name] + 1) for name in names])
        first = shares == shares.max()
        credit.append(first[list(item.right)].sum() / first.sum())
    return 100 * float(np.mean(credit))


if __name__ == "__main__":
    main()
