"""Our records on the fixed inputs of a folder of peer benchmarks (its `peerlib.py` says batches, clocks and records).

Train steps: DCO on the stored pairs, AdamW, reference log-probabilities precomputed, batch by batch as the peers.
Scoring: every candidate of every prompt. One process per entry, so that each starts with a fresh machine.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PLAN = [
    # (model, data set, kind, computation)
    *itertools.product(["llama_s"], ["bmlama", "mmlu_synth"], ["step", "pass"], ["fp32", "bf16"]),
    *itertools.product(["gemma_s"], ["bmlama", "mmlu_synth"], ["step", "pass"], ["fp32", "bf16"]),
]


def run_all(folder: Path, only: list[str]) -> None:
    """Runs every entry of the plan whose name holds one of `only` (all for none), each in a process of its own."""
    for entry in PLAN:
        name = "__".join(entry)
        if only and not any(part in name for part in only):
            continue
        # As the Makefile sets it: large arrays on large pages, kept between steps.
        malloc = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296"
        environment = {"GLIBC_TUNABLES": malloc} | os.environ
        done = subprocess.run([sys.executable, __file__, str(folder), *entry], env=environment, check=False)
        if done.returncode:
            print(json.dumps({"entry": name, "failed": done.returncode}))


def run_one(folder: Path, model_name: str, dataset: str, kind: str, precision: str) -> None:
    sys.path.insert(0, str(folder))
    import peerlib as peer

    peer.limit_threads()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import dataclasses

    from consistency_jax.models.huggingface import load_pretrained

    # In bfloat16 all of it is, as in the peers: weights, moments and products.
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    model = load_pretrained(folder / "models" / model_name, dtype=dtype)
    model.config = dataclasses.replace(model.config, scan_layers=False)
    (train if kind == "step" else score)(peer, model, model_name, dataset, precision)


def train(peer: Any, model: Any, model_name: str, dataset: str, precision: str) -> None:
    import jax
    import numpy as np

    from consistency_jax.config.defaults import default
    from consistency_jax.data.examples import Examples, StepInput
    from consistency_jax.data.packing.plan import choose_shape, plan
    from consistency_jax.data.packing.rows import pack, tree_sizes
    from consistency_jax.data.trees.forest import Forest, Tree
    from consistency_jax.models.flops import mask_cost
    from consistency_jax.objectives import make_objective
    from consistency_jax.runtime.mesh import mesh_of, on_mesh, put
    from consistency_jax.scoring.scorer import Scorer
    from consistency_jax.training.optimizer import make_optimizer
    from consistency_jax.training.step import init_state, sharded_step
    from consistency_jax.training.trainable import trained_names

    steps = peer.STEPS[dataset] if model_name == "llama_s" else 6
    rows = peer.train_batches(dataset, peer.WARMUP + steps)
    trees = [
        Forest.of([Tree.of_tokens(r["prompt_ids"], [r["chosen_ids"], r["rejected_ids"]]) for r in step])
        for step in rows
    ]
    mesh = mesh_of(model.params)
    languages = len(peer.LANGS)
    logp = Scorer(model.config, mesh)(model.params, Forest.concatenate(trees), candidates=2)["logp"]
    references = logp.reshape(len(rows), -1, languages, 2)

    cost = mask_cost(model.config)
    shapes = plan([tree_sizes(step) for step in trees], mask_cost=cost, limit=6)
    inputs = []
    for step_trees, reference in zip(trees, references, strict=True):
        shape = choose_shape(shapes, [tree_sizes(step_trees)], mask_cost=cost)
        length = step_trees.length[step_trees.branch > 0].astype(np.int32).reshape(reference.shape)
        examples = Examples(
            mask=np.ones(reference.shape, bool),
            length=length,
            gold=np.zeros(len(reference), np.int32),
            partners=np.full(reference.shape[:2], -1, np.int32),
            rejected=np.full(reference.shape[:2], -1, np.int32),
            reference=reference,
            state=np.zeros((len(reference), 0), np.float32),
            prompts=np.zeros((0, 0), bool),
            seed=np.zeros(len(reference), np.uint32),
        )
        inputs.append(StepInput(pack(step_trees, shape, candidates=2), examples))

    options = default()
    optimizer = make_optimizer(options.optimizer, len(rows))
    objective, _ = make_objective(options.objective, peer.LANGS)
    step = sharded_step(model.config, objective, optimizer, mesh, trained_names(model.config, ""))
    state = jax.device_put(init_state(model.params, optimizer), step.state)
    clock, losses, compiled = peer.Clock(), [], {}
    with on_mesh(mesh):
        for value in inputs:  # compiled beforehand, as for the peers
            key = value.batch.tokens.shape, value.batch.sources.shape, value.batch.target_slot.shape
            if key not in compiled:
                compiled[key] = step.run.lower(state, {}, put(value, step.inputs)).compile()
        with peer.PeakRSS() as rss:
            clock.mark()
            for value in inputs:
                key = value.batch.tokens.shape, value.batch.sources.shape, value.batch.target_slot.shape
                state, metrics = compiled[key](state, {}, put(value, step.inputs))
                jax.block_until_ready(state)
                losses.append(float(metrics["loss"]))
                clock.mark()
    peer.record(
        "consistency_jax_dco",
        precision,
        model_name,
        dataset,
        "step",
        clock.rows,
        [peer.step_counts(step) for step in rows],
        [int(value.batch.tokens.size) for value in inputs],
        peer.WARMUP,
        losses=losses,
        shapes=[list(map(list, key)) for key in compiled],
        peak_rss_gb=rss.peak / 2**30,
        ref_logps_first=np.asarray(references[0]).tolist(),
        versions=peer.versions("jax", "flax", "optax"),
    )


def score(peer: Any, model: Any, model_name: str, dataset: str, precision: str) -> None:
    from consistency_jax.data.packing.plan import batch_plan
    from consistency_jax.data.packing.rows import tree_sizes
    from consistency_jax.data.trees.forest import Forest, Tree
    from consistency_jax.models.flops import mask_cost
    from consistency_jax.runtime.mesh import mesh_of
    from consistency_jax.scoring.scorer import Scorer

    items, languages, candidates, passes, _ = peer.SCORE[(model_name, dataset)]
    requests = peer.score_requests(dataset, items, languages, candidates)
    grouped = [list(group) for _, group in itertools.groupby(requests, key=lambda r: (r[0], r[1]))]
    trees = Forest.of([Tree.of_tokens(group[0][3], [r[4] for r in group]) for group in grouped])
    scorer = Scorer(model.config, mesh_of(model.params))
    tokens = 2048  # rows of one batch; larger ones fall out of the CPU's caches
    plan = batch_plan(tree_sizes(trees), mask_cost=mask_cost(model.config), tokens=tokens)
    fed = sum(batch.shape.rows * batch.shape.length for batch in plan)
    clock = peer.Clock()
    scorer(model.params, trees, candidates=candidates, tokens=tokens)  # compiles
    with peer.PeakRSS() as rss:
        clock.mark()
        for _ in range(passes):
            logp = scorer(model.params, trees, candidates=candidates, tokens=tokens)["logp"]
            clock.mark()
    peer.record(
        "consistency_jax_score",
        precision,
        model_name,
        dataset,
        "pass",
        clock.rows,
        [peer.score_counts(requests)] * passes,
        [fed] * passes,
        candidates=candidates,
        langs=languages,
        scores_first=[float(x) for x in logp.reshape(-1)[:20]],
        peak_rss_gb=rss.peak / 2**30,
        versions=peer.versions("jax", "flax", "optax"),
    )


if __name__ == "__main__":
    run_one(Path(sys.argv[1]), *sys.argv[2:])
