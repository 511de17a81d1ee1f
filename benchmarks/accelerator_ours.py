"""Our side of accelerator.py: each function is a part, and gives its record."""

import importlib.metadata
import statistics
import time
from collections.abc import Callable
from typing import Any

from accelerator import LANGUAGES, LENGTHS, STEPS, WARMUP, questions, summary
from throughput import peak_memory


def decoder_of(model: str, **traits: Any) -> Any:
    """The published model's decoder, computing in bfloat16 with bfloat16 weights."""
    from consistency_jax.config.defaults import default
    from consistency_jax.models.configured import abstract_model

    config = default()
    config.model.path = model
    config.model.dtype = config.model.compute_dtype = "bfloat16"
    config.model.update(traits)
    return abstract_model(config)


def random_params(decoder: Any, mesh: Any) -> Any:
    import jax

    from consistency_jax.models.decoder import init_params
    from consistency_jax.models.shardings import param_shardings

    where = param_shardings(decoder, mesh)
    return jax.jit(lambda key: init_params(decoder, key), out_shardings=where)(jax.random.key(0))


def random_trees(data: str, prompts: int, vocabulary: int) -> Any:
    from consistency_jax.data.trees.forest import Forest, Tree

    return Forest.of([Tree.of_tokens(*question) for question in questions(data, prompts, vocabulary)])


def device() -> dict[str, Any]:
    import jax

    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax")}
    return {"device": jax.devices()[0].device_kind, "versions": versions}


def train(model: str, items: int) -> dict[str, Any]:
    import jax
    import numpy as np

    from consistency_jax.config.defaults import default
    from consistency_jax.data.examples import TrainingSet
    from consistency_jax.data.pipeline import Pipeline
    from consistency_jax.models.decoder import init_params
    from consistency_jax.models.flops import mask_cost, step_flops
    from consistency_jax.objectives import make_objective
    from consistency_jax.runtime.mesh import make_mesh, on_mesh, put
    from consistency_jax.training.optimizer import make_optimizer
    from consistency_jax.training.step import init_state, sharded_step
    from consistency_jax.training.trainable import trained_names

    decoder = decoder_of(model, remat="none" if items <= 4 and "7B" not in model else "full")
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    trees = random_trees("mmlu", 2 * items * (STEPS + WARMUP), decoder.vocab_size)
    cells = (len(trees) // 2, 2, 4)
    data = TrainingSet(
        trees,
        np.ones(cells, bool),
        trees.length[trees.branch > 0].astype(np.int32).reshape(cells),
        np.full(len(trees) // 2, -1, np.int32),
        np.random.default_rng(1).normal(size=cells).astype(np.float32),
    )
    planned = {"mask_cost": mask_cost(decoder), "shapes": 1, "total_steps": STEPS + WARMUP}
    pipeline = Pipeline(data, seed=0, items=items, pairs=True, **planned)
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
    flops = step_flops(decoder, batches[0].batch)
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
        peak_gib=peak_memory() / 2**30,
        padding=1 - real / fed,
        fed_tokens=fed // len(batches),
        shape=" ".join(sorted(shapes)),
        remat=decoder.remat,
        parameters=decoder.num_params,
        **device(),
    )


def score(model: str, data: str, prompts: int) -> dict[str, Any]:
    import jax

    from consistency_jax.aot.shapes import Load, abstract_batch
    from consistency_jax.data.packing.plan import batch_plan
    from consistency_jax.data.packing.rows import tree_sizes
    from consistency_jax.models.flops import forward_flops, mask_cost
    from consistency_jax.runtime.mesh import make_mesh
    from consistency_jax.scoring.scorer import Scorer

    decoder = decoder_of(model)
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    params, trees = random_params(decoder, mesh), random_trees(data, prompts, decoder.vocab_size)
    scorer, candidates = Scorer(decoder, mesh), LENGTHS[data][2]
    tokens = 32768
    walls = []
    for _ in range(5):
        start = time.perf_counter()
        scorer(params, trees, candidates=candidates, tokens=tokens)
        walls.append(time.perf_counter() - start)
    batches = batch_plan(tree_sizes(trees), mask_cost=mask_cost(decoder), tokens=tokens)
    flops = sum(forward_flops(decoder, abstract_batch(Load(b.shape, 1, 1, candidates))) for b in batches)
    median = statistics.median(walls[1:])
    return summary(
        walls[1:],
        items_per_s=prompts / median,
        tflops=flops / median / 1e12,
        peak_gib=peak_memory() / 2**30,
        batches=[[b.shape.rows, b.shape.length] for b in batches],
        **device(),
    )


def sample(model: str) -> dict[str, Any]:
    import jax
    import numpy as np

    from consistency_jax.generation import Sampling
    from consistency_jax.generation.sampler import Sampler
    from consistency_jax.models.huggingface import Model
    from consistency_jax.runtime.mesh import make_mesh

    decoder = decoder_of(model)
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    sampler = Sampler(Model(decoder, random_params(decoder, mesh)))
    rng = np.random.default_rng(0)
    prompts = list(rng.integers(3, decoder.vocab_size, (64, 128)).astype(np.int32))
    walls = []
    for seed in range(4):
        start = time.perf_counter()
        answers = sampler.generate_tokens(prompts, n=8, sampling=Sampling(max_tokens=128), seed=seed)
        walls.append(time.perf_counter() - start)
    tokens = sum(len(answer) for own in answers for answer in own)
    median = statistics.median(walls[1:])
    return summary(walls[1:], items_per_s=tokens / median, peak_gib=peak_memory() / 2**30, **device())


def attention() -> dict[str, Any]:
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
    return {"lines": lines, "matmul_tflops": ceiling, **device()}


def timed(run: Callable[..., Any], *arguments: Any, repeat: int = 10) -> float:
    """Median seconds of a jitted call, after two to warm up."""
    import jax

    walls = []
    for _ in range(repeat + 2):
        start = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        walls.append(time.perf_counter() - start)
    return statistics.median(walls[2:])
