"""How many answers do DCO and PCO need? Both reach the same optimum; a tabular policy shows how fast.

    python benchmarks/samples.py                 # two minutes on a CPU
    python benchmarks/samples.py --seeds=8 --steps=200 --candidates=4

The policy is a table of logits over K answers in two languages, free in every cell; its reference is drawn at random.
PCO with beta = 1 and DCO with equal weights share their optimum, the normalized product of the two references. In a
step each objective looks at `--answers` answers in each language:

    dco   random pairs of candidates, through the objective of this package (nothing is generated)
    pco   roll-outs of the policy itself, through the objective of this package: the score-function gradient of
          KL(pi_i || ref_i) - E_{y ~ pi_i} log ref_j(y) with a leave-one-out baseline

Both with Adam, each with the learning rate of a grid that reaches the given distance with the fewest answers (the
median over seeds). Two distances to the optimum, means over the two languages: total variation, which sees likely
answers, and the share of candidate pairs in the other order, which sees all of them, as RankC does. An answer of DCO is
one that is scored, an answer of PCO one that is generated and scored: the former costs a fraction of the latter in a
language model. Writes samples.md and samples.svg.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from consistency_jax.objectives import dco
from consistency_jax.objectives.pco_rollout import pco_sampled
from consistency_jax.report.plots import Mark, trend
from consistency_jax.runtime.files import write_text

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
DISTANCES = (0.2, 0.1, 0.05)
SPREAD = 1.5  # standard deviation of the reference's logits, nats

Gradient = Callable[
    [jax.Array, jax.Array, jax.Array], jax.Array
]  # (policy [2, K], reference [2, K], key) -> [2, K]


def dco_gradient(answers: int) -> Gradient:
    """DCO on answers / 2 random pairs, the same in both languages."""

    def gradient(policy: jax.Array, reference: jax.Array, key: jax.Array) -> jax.Array:
        count, candidates = answers // 2, policy.shape[1]
        first, offset = jax.random.randint(key, (2, count), 0, jnp.array([[candidates], [candidates - 1]]))
        pairs = jnp.stack([first, (first + 1 + offset) % candidates], axis=1)

        def loss(table: jax.Array) -> jax.Array:
            wide = [jnp.broadcast_to(t, (count, *t.shape)) for t in (table, reference)]
            return dco(*wide, candidates=pairs)[0]

        return jax.grad(loss)(policy)

    return gradient


def pco_gradient(answers: int) -> Gradient:
    """PCO on roll-outs of the policy, one item in two languages."""

    def gradient(policy: jax.Array, reference: jax.Array, key: jax.Array) -> jax.Array:
        seeds = jax.random.bits(key, (1,))

        def loss(table: jax.Array) -> jax.Array:
            return pco_sampled(table[None], reference[None], seeds, samples=answers)[0]

        return jax.grad(loss)(policy)

    return gradient


METHODS = {"dco": dco_gradient, "pco": pco_gradient}


def total_variation(policy: jax.Array, optimum: jax.Array) -> jax.Array:
    return 0.5 * jnp.abs(jax.nn.softmax(policy) - jax.nn.softmax(optimum)).sum(-1).mean()


def disorder(policy: jax.Array, optimum: jax.Array) -> jax.Array:
    """Share of candidate pairs whose order is not the optimum's."""
    first, second = np.triu_indices(policy.shape[-1], 1)
    signs = [jnp.sign(table[..., first] - table[..., second]) for table in (policy, optimum)]
    return (signs[0] != signs[1]).mean()


MEASURES = {"total variation": total_variation, "pairs in the other order": disorder}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def distances(gradient: Gradient, candidates: int, steps: int, rate: jax.Array, key: jax.Array) -> jax.Array:
    """f32[MEASURES, steps]: how far the optimum is after each step, for one random reference."""
    key, first = jax.random.split(key)
    reference = SPREAD * jax.random.normal(first, (2, candidates))
    optimum = reference.sum(0)  # logits
    adam = optax.adam(rate)

    def step(state: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        policy, moments = state
        update, moments = adam.update(gradient(policy, reference, key), moments)
        policy = optax.apply_updates(policy, update)
        return (policy, moments), jnp.stack([measure(policy, optimum) for measure in MEASURES.values()])

    return jax.lax.scan(step, (reference, adam.init(reference)), jax.random.split(key, steps))[1].T


def answers_needed(curves: np.ndarray, distance: float, answers: int) -> np.ndarray:
    """Answers that each run (curves f32[seeds, steps]) looked at until it was that close; infinity if it never was."""
    close = curves <= distance
    return np.where(close.any(1), (close.argmax(1) + 1.0) * answers, np.inf)


def fewest(
    by_rate: dict[float, np.ndarray], measure: int, distance: float, answers: int
) -> tuple[float, float]:
    """(learning rate, answers) of the rate that needs the fewest, median over seeds."""
    needed = {
        rate: np.median(answers_needed(runs[:, measure], distance, answers)) for rate, runs in by_rate.items()
    }
    return min(needed.items(), key=lambda entry: entry[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--answers", type=int, default=16, help="answers of a step, in each language; even")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("runs/samples"))
    args = parser.parse_args()
    if args.answers < 2 or args.answers % 2:
        parser.error(f"--answers={args.answers} must be even: DCO looks at pairs")
    keys = jax.random.split(jax.random.key(0), args.seeds)
    lines = [
        "| candidates | distance | DCO: answers (learning rate) | PCO: answers (learning rate) | PCO / DCO |",
        "|---|---|---|---|---|",
    ]
    panels = []
    at = np.unique(np.geomspace(1, args.steps, 9).astype(int))
    for candidates in args.candidates:
        curves = {}  # method -> rate -> f32[seeds, MEASURES, steps]
        for name, make in METHODS.items():
            run = jax.vmap(
                functools.partial(distances, make(args.answers), candidates, args.steps), (None, 0)
            )
            curves[name] = {rate: np.asarray(run(jnp.float32(rate), keys)) for rate in RATES}
        for m, measure in enumerate(MEASURES):
            for distance in DISTANCES:
                (rate_dco, few), (rate_pco, many) = (
                    fewest(by_rate, m, distance, args.answers) for by_rate in curves.values()
                )
                best = ((rate_dco, few), (rate_pco, many))
                cells = [f"{n:,.0f} ({rate:g})" if np.isfinite(n) else "never" for rate, n in best]
                ratio = f"{many / few:.1f}" if np.isfinite([few, many]).all() else ""
                lines.append(f"| {candidates} | {measure} {distance} | {' | '.join(cells)} | {ratio} |")
        for name, by_rate in curves.items():
            runs = min(
                (runs[:, 0] for runs in by_rate.values()), key=lambda runs: np.median(runs, axis=0).mean()
            )
            low, middle, high = np.quantile(runs[:, at - 1], (0.1, 0.5, 0.9), axis=0)
            marks = [Mark(*mark) for mark in zip(middle, low, high, strict=True)]
            panels.append((f"{name.upper()}, {candidates} candidates", marks))
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "samples.md", "\n".join(lines) + "\n")
    title = "Total variation to the shared optimum: median of seeds, 10 to 90 % of them"
    answers = (at * args.answers).tolist()
    write_text(args.out / "samples.svg", trend(title, "answers looked at, in each language", answers, panels))
    print("\n".join(lines))
    print(f"{args.out / 'samples.md'}, {args.out / 'samples.svg'}")


if __name__ == "__main__":
    main()
