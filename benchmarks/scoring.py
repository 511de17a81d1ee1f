"""What scoring gains from trees, and how fast trees are made. Prints JSON lines.

    python benchmarks/scoring.py --build=TOKENIZER_FOLDER          # load, tokenize and pack BMLAMA-17: trees a second;
                                                                   # beside it, keeping the trees, and finding them
    python benchmarks/scoring.py --model=FOLDER --items=40         # score a sample of it: trees, one sequence per
                                                                   # candidate, and the same in torch
    python benchmarks/scoring.py --harness=FOLDER --items=40       # lm-evaluation-harness: our backend and its own

Seconds are given by the clock and as CPU time (user + system of all threads), which other processes on the machine
disturb less, each the least of some passes. Only ratios of one run mean anything. One sequence per candidate, ours: the
same cells, each candidate with its prompt in a row of its own, rows of like length together. torch: the same sequences,
sorted by length, logits of the whole batch. BMLAMA-17 lies at $CONSISTENCY_DATA/bmlama17.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 3  # passes of each that are timed
MASK_COST = 1 / 1400  # of a model of 58 million parameters, where trees are built for none

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", metavar="FOLDER", help="time the making of trees with this tokenizer")
    parser.add_argument("--model", metavar="FOLDER", help="time scoring with this checkpoint")
    parser.add_argument("--harness", metavar="FOLDER", help="time lm-evaluation-harness with this checkpoint")
    parser.add_argument("--items", type=int, default=0, help="evenly spaced; 0: all")
    parser.add_argument("--languages", default="", help="joined by commas; empty: all")
    parser.add_argument("--tokens", type=int, default=4096, help="fed at once")
    parser.add_argument("--torch-threads", default="1", help="joined by commas; empty: no torch")
    args = parser.parse_args()
    if args.build:
        os.environ["RAYON_NUM_THREADS"] = "1"  # of the tokenizers library: figures are a core's
    items, loading = load_questions(args.languages, args.items)
    if args.build:
        build(Path(args.build), items, loading)
    if args.model:
        score(Path(args.model), items, args.tokens, [int(n) for n in args.torch_threads.split(",") if n])
    if args.harness:
        harness(args.harness, items)


def load_questions(languages: str, count: int) -> tuple[Any, dict[str, float]]:
    """The items, and the seconds that reading took, as a share of all that were read."""
    from consistency_jax.data.sources import load_items
    from consistency_jax.evaluation.splits import evenly

    folder = Path(os.environ.get("CONSISTENCY_DATA", ROOT.parent / "shared" / "data")) / "bmlama17"
    names = languages.split(",") if languages else None
    items, loading = timed(lambda: load_items("bmlama17", path=folder, languages=names))
    taken = evenly(items, count)
    return taken, {name: value * len(taken) / len(items) for name, value in loading.items()}


def now() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def since(start: tuple[float, float]) -> dict[str, float]:
    wall, cpu = now()
    return {"wall_s": round(wall - start[0], 3), "cpu_s": round(cpu - start[1], 3)}


def timed(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    start = now()
    value = function()
    return value, since(start)


def each(steps: dict[str, dict[str, float]], count: int) -> dict[str, float]:
    """Microseconds of CPU time that a step takes for one of so many."""
    return {name: round(1e6 * step["cpu_s"] / count, 1) for name, step in steps.items()}


def build(folder: Path, items: Any, loading: dict[str, float]) -> None:
    """Seconds of each step between the files and packed rows, and trees a second of one core over all of them."""
    from consistency_jax.data.packing.plan import batch_plan
    from consistency_jax.data.packing.rows import pack, tree_sizes
    from consistency_jax.data.trees.builder import TreeBuilder, cached_trees
    from consistency_jax.models.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(folder)
    for boundary in ("separate", "joint"):
        builder = TreeBuilder(tokenizer, boundary=boundary)
        builder.build(items[:2])  # what a tokenizer is asked once
        forest, tokenizing = timed(lambda builder=builder: builder.build(items))
        prompt = boundary == "joint"
        batches, planning = timed(
            lambda forest=forest, prompt=prompt: batch_plan(
                tree_sizes(forest, prompt=prompt), mask_cost=MASK_COST
            )
        )

        def pack_all(forest: Any = forest, prompt: bool = prompt, batches: Any = batches) -> None:
            widest = int(forest.segments.max()) - 1
            for batch in batches:
                pack(forest.take(batch.padded), batch.shape, candidates=widest, prompt=prompt)

        _, packing = timed(pack_all)
        steps = {"load": loading, "tokenize": tokenizing, "plan": planning, "pack": packing}
        total = sum(step["cpu_s"] for step in steps.values())
        with tempfile.TemporaryDirectory() as os.environ["CONSISTENCY_CACHE"]:
            # What remains of a first call is its key and file.
            builder.build = lambda *_, forest=forest: forest
            kept = {
                name: timed(lambda builder=builder: cached_trees(builder, items, items.languages))[1]
                for name in ("keep", "find")
            }
        print(
            json.dumps(
                {
                    "tokenizer": folder.name,
                    "boundary": boundary,
                    "languages": len(items.languages),
                    "trees": len(forest),
                    "tokens": len(forest.token),
                    "cpu_us_a_tree": each(steps, len(forest)),
                    "cached_trees_cpu_us_a_tree": each(kept, len(forest)),
                    "trees_per_cpu_second": round(len(forest) / total),
                    "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
                }
            ),
            flush=True,
        )


def score(folder: Path, items: Any, tokens: int, torch_threads: Sequence[int]) -> None:
    """Items a second of scoring every candidate, as trees and one by one; everything compiled before."""
    from consistency_jax.data.trees.builder import TreeBuilder
    from consistency_jax.models.huggingface import load_pretrained
    from consistency_jax.runtime.mesh import mesh_of
    from consistency_jax.scoring.scorer import Scorer

    model = load_pretrained(folder)
    forest = TreeBuilder(model.tokenizer, boundary="joint").build(items)
    scorer = Scorer(model.config, mesh_of(model.params))
    widest = int(forest.segments.max()) - 1
    sequences = [s for tree in forest if tree is not None for s in alone(tree)]

    def trees() -> np.ndarray:
        return scorer(model.params, forest, candidates=widest, prompt=True, tokens=tokens)["logp"]

    def one_by_one() -> np.ndarray:
        return each_in_a_row(scorer, model.params, sequences, tokens)

    runs = {"trees": trees, "one sequence per candidate": one_by_one}
    for threads in torch_threads:
        name = f"one sequence per candidate, torch, threads={threads}"
        runs[name] = in_torch(folder, sequences, tokens, threads)
    found: dict[str, Any] = {}
    values = {}
    for name, run in runs.items():
        values[name] = run()  # compiles
    for _ in range(REPEATS):  # in turn, so that what else the machine does falls on all of them
        for name, run in runs.items():
            _, spent = timed(run)
            best = found.setdefault(name, spent)
            found[name] = {unit: min(best[unit], spent[unit]) for unit in spent}
    for own in found.values():
        own["items_per_s"] = round(len(items) / own["wall_s"], 2)
    there = np.arange(widest) < (forest.segments[:, None] - 1)
    for name in list(runs)[1:]:
        worst = np.abs(values["trees"][there] - values[name]).max()
        found[name] |= {
            "trees_faster_by_clock": round(found[name]["wall_s"] / found["trees"]["wall_s"], 2),
            "trees_faster_by_cpu": round(found[name]["cpu_s"] / found["trees"]["cpu_s"], 2),
            "largest_difference": float(worst),
        }
    about = {"pairs_a_tree": pairs_a_tree(model.config, forest, tokens)}
    about |= {"model": folder.name, "items": len(items), "languages": len(items.languages)}
    tokens_of = {"in_trees": len(forest.token), "in_sequences": sum(len(s[0]) for s in sequences)}
    print(json.dumps(about | {"load_average": os.getloadavg()[0]} | tokens_of | found), flush=True)


def pairs_a_tree(config: Any, forest: Any, tokens: int) -> dict[str, int]:
    """Pairs of a query and a key that attention computes, by a dense mask and as the scorer's blocks."""
    from consistency_jax.data.packing.attention_blocks import choose_sizes
    from consistency_jax.data.packing.plan import batch_plan
    from consistency_jax.data.packing.rows import tree_sizes
    from consistency_jax.models.flops import mask_cost

    batches = batch_plan(tree_sizes(forest, prompt=True), tokens=tokens, mask_cost=mask_cost(config))
    pairs = {"dense": 0, "blocks": 0}
    for shape in {batch.shape for batch in batches}:
        parts = [batch.trees for batch in batches if batch.shape == shape]
        sizes = choose_sizes(forest, parts, shape)
        dense = shape.rows * shape.length**2
        cut = sizes.queries * sum(count * keys for count, keys in sizes.widths) if sizes else dense
        pairs["dense"] += dense * len(parts)
        pairs["blocks"] += cut * len(parts)
    return {name: round(count / len(forest)) for name, count in pairs.items()}


def alone(tree: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """(tokens, whether each belongs to the answer) of every candidate with its prompt."""
    return [
        (
            np.concatenate([tree.trunk, branch]),
            np.concatenate([tree.trunk_kind, kind]) == 2,
        )
        for branch, kind in zip(tree.branches, tree.branch_kinds)
    ]


def batches_by_length(sequences: Sequence[tuple], tokens: int) -> list[list[int]]:
    """Sequences of like length together, about so many tokens a batch."""
    order = sorted(range(len(sequences)), key=lambda n: -len(sequences[n][0]))
    batches, at = [], 0
    while at < len(order):
        size = max(tokens // len(sequences[order[at]][0]), 1)
        batches.append(order[at : at + size])
        at += size
    return batches


def each_in_a_row(scorer: Any, params: Any, sequences: Sequence[tuple], tokens: int) -> np.ndarray:
    """f32[sequences]: our own scorer's programs, without sharing: a row holds one sequence."""
    import jax

    from consistency_jax.data.packing.rows import Shape, pack, tree_sizes
    from consistency_jax.data.trees.forest import Forest, Tree
    from consistency_jax.runtime.mesh import make_mesh, on_mesh

    logp = np.zeros(len(sequences), np.float32)
    for numbers in batches_by_length(sequences, tokens):
        trees = []
        for n in numbers:
            ids, answer = sequences[n]
            first = int(answer.argmax())
            kinds = np.where(answer, 2, 1).astype(np.uint8)
            kinds[0] = 0
            trees.append(
                Tree(ids[:first], (ids[first:],), kinds[:first], (kinds[first:],), np.zeros(1, np.int32))
            )
        forest = Forest.of(trees)
        sizes = tree_sizes(forest, prompt=True)
        length = -(-int(sizes[:, 0].max()) // 16) * 16
        rows = max(tokens // length, 1)
        for start in range(0, len(trees), rows):
            shape, own = Shape(1, length, length, length), numbers[start : start + rows]
            places = [np.array([start + n if n < len(own) else -1]) for n in range(rows)]
            batch = stacked([pack(forest.take(n), shape, candidates=1, prompt=True) for n in places], length)
            with on_mesh(make_mesh((1, 1, 1), jax.devices()[:1])):
                out = scorer.run(params, batch, candidates=1, prompt=True)["logp"]
            logp[own] = np.asarray(out)[: len(own), 0]
    return logp


def stacked(parts: Sequence[Any], length: int) -> Any:
    """Batches of one row and one tree each as one batch with as many."""
    cells = 4  # of a tree: answer and prompt, trunk and branch
    fields = {}
    for name in parts[0]._fields:
        if name == "blocks":
            continue
        own = [getattr(part, name) for part in parts]
        if name == "target_slot":
            end = len(parts) * cells
            own = [np.where(v < cells, v + i * cells, end) for i, v in enumerate(own)]
        if name in ("sources", "prompt_end"):
            own = [v + i * length for i, v in enumerate(own)]
        if name == "target_source":
            own = [v + i * length for i, v in enumerate(own)]
        fields[name] = np.concatenate(own).astype(np.int32)
    for name in ("sources", "target_source", "target_token", "target_slot"):
        fields[name] = fields[name].reshape(1, -1)
    return type(parts[0])(**fields)


def torch_model(path: Path) -> Any:
    """A checkpoint folder or a GGUF file in transformers, float32."""
    import torch
    import transformers

    found = {"gguf_file": path.name} if path.is_file() else {}
    folder = path.parent if path.is_file() else path
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **found)


def in_torch(folder: Path, sequences: Sequence[tuple], tokens: int, threads: int) -> Callable[[], np.ndarray]:
    """The usual way with transformers: padded batches, logits of all tokens, one gather."""
    import torch

    model = torch_model(folder).eval()

    def run() -> np.ndarray:
        torch.set_num_threads(threads)  # more do not always help: these models are small
        logp = np.zeros(len(sequences), np.float32)
        for numbers in batches_by_length(sequences, tokens):
            longest = len(sequences[numbers[0]][0])
            ids, mask, answer = np.zeros((3, len(numbers), longest), np.int64)
            for row, n in enumerate(numbers):
                own, kinds = sequences[n]
                ids[row, : len(own)], mask[row, : len(own)], answer[row, : len(own)] = own, 1, kinds
            with torch.no_grad():
                logits = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits
                found = torch.log_softmax(logits[:, :-1].float(), -1)
                found = found.gather(2, torch.tensor(ids)[:, 1:, None])[..., 0]
                logp[numbers] = (found * torch.tensor(answer)[:, 1:]).sum(1).numpy()
        return logp

    return run


def harness(folder: str, items: Any) -> None:
    """The same requests through lm-evaluation-harness, to our backend and to its own."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from consistency_jax.harness import HarnessModel

    pairs = [
        (prompt.partition("<mask>")[0].rstrip() or "It is said that", f" {candidate.strip()}")
        for item in items
        for language, prompt in item.prompts.items()
        for candidate in item.candidates[language]
    ]
    requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    models = {
        "ours": HarnessModel(path=folder, tokens=2048),
        "its own": HFLM(pretrained=folder, device="cpu", batch_size=64, dtype="float32"),
    }
    found: dict[str, Any] = {"items": len(items), "requests": len(requests)}
    values = {}
    for name, model in models.items():
        model.loglikelihood(requests, disable_tqdm=True)
        values[name], found[name] = timed(
            lambda model=model: model.loglikelihood(requests, disable_tqdm=True)
        )
        found[name]["items_per_s"] = round(len(items) / found[name]["wall_s"], 2)
    sides = [np.array([logp for logp, _ in answers]) for answers in values.values()]
    found["largest_difference"] = float(np.abs(sides[0] - sides[1]).max())
    for unit in ("wall_s", "cpu_s"):
        found[f"ours_faster_by_{unit[:-2]}"] = round(found["its own"][unit] / found["ours"][unit], 2)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
