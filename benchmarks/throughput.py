"""Speed and memory of the train step and of scoring. Prints one JSON line.

    python benchmarks/throughput.py                   # DCO steps on BMLAMA-17 (or the embedded world), random Llama
    python benchmarks/throughput.py --naive           # also one sequence per candidate: the gain of trees, in one run
    python benchmarks/throughput.py --peers=FOLDER    # the fixed inputs of a folder of peer benchmarks, as its records
    python benchmarks/throughput.py --attention       # of one layer, whole and in chunks of queries
    python benchmarks/throughput.py --model=PATH --torch   # DCO steps and an audit of a checkpoint (a folder or GGUF),
                                                      # and the same in torch on the same weights: real_model.py

Times are medians of whole steps after everything is compiled; compile seconds stand apart. `flops` counts the matrix
products of one step by hand, `flops_compiled` is XLA's own count of the compiled program (which counts a loop's body
once, so the layers are inlined here). Run it on a quiet machine; only ratios from one run mean anything.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.config.defaults import default
from consistency_jax.data.examples import StepInput, TrainingSet
from consistency_jax.data.facts import item_arrays
from consistency_jax.data.items import Items
from consistency_jax.data.packing.rows import Batch, Shape, pack, tree_sizes
from consistency_jax.data.pipeline import Pipeline
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import Forest
from consistency_jax.models import attention
from consistency_jax.models.decoder import DecoderConfig, init_params
from consistency_jax.models.flops import mask_cost, step_flops
from consistency_jax.objectives import make_objective
from consistency_jax.runtime.mesh import make_mesh, on_mesh, put
from consistency_jax.scoring.tables import table_frame
from consistency_jax.training.optimizer import make_optimizer
from consistency_jax.training.step import init_state, sharded_step
from consistency_jax.training.trainable import trained_names

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--naive", action="store_true", help="also time one sequence per candidate")
    parser.add_argument("--peers", metavar="FOLDER", help="run the fixed inputs of this folder instead")
    parser.add_argument(
        "--only", default="", help="with --peers: parts of record names to run, comma separated"
    )
    parser.add_argument("--attention", action="store_true", help="time attention alone, in both ways of CPUs")
    parser.add_argument(
        "--model", metavar="PATH", help="by configs/real.py, with the weights of this folder or GGUF"
    )
    parser.add_argument("--torch", action="store_true", help="with --model: the same in torch")
    parser.add_argument(
        "--freeze", default="", help="with --model: also steps that do not train these parameters"
    )
    parser.add_argument(
        "--audited", type=int, default=16, help="with --model: items of the audit; 0: no audit"
    )
    parser.add_argument("--languages", default="en,fr", help="of BMLAMA-17")
    parser.add_argument("--items", type=int, default=4, help="of one step")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of computation")
    for name, size in {
        "hidden": 512,
        "layers": 8,
        "heads": 8,
        "kv_heads": 4,
        "mlp": 1536,
        "vocab": 32000,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    args = parser.parse_args()
    if args.peers:
        from peer_inputs import run_all

        run_all(Path(args.peers).resolve(), [part for part in args.only.split(",") if part])
        return
    if args.attention:
        for rows, length in ((4, 640), (8, 240), (4, 160)):
            print(json.dumps(time_attention(rows, length)))
        return
    if args.model:
        from real_model import compare

        compare(args.model, args.freeze, args.audited, args.torch)
        return
    print(json.dumps(measure(args)))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The record of one benchmark run."""
    items, source = load_questions(args.languages.split(","))
    config = DecoderConfig(
        vocab_size=args.vocab,
        hidden=args.hidden,
        layers=args.layers,
        heads=args.heads,
        kv_heads=args.kv_heads,
        head_dim=args.hidden // args.heads,
        mlp=args.mlp,
        tied=False,
        dtype=args.dtype,
        scan_layers=False,
    )
    languages = tuple(args.languages.split(","))
    trees = TreeBuilder(make_tokenizer(items), boundary="separate").build(items, languages)
    frame = table_frame(items, languages, trees)
    reference = np.zeros(frame.mask.shape, np.float32)
    data = TrainingSet(trees, frame.mask, frame.length, item_arrays(items, languages)[1], reference)
    pipeline = Pipeline(data, seed=0, items=args.items, mask_cost=mask_cost(config), total_steps=args.steps)
    batches = [pipeline(step) for step in range(args.steps)]
    run = Runner(config, languages, args.steps)
    record = {
        "source": source,
        "model": {"parameters": config.num_params, "dtype": args.dtype},
        "languages": len(languages),
        "candidates": int(frame.mask.shape[2]),
        "items_per_step": args.items,
        "device": jax.devices()[0].device_kind,
    }
    record["trees"] = run.time(batches)
    if args.naive:
        wide = np.arange(len(languages))
        drawn = [pipeline.draw(step).items[:, None] * len(wide) + wide for step in range(args.steps)]
        naive = [
            StepInput(
                one_sequence_per_candidate(trees.take(own.reshape(-1)), frame.mask.shape[2]), b.examples
            )
            for own, b in zip(drawn, batches, strict=True)
        ]
        record["naive"] = run.time(naive)
        record["gain_of_trees"] = record["naive"]["step_s"] / record["trees"]["step_s"]
    return record


def time_attention(
    rows: int, length: int, heads: int = 8, kv_heads: int = 4, dim: int = 64
) -> dict[str, Any]:
    """Median milliseconds of attention and its gradients, one tree a row, whole and in chunks of queries."""
    record: dict[str, Any] = {"rows": rows, "length": length}
    bias = attention.mask_bias(
        jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool)), (rows, length, length))
    )
    for dtype in ("float32", "bfloat16"):
        keys = jax.random.split(jax.random.key(0), 4)
        query, key, value, weight = (
            jax.random.normal(one, (rows, length, count, dim), dtype)
            for one, count in zip(keys, (heads, kv_heads, kv_heads, heads), strict=True)
        )
        for name, attend in {"whole": attention._xla, "chunks": attention._chunked}.items():

            def loss(
                *arrays: jax.Array, attend: Callable[..., jax.Array] = attend, weight: jax.Array = weight
            ):
                return (attend(*arrays, bias, None) * weight).astype(jnp.float32).sum()

            run = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
            walls = []
            for _ in range(23):
                start = time.perf_counter()
                jax.block_until_ready(run(query, key, value))
                walls.append(time.perf_counter() - start)
            record[f"{dtype} {name}, ms"] = round(1000 * statistics.median(walls[3:]), 1)
    return record


class Runner:
    """Compiles and times train steps of one model."""

    def __init__(self, config: DecoderConfig, languages: tuple[str, ...], steps: int):
        options = default()
        objective, _ = make_objective(options.objective, languages)
        self.config, self.mesh = config, make_mesh((1, 1, 1), jax.devices()[:1])
        params = jax.jit(lambda key: init_params(config, key))(jax.random.key(0))
        optimizer = make_optimizer(options.optimizer, steps)
        self.step = sharded_step(config, objective, optimizer, self.mesh, trained_names(config, ""))
        self.state = jax.device_put(init_state(params, optimizer), self.step.state)

    def time(self, batches: list[StepInput]) -> dict[str, Any]:
        """Median seconds of a step over these batches, and what they hold."""
        compiled, seconds, flops = {}, 0.0, []
        with on_mesh(self.mesh):
            for batch in batches:
                key = str(jax.tree.map(np.shape, batch))
                if key not in compiled:
                    start = time.perf_counter()
                    compiled[key] = self.step.run.lower(
                        self.state, {}, put(batch, self.step.inputs)
                    ).compile()
                    seconds += time.perf_counter() - start
            walls = []
            for number, batch in enumerate([*(batches * 2)[:2], *batches]):  # two steps to warm up
                run, placed = compiled[str(jax.tree.map(np.shape, batch))], put(batch, self.step.inputs)
                jax.block_until_ready((placed, self.state))
                start = time.perf_counter()
                self.state, metrics = run(self.state, {}, placed)
                jax.block_until_ready((self.state, metrics))
                if number >= 2:
                    walls.append(time.perf_counter() - start)
                    flops.append(run.cost_analysis()["flops"])
        tokens = [int((batch.batch.tree > 0).sum()) for batch in batches]
        padded = [batch.batch.tokens.size for batch in batches]
        items = len(batches[0].examples.gold)
        step_s = statistics.median(walls)
        return {
            "step_s": step_s,
            "items_per_s": items / step_s,
            "tokens_per_s": statistics.median(t / w for t, w in zip(tokens, walls, strict=True)),
            "padding": 1 - sum(tokens) / sum(padded),
            "flops": statistics.median(step_flops(self.config, batch.batch) for batch in batches),
            "flops_compiled": statistics.median(flops),
            "shapes": len(compiled),
            "compile_s": seconds,
            "peak_memory_gb": peak_memory() / 2**30,
        }


def peak_memory() -> int:
    """Bytes: of the device where it tells, else of this process."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def one_sequence_per_candidate(trees: Forest, candidates: int) -> Batch:
    """The same cells as `pack(trees)`, each candidate as a row of its own, prompt and all, padded to the longest."""
    places = np.argwhere(np.arange(candidates) < trees.segments[:, None] - 1)  # (tree, candidate)
    single = trees.take(places[:, 0], places[:, 1:])
    length, sources, targets = (int(size) for size in tree_sizes(single).max(0))
    shape = Shape(rows=1, length=length, sources=sources, targets=targets)
    parts = []
    for row, (n, k) in enumerate(places.tolist()):
        part = pack(single.take(np.array([row])), shape, candidates=1)
        cell = n * (candidates + 1) + k + 1
        slot = np.where(part.target_slot < 2, cell, len(trees) * (candidates + 1))
        parts.append(
            part._replace(target_slot=slot.astype(np.int32), prompt_end=part.prompt_end + row * length)
        )
    whole = jax.tree.map(lambda *fields: np.concatenate(fields), *parts)
    return whole._replace(prompt_end=np.zeros(len(trees), np.int32))


def load_questions(languages: list[str]) -> tuple[Items, str]:
    """BMLAMA-17 where it lies ($CONSISTENCY_DATA/bmlama17), items of ten candidates; else the embedded world."""
    folder = Path(os.environ.get("CONSISTENCY_DATA", ROOT.parent / "shared" / "data")) / "bmlama17"
    if folder.is_dir():
        items = load_items("bmlama17", path=folder, languages=languages, split="train")
        return Items([item for item in items if item.num_candidates == 10][:400]), "bmlama17"
    return Items(load_items("cldr", languages=languages, split="train")[:400]), "cldr"


def make_tokenizer(items: Items) -> Any:
    """A byte-level BPE trained on the questions: no file is needed, and lengths are like those of real ones."""
    import tokenizers
    import transformers

    texts = [
        text
        for item in items
        for language in item.prompts
        for text in (item.prompts[language], *item.candidates[language])
    ]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", add_bos_token=True
    )


if __name__ == "__main__":
    main()
