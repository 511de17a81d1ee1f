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
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16 FLOP/s by data sheet
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
    return globals()[f"{part}_{who}"](**settings)


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


# ---------------------------------------------------------------------------------------------------------------- ours
def our_config(model: str, **traits: Any) -> Any:
    """The published model's decoder, computing in bfloat16 with bfloat16 weights."""
    from consistency_jax.abstract import abstract_model
    from consistency_jax.config import default

    config = default()
    config.model.path = model
    config.model.dtype = config.model.compute_dtype = "bfloat16"
    config.model.update(traits)
    return abstract_model(config)


def our_params(decoder: Any, mesh: Any) -> Any:
    import jax

    from consistency_jax.models.decoder import init_params
    from consistency_jax.sharding import param_shardings

    where = param_shardings(decoder, mesh)
    return jax.jit(lambda key: init_params(decoder, key), out_shardings=where)(jax.random.key(0))


def our_trees(data: str, prompts: int, vocabulary: int) -> list[Any]:
    from consistency_jax.data.forest import Tree

    return [Tree.of_tokens(prompt, answers) for prompt, answers in questions(data, prompts, vocabulary)]


def our_device() -> dict[str, Any]:
    import jax

    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax")}
    return {"device": jax.devices()[0].device_kind, "versions": versions}


def our_peak() -> float:
    """GiB."""
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30


def train_ours(model: str, items: int) -> dict[str, Any]:
    import jax
    import numpy as np

    from consistency_jax.config import default
    from consistency_jax.data.pipeline import Pipeline, TrainingSet
    from consistency_jax.flops import step_flops
    from consistency_jax.models.decoder import init_params
    from consistency_jax.objectives import make_objective
    from consistency_jax.sharding import make_mesh, on_mesh, put
    from consistency_jax.training.optimizer import make_optimizer
    from consistency_jax.training.step import init_state, sharded_step, trained_names

    decoder = our_config(model, remat="none" if items <= 4 and "7B" not in model else "full")
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    trees = our_trees("mmlu", 2 * items * (STEPS + WARMUP), decoder.vocab_size)
    cells = (len(trees) // 2, 2, 4)
    data = TrainingSet(
        [trees[i : i + 2] for i in range(0, len(trees), 2)],
        np.ones(cells, bool),
        np.array([[[len(b) for b in tree.branches] for tree in trees]], np.int32).reshape(cells),
        np.full(len(trees) // 2, -1, np.int32),
        np.random.default_rng(1).normal(size=cells).astype(np.float32),
    )
    pipeline = Pipeline(data, seed=0, items=items, pairs=True, shapes=1, total_steps=STEPS + WARMUP)
    batches = [pipeline(step) for step in range(STEPS + WARMUP)]
    options = default()
    objective, _ = make_objective(options.objective, LANGUAGES)
    optimizer = make_optimizer(options.optimizer, 1000)
    step = sharded_step(decoder, objective, optimizer, mesh, trained_names(decoder, ""))
    state = jax.jit(lambda key: init_state(init_params(decoder, key), optimizer), out_shardings=step.state)(
        jax.random.key(0)
    )
    walls = []
    for batch in batches:
        with on_mesh(mesh):
            placed = put(batch, step.inputs)
            jax.block_until_ready((placed, state))
            start = time.perf_counter()
            state, metrics = step.run(state, {}, placed)
            jax.block_until_ready((state, metrics))
            walls.append(time.perf_counter() - start)
    rows, length = batches[0].batch.tokens.shape[-2:]
    flops = step_flops(decoder, rows, length, batches[0].batch.sources.shape[-1])
    real, fed = (
        sum(int(count) for count in counts)
        for counts in zip(*(((b.batch.tree > 0).sum(), b.batch.tokens.size) for b in batches), strict=True)
    )
    assert np.isfinite(float(metrics["loss"]))
    shapes = {str(b.batch.tokens.shape) for b in batches}
    median = statistics.median(walls[WARMUP:])
    return summary(
        walls[WARMUP:],
        items_per_s=items / median,
        tflops=flops / median / 1e12,
        peak_gib=our_peak(),
        padding=1 - real / fed,
        fed_tokens=fed // len(batches),
        shape=" ".join(sorted(shapes)),
        remat=decoder.remat,
        parameters=decoder.num_params,
        **our_device(),
    )


def score_ours(model: str, data: str, prompts: int) -> dict[str, Any]:
    import jax

    from consistency_jax.data.packing import tree_sizes
    from consistency_jax.data.planning import batch_plan
    from consistency_jax.flops import forward_flops
    from consistency_jax.scoring import Scorer
    from consistency_jax.sharding import make_mesh

    decoder = our_config(model)
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    params, trees = our_params(decoder, mesh), our_trees(data, prompts, decoder.vocab_size)
    scorer, candidates = Scorer(decoder, mesh), LENGTHS[data][2]
    tokens = 32768
    walls = []
    for _ in range(5):
        start = time.perf_counter()
        scorer(params, trees, candidates=candidates, tokens=tokens)
        walls.append(time.perf_counter() - start)
    batches = batch_plan(tree_sizes(trees), tokens=tokens)
    flops = sum(forward_flops(decoder, b.shape.rows, b.shape.length, b.shape.sources) for b in batches)
    median = statistics.median(walls[1:])
    return summary(
        walls[1:],
        items_per_s=prompts / median,
        tflops=flops / median / 1e12,
        peak_gib=our_peak(),
        batches=[[b.shape.rows, b.shape.length] for b in batches],
        **our_device(),
    )


def sample_ours(model: str) -> dict[str, Any]:
    import jax
    import numpy as np

    from consistency_jax.generation import Sampling
    from consistency_jax.generation.sampler import Sampler
    from consistency_jax.models.huggingface import Model
    from consistency_jax.sharding import make_mesh

    decoder = our_config(model)
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    sampler = Sampler(Model(decoder, our_params(decoder, mesh)))
    rng = np.random.default_rng(0)
    prompts = list(rng.integers(3, decoder.vocab_size, (64, 128)).astype(np.int32))
    walls = []
    for seed in range(4):
        start = time.perf_counter()
        answers = sampler.generate_tokens(prompts, n=8, sampling=Sampling(max_tokens=128), seed=seed)
        walls.append(time.perf_counter() - start)
    tokens = sum(len(answer) for own in answers for answer in own)
    median = statistics.median(walls[1:])
    return summary(walls[1:], items_per_s=tokens / median, peak_gib=our_peak(), **our_device())


def attention_ours() -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from consistency_jax.models.attention import BACKENDS, Problem, attend, obstacle, tree_mask

    lines = []
    for heads, kv_heads, head_dim in ((32, 8, 128), (8, 4, 256)):
        for length in (256, 512, 1024, 2048, 4096):
            rows = 16384 // length
            # Trees of about 140 tokens: a trunk of 100 and four branches of ten.
            place = np.arange(length) % 140
            tree = np.broadcast_to(np.arange(length) // 140 + 1, (rows, length)).astype(np.int32)
            branch = np.broadcast_to(np.where(place < 100, 0, (place - 100) // 10 + 1), (rows, length))
            position = np.broadcast_to(np.where(place < 100, place, 100 + (place - 100) % 10), (rows, length))
            mask = tree_mask(*(jnp.asarray(a, jnp.int32) for a in (position, tree, branch)))
            keys = jax.random.split(jax.random.key(0), 4)
            shapes = [(rows, length, n, head_dim) for n in (heads, kv_heads, kv_heads, heads)]
            query, key, value, cotangent = (
                jax.random.normal(k, s, jnp.bfloat16) for k, s in zip(keys, shapes, strict=True)
            )
            query = query * head_dim**-0.5
            problem = Problem(rows, length, heads, kv_heads, head_dim, "bfloat16")
            line: dict[str, Any] = {"heads": [heads, kv_heads, head_dim], "length": length, "rows": rows}
            outcome = {}
            for name in BACKENDS:
                if reason := obstacle(name, problem):
                    line[name] = reason
                    continue

                @jax.jit
                def run(q: Any, k: Any, v: Any, g: Any, mask: Any, name: str = name) -> Any:
                    prepared = BACKENDS[name].prepare(mask)
                    out, back = jax.vjp(lambda q, k, v: attend(q, k, v, prepared, backend=name), q, k, v)
                    return out, back(g)

                outcome[name] = jax.block_until_ready(run(query, key, value, cotangent, mask))
                line[name] = 1000 * timed(run, query, key, value, cotangent, mask)
            if len(outcome) > 1:
                mine, plain = (
                    [np.asarray(x, np.float32) for x in jax.tree.leaves(outcome[name])]
                    for name in ("cudnn", "xla")
                )
                line["difference"] = max(
                    float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(mine, plain, strict=True)
                )
            lines.append(line)
    side = jax.random.normal(jax.random.key(1), (8192, 8192), jnp.bfloat16)
    product = jax.jit(lambda a: a @ a)
    ceiling = 2 * 8192**3 / timed(product, side) / 1e12
    return {"lines": lines, "matmul_tflops": ceiling, **our_device()}


def timed(run: Callable[..., Any], *arguments: Any, repeat: int = 10) -> float:
    """Median seconds of a jitted call, after two to warm up."""
    import jax

    walls = []
    for _ in range(repeat + 2):
        start = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        walls.append(time.perf_counter() - start)
    return statistics.median(walls[2:])


# --------------------------------------------------------------------------------------------------------------- torch
def torch_model(model: str) -> Any:
    """The same model in torch on the GPU, random, bfloat16, PyTorch's own attention."""
    import torch
    import transformers

    from consistency_jax.models.huggingface import read_config
    from consistency_jax.models.published import PUBLISHED

    hf = PUBLISHED[model] if model in PUBLISHED else read_config(Path(model))
    if "text_config" in hf:  # the text part alone, as we load it; what its file leaves out are the defaults
        config = transformers.Gemma3Config(text_config=hf["text_config"]).text_config
    else:
        values = {key: value for key, value in hf.items() if key not in ("architectures", "model_type")}
        config = transformers.AutoConfig.for_model(hf["model_type"], **values)
    config.dtype = torch.bfloat16
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )


def padded(sequences: list[tuple[list[int], list[int]]], device: Any) -> tuple[Any, Any, Any]:
    """(ids, attention mask, mask of the answers' tokens) of prompts with answers, padded at the right."""
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in sequences)
    ids = torch.zeros((len(sequences), width), dtype=torch.long)
    attention, answers = torch.zeros_like(ids), torch.zeros(ids.shape, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(sequences):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        attention[row, :end] = 1
        answers[row, len(prompt) : end] = True
    return ids.to(device), attention.to(device), answers.to(device)


def torch_logps(model: Any, ids: Any, attention: Any, answers: Any) -> Any:
    """f32[B]: sums over the answers' tokens, from logits of every position."""
    import torch

    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
    target = ids[:, 1:]
    rows = [  # row by row: a log-softmax of all at once would double the peak
        torch.log_softmax(row, -1).gather(-1, t[:, None])[:, 0] for row, t in zip(logits, target, strict=True)
    ]
    return (torch.stack(rows).float() * answers[:, 1:]).sum(-1)


def torch_device() -> dict[str, Any]:
    import torch
    import transformers

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "device": name,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def torch_peak() -> float:
    """GiB."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


def torch_wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def train_torch(model: str, items: int) -> dict[str, Any]:
    import torch

    net = torch_model(model).train()
    device = next(net.parameters()).device
    micro = 4  # items at once, as published; more are accumulated
    asked = questions("mmlu", 2 * items * (STEPS + WARMUP), net.config.vocab_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    walls, fed = [], 0
    for step in range(STEPS + WARMUP):
        own = asked[2 * items * step : 2 * items * (step + 1)]
        torch_wait()
        start = time.perf_counter()
        for at in range(0, 2 * items, 2 * micro):
            part = own[at : at + 2 * micro]
            # first language chosen, rejected, second language chosen, rejected
            sequences = [(p, a[k]) for side in (part[::2], part[1::2]) for k in (0, 1) for p, a in side]
            batch = padded(sequences, device)
            fed += batch[0].numel()
            chosen1, rejected1, chosen2, rejected2 = torch_logps(net, *batch).chunk(4)
            reference = torch.ones_like(chosen1)  # precomputed
            shift1, shift2 = chosen1 - rejected1 - reference, chosen2 - rejected2 - reference
            loss = ((shift1 - reference).abs() + (shift2 - reference).abs()).mean()
            (loss * (min(micro, items) / items)).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())
        torch_wait()
        walls.append(time.perf_counter() - start)
    return summary(
        walls[WARMUP:],
        items_per_s=items / statistics.median(walls[WARMUP:]),
        peak_gib=torch_peak(),
        fed_tokens=fed // len(walls),
        **torch_device(),
    )


def score_torch(model: str, data: str, prompts: int) -> dict[str, Any]:
    import torch

    net = torch_model(model).eval()
    device = next(net.parameters()).device
    asked = questions(data, prompts, net.config.vocab_size)
    sequences = sorted(
        ((p, a) for p, answers in asked for a in answers), key=lambda s: -len(s[0]) - len(s[1])
    )
    size = 32 if data == "mmlu" else 256
    walls = []
    with torch.no_grad():
        for _ in range(3):
            torch_wait()
            start = time.perf_counter()
            for at in range(0, len(sequences), size):
                torch_logps(net, *padded(sequences[at : at + size], device)).cpu()
            torch_wait()
            walls.append(time.perf_counter() - start)
    median = statistics.median(walls[1:])
    return summary(walls[1:], items_per_s=prompts / median, peak_gib=torch_peak(), **torch_device())


def sample_torch(model: str) -> dict[str, Any]:
    import torch

    net = torch_model(model).eval()
    device = next(net.parameters()).device
    ids = torch.randint(3, net.config.vocab_size, (64, 128), device=device).repeat_interleave(8, 0)
    walls = []
    with torch.no_grad():
        for _ in range(3):
            torch_wait()
            start = time.perf_counter()
            net.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                min_new_tokens=128,
                max_new_tokens=128,
                pad_token_id=0,
            )
            torch_wait()
            walls.append(time.perf_counter() - start)
    median = statistics.median(walls[1:])
    return summary(walls[1:], items_per_s=64 * 8 * 128 / median, peak_gib=torch_peak(), **torch_device())


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
    peak = next((rate for name, rate in PEAKS.items() if name in record["device"]), None)
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
