"""throughput.py --model: steps and audits of a checkpoint by configs/real.py, ours and in torch, on the same weights.

Each part is a process of its own and prints a record. Both sides get the same questions, as the run's own pipeline
draws them, and the losses of the same steps, and the log-probabilities of the same answers, stand side by side: they
show that both computed the same. The reference's log-probabilities are zeros, for both (they are precomputed).

torch's step is the published pattern: four sequences an item (two languages, two answers), padded at the right, logits
of all positions, AdamW (fused), gradients clipped at 1. Its audit is one sequence a candidate, sorted by length.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scoring import alone, in_torch, since, torch_model
from scoring import now as clock

ROOT = Path(__file__).resolve().parent.parent
WARMUP = 1
STEPS = 5
PASSES = 1
AUDIT_TOKENS = 512  # that torch is fed at once: 0.5 GB of logits where the vocabulary is Gemma's
# As the Makefile sets it: large arrays on large pages, kept between steps. For torch too, which gains by it as well.
MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296"


def compare(path: str, freeze: str, audited: int, torch: bool) -> None:
    """Runs the parts, ours and torch's in turn, prints their records, and at last the ratios."""
    parts = ["step ours", *["step torch"] * torch]
    parts += [f"step frozen {freeze}"] * bool(freeze)
    parts += ["audit ours", *["audit torch"] * torch] if audited else []
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        command = [sys.executable, __file__, path, str(audited), part]
        done = subprocess.run(
            command,
            env={"GLIBC_TUNABLES": MALLOC, "JAX_PLATFORMS": "cpu"} | os.environ,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[part] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps({"part": part} | found[part]), flush=True)
    for kind in ("step", "audit"):
        ours, theirs = found.get(f"{kind} ours"), found.get(f"{kind} torch")
        if ours and theirs:
            first, second = (np.array(side.pop("values")) for side in (ours, theirs))
            print(
                json.dumps(
                    {
                        kind: "ours is faster by",
                        "clock": round(theirs["wall_s"] / ours["wall_s"], 2),
                        "cpu": round(theirs["cpu_s"] / ours["cpu_s"], 2),
                        "largest_difference": float(np.abs(first - second).max()),
                    }
                )
            )


def run_config(path: str, audited: int) -> Any:
    """configs/real.py: DCO as published, on BMLAMA-17."""
    spec = importlib.util.spec_from_file_location("real", ROOT / "configs" / "real.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = Path(os.environ.get("CONSISTENCY_DATA", ROOT.parent / "shared" / "data")) / "bmlama17"
    config = module.get_config(
        f"path={path},data_path={data},steps={WARMUP + STEPS},tested={max(audited, 1)}"
    )
    config.data.train["items"] = 400
    return config


def load(config: Any, params: bool) -> Any:
    """The base model; without parameters, what makes trees of it."""
    from consistency_jax.models.configured import computing
    from consistency_jax.models.gguf import is_gguf, open_gguf
    from consistency_jax.models.huggingface import Model, find_checkpoint, load_pretrained, read_decoder
    from consistency_jax.models.tokenizers import load_tokenizer

    if params:
        model = load_pretrained(config.model.path)
    else:
        path = find_checkpoint(config.model.path)
        tokenizer = open_gguf(path).tokenizer() if is_gguf(path) else load_tokenizer(path)
        model = Model(read_decoder(path)[1], {}, tokenizer)
    model.config = computing(config, model.config)
    return model


def training(config: Any, model: Any) -> tuple[Any, Any]:
    """The training split as trees, and the run's pipeline of it; references are zeros."""
    from consistency_jax.training.stages import load_training, make_pipeline, training_set, training_split

    split = training_split(config, *load_training(config), model)
    data = training_set(split)
    return split, make_pipeline(
        config, data._replace(reference=np.zeros(data.mask.shape, np.float32)), model.config, 1
    )


def memory() -> dict[str, float]:
    """GB resident: now and at most."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        f"{name}_gb": round(int(status[key].split()[0]) / 1e6, 2)
        for name, key in (("resident", "VmRSS"), ("peak", "VmHWM"))
    }


def summary(spent: Sequence[dict[str, float]], count: int, values: Any, **more: Any) -> dict[str, Any]:
    """Medians of a step or pass over so many items, and what it gave."""
    middle = {unit: round(statistics.median(each[unit] for each in spent), 3) for unit in spent[0]}
    rate = round(count / middle["wall_s"], 2)
    return middle | {"items_per_s": rate, **memory(), **more, "values": np.asarray(values, float).tolist()}


def step_ours(config: Any) -> dict[str, Any]:
    """Train steps as `fit` takes them."""
    import jax

    from consistency_jax.models.decoder import abstract_params
    from consistency_jax.objectives import make_objective
    from consistency_jax.runtime.mesh import mesh_of, on_mesh, put
    from consistency_jax.training.optimizer import make_optimizer
    from consistency_jax.training.step import init_state, sharded_step
    from consistency_jax.training.trainable import split_params, trained_names

    model = load(config, params=True)
    split, pipeline = training(config, model)
    batches = [pipeline(step) for step in range(WARMUP + STEPS)]
    objective, _ = make_objective(config.objective, split.languages)
    names = trained_names(model.config, config.optimizer.freeze)
    mesh, optimizer = mesh_of(model.params), make_optimizer(config.optimizer, config.total_steps)
    step = sharded_step(model.config, objective, optimizer, mesh, names)
    trained, frozen = split_params(model.params, names)
    state = jax.jit(
        lambda p: init_state(jax.tree.map(jax.numpy.copy, p), optimizer), out_shardings=step.state
    )(trained)
    losses, spent, compiled, seconds, temporary = [], [], {}, 0.0, 0
    with on_mesh(mesh):
        for batch in batches:
            key = str(jax.tree.map(np.shape, batch))
            if key not in compiled:
                start = time.perf_counter()
                compiled[key] = step.run.lower(state, frozen, put(batch, step.inputs)).compile()
                seconds += time.perf_counter() - start
                temporary = max(temporary, compiled[key].memory_analysis().temp_size_in_bytes)
        for batch in batches:
            placed = jax.block_until_ready(put(batch, step.inputs))
            start = clock()
            state, metrics = compiled[str(jax.tree.map(np.shape, batch))](state, frozen, placed)
            jax.block_until_ready(state)
            spent.append(since(start))
            losses.append(float(metrics["loss"]))
    return summary(
        spent[WARMUP:],
        pipeline.items,
        losses,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(abstract_params(model.config))),
        programs=len(compiled),
        compile_s=round(seconds, 1),
        temporary_gb=round(temporary / 1e9, 2),
    )


def step_torch(config: Any) -> dict[str, Any]:
    import torch

    model = load(config, params=False)
    split, pipeline = training(config, model)
    draws = [pipeline.draw(step) for step in range(WARMUP + STEPS)]
    torch.set_num_threads(os.cpu_count() or 1)
    net = torch_model(Path(config.model.path)).train()
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config.optimizer.learning_rate, weight_decay=0.0, fused=True
    )
    # As configs/real.py: the learning rate falls linearly to 0.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(draws))
    losses, spent, fed = [], [], 0
    for draw in draws:
        ids, attention, answers = torch_batch(split, draw)
        fed += ids.numel()
        start = clock()
        logits = net(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
        target = ids[:, 1:, None]
        # Sequence by sequence, as TRL does it: a log-softmax of all at once would double the peak.
        normalizer = torch.stack([sequence.logsumexp(-1) for sequence in logits])
        logp = ((logits.gather(2, target)[..., 0] - normalizer) * answers[:, 1:]).sum(1)
        chosen_1, rejected_1, chosen_2, rejected_2 = logp.chunk(4)
        # |shift of a language - preference of the other's reference|, references zero
        loss = ((chosen_1 - rejected_1).abs() + (chosen_2 - rejected_2).abs()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(float(loss.detach()))
        spent.append(since(start))
    return summary(spent[WARMUP:], pipeline.items, losses, fed_tokens=fed // len(draws))


def torch_batch(split: Any, draw: Any) -> tuple[Any, Any, Any]:
    """(ids, attention, answers) i64 and f32[4 B, T]: the first languages' chosen answers, their rejected ones, then the
    second languages'."""
    import torch

    wide, sequences = len(split.languages), []
    for side in (0, 1):
        for answer in (0, 1):
            for item, there, candidates in zip(draw.items, draw.languages, draw.candidates, strict=True):
                language = np.flatnonzero(there)[side]
                tree = split.trees[int(item) * wide + int(language)]
                sequences.append(alone(tree)[int(candidates[language, answer])])
    width = max(len(tokens) for tokens, _ in sequences)
    ids, attention, answers = np.zeros((3, len(sequences), width), np.int64)
    for row, (tokens, counted) in enumerate(sequences):
        ids[row, : len(tokens)], attention[row, : len(tokens)], answers[row, : len(tokens)] = (
            tokens,
            1,
            counted,
        )
    return torch.tensor(ids), torch.tensor(attention), torch.tensor(answers, dtype=torch.float32)


def audited_trees(config: Any, model: Any) -> Any:
    from consistency_jax.evaluation import load_evaluation

    return load_evaluation(config).prepared(model).splits[0].trees


def audit_ours(config: Any) -> dict[str, Any]:
    """What `evaluate` does with a split: every candidate, prompts counted."""
    from consistency_jax.runtime.mesh import mesh_of
    from consistency_jax.scoring.scorer import Scorer

    model = load(config, params=True)
    trees, scorer = audited_trees(config, model), Scorer(model.config, mesh_of(model.params))
    there = trees.there

    def score() -> np.ndarray:
        options = {"candidates": there.shape[1], "prompt": True, "tokens": config.evaluation.tokens}
        return scorer(model.params, trees, **options)["logp"][there]

    return audit(config, score)


def audit_torch(config: Any) -> dict[str, Any]:
    trees = audited_trees(config, load(config, params=False))
    sequences = [each for tree in trees if tree is not None for each in alone(tree)]
    return audit(
        config, in_torch(Path(config.model.path), sequences, AUDIT_TOKENS, threads=os.cpu_count() or 1)
    )


def audit(config: Any, score: Callable[[], np.ndarray]) -> dict[str, Any]:
    values, spent = score(), []  # compiles
    for _ in range(PASSES):
        start = clock()
        values = score()
        spent.append(since(start))
    return summary(spent, config.data.test_items, values)


def main(path: str, audited: str, part: str) -> None:
    config = run_config(path, int(audited))
    kind, side, *freeze = part.split(" ", 2)
    if side == "frozen":
        side, config.optimizer.freeze = "ours", freeze[0]
    sides = {
        "step ours": step_ours,
        "step torch": step_torch,
        "audit ours": audit_ours,
        "audit torch": audit_torch,
    }
    print(json.dumps(sides[f"{kind} {side}"](config)))


if __name__ == "__main__":
    main(*sys.argv[1:])
