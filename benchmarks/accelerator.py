"""One accelerator at real sizes: train step, scorer, sampler and attention, ours and torch's, in one run.

    python benchmarks/accelerator.py                                  # everything, a process an entry (10 minutes)
    python benchmarks/accelerator.py --parts=train --models=meta-llama/Llama-3.2-3B
    python benchmarks/accelerator.py --out=records.jsonl --table      # the tables of records made before

Weights are random, shapes those of published models (or of a folder's config.json). Prompts and answers are random
tokens of MMLU-like or BMLAMA-like lengths, the same for both sides. Weights, moments and products are bfloat16.

    train      DCO on 2 languages x 2 drawn candidates of some items, AdamW, clipping, reference precomputed. torch: the
               published pattern, four padded sequences an item, fused AdamW, logits of every position
    score      all candidates of prompts. torch: every prompt + candidate is a sequence of its own, sorted by length
    sample     64 prompts x 8 answers of 128 tokens. torch: `generate` with a static prompt repeated 8 times
    attention  one layer, forward and backward, each backend on rows of token trees

Seconds are medians after warm-up and compilation; MFU counts useful FLOPs (padding of rows included, remat's recompute
not) over the data-sheet's dense bfloat16 rate; memory is the device's peak. Prints Markdown tables.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from consistency_jax.runtime.chips import GPU_FLOPS

TRAINED = ("meta-llama/Llama-3.2-3B", "google/gemma-3-4b-pt", "Qwen/Qwen2.5-7B")
SCORED = ("meta-llama/Llama-3.2-3B", "google/gemma-3-4b-pt")
SAMPLED = ("meta-llama/Llama-3.2-1B",)
LENGTHS = {"mmlu": (115.0, 11.0, 4), "bmlama": (10.0, 7.0, 10)}  # mean tokens: prompt, answer; candidates
STEPS, WARMUP, LANGUAGES = 8, 3, ("en", "fr")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="attention,train,score,sample", help="comma separated")
    parser.add_argument("--models", default="", help="comma separated; each part's own by default")
    parser.add_argument("--who", default="ours,torch")
    parser.add_argument("--items", default="4,32", help="of a train step")
    parser.add_argument("--prompts", type=int, default=512, help="to score")
    parser.add_argument("--out", type=Path, default=Path("runs/accelerator.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print the tables of --out")
    parser.add_argument("--entry", help=argparse.SUPPRESS)  # one entry, in this process
    args = parser.parse_args()
    if args.entry:
        print("RECORD " + json.dumps(run_entry(**json.loads(args.entry))), flush=True)
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not args.table:
        for entry in entries(args):
            record = in_process(entry)
            print(json.dumps(record), flush=True)
            with args.out.open("a", encoding="utf8") as out:
                out.write(json.dumps(record) + "\n")
    print(tables([json.loads(line) for line in args.out.read_text("utf8").splitlines()]))


def entries(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What to run, in this order."""
    parts, who = args.parts.split(","), args.who.split(",")
    named = tuple(filter(None, args.models.split(",")))
    found: list[dict[str, Any]] = [{"part": "attention", "who": "ours"}] if "attention" in parts else []
    for part, models in (("train", TRAINED), ("score", SCORED), ("sample", SAMPLED)):
        for model in (named or models) if part in parts else ():
            own = {"part": part, "model": model}
            if part == "train":
                found += [own | {"who": w, "items": int(n)} for n in args.items.split(",") for w in who]
            elif part == "score":
                found += [
                    own | {"who": w, "data": data, "prompts": args.prompts} for data in LENGTHS for w in who
                ]
            else:
                found += [own | {"who": w} for w in who]
    return found


def in_process(entry: dict[str, Any]) -> dict[str, Any]:
    """The record of an entry, run in a process of its own; what went wrong where it failed."""
    command = [sys.executable, __file__, f"--entry={json.dumps(entry)}"]
    done = subprocess.run(command, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("RECORD "):
            return entry | json.loads(line.removeprefix("RECORD "))
    said = [line for line in done.stderr.splitlines() if line.strip()]
    memory = any(word in done.stderr for word in ("out of memory", "RESOURCE_EXHAUSTED", "Out of memory"))
    return entry | {"failed": "out of memory" if memory else " | ".join(said[-3:])}


def run_entry(part: str, who: str, **settings: Any) -> dict[str, Any]:
    """An entry's record, of its side's function."""
    return getattr(importlib.import_module(f"accelerator_{who}"), part)(**settings)


# ----------------------------------------------------------------------------------------------------------- questions
def questions(data: str, prompts: int, vocabulary: int) -> list[tuple[list[int], list[list[int]]]]:
    """(prompt, answers) as random tokens, lengths lognormal around the data's means."""
    import numpy as np

    rng = np.random.default_rng(0)
    prompt_mean, answer_mean, candidates = LENGTHS[data]

    def lengths(mean: float, sigma: float, longest: int, size: Any) -> np.ndarray:
        drawn = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, size)
        return np.clip(np.round(drawn), 2, longest).astype(int)

    found = []
    for length in lengths(prompt_mean, 0.45, 480, prompts):
        answers = lengths(answer_mean, 0.4, 40, candidates)
        found.append(
            (
                rng.integers(3, vocabulary, length).tolist(),
                [rng.integers(3, vocabulary, n).tolist() for n in answers],
            )
        )
    return found


def summary(seconds: list[float], **more: Any) -> dict[str, Any]:
    return {"seconds": statistics.median(seconds), "fastest": min(seconds), **more}


# -------------------------------------------------------------------------------------------------------------- tables
def tables(records: list[dict[str, Any]]) -> str:
    """Markdown, a table a part; the last record of an entry counts."""
    latest = {}
    for record in records:
        key = [record.get(name) for name in ("part", "model", "data", "items", "who")]
        latest[json.dumps(key)] = record
    done = list(latest.values())
    lines = []
    for record in (r for r in done if r["part"] == "attention" and "lines" in r):
        lines += [
            f"{record['device']}; a product of 8192 x 8192 bfloat16 matrices runs at "
            f"{record['matmul_tflops']:.0f} TFLOP/s",
            "",
            "| heads, kv heads, head size | row tokens | rows | xla, ms | cudnn, ms | relative difference |",
            "|---|---|---|---|---|---|",
            *(
                f"| {line['heads']} | {line['length']} | {line['rows']} | {cell(line.get('xla'))} "
                f"| {cell(line.get('cudnn'))} | {line.get('difference', float('nan')):.1e} |"
                for line in record["lines"]
            ),
            "",
        ]
    heads = {"train": "step, s", "score": "pass, s", "sample": "call, s"}
    rates = {"train": "items/s", "score": "prompts/s", "sample": "tokens/s"}
    for part in heads:
        own = [r for r in done if r["part"] == part]
        if own:
            lines += [
                f"| model | {'items' if part == 'train' else 'data'} | who | {heads[part]} | {rates[part]} | MFU, % "
                "| peak memory, GiB | times faster |",
                "|---|---|---|---|---|---|---|---|",
                *(row(record, own) for record in own),
                "",
            ]
    return "\n".join(lines)


def row(record: dict[str, Any], all_of_part: list[dict[str, Any]]) -> str:
    what = f"| {record['model']} | {record.get('items', record.get('data', ''))} | {record['who']} "
    if "failed" in record:
        return what + f"| {record['failed']} | | | | |"
    other = [
        r
        for r in all_of_part
        if r["who"] == "torch" != record["who"]
        and all(r.get(k) == record.get(k) for k in ("model", "data", "items"))
    ]
    gain = f"{other[0]['seconds'] / record['seconds']:.1f}" if other and "seconds" in other[0] else ""
    peak = next((rate for name, rate in GPU_FLOPS.items() if name in record["device"]), None)
    mfu = f"{100 * record['tflops'] * 1e12 / peak:.0f}" if peak and "tflops" in record else ""
    return (
        what
        + f"| {record['seconds']:.3f} | {record['items_per_s']:.0f} | {mfu} | {record['peak_gib']:.1f} | {gain} |"
    )


def cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value or "")


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    main()
