"""MPO: the same number and gradients as its two terms written in torch, pair by pair."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
import torch

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.errors import ConfigError
from consistency_jax.objectives import OBJECTIVES, mpo

ITEMS, LANGUAGES, CANDIDATES, DIM = 6, 3, 4, 5
ANCHOR = 1  # not the first: an index that is forgotten shows
# Item 1 lacks language 0, item 2 has no label, item 3 lacks the anchor's gold answer, item 4 has the anchor alone.
PAIRS = [(0, 0), (0, 2), (1, 2), (5, 0), (5, 2)]


def problem(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (ITEMS, LANGUAGES, CANDIDATES)
    length = rng.integers(1, 6, shape).astype(np.int32)
    mask = np.ones(shape, bool)
    chosen = np.array([1, 0, -1, 3, 2, 0], np.int32)
    mask[1, 0] = False
    mask[3, ANCHOR, 3] = False
    mask[4, [0, 2]] = False
    return {
        "policy": (-length * rng.gamma(2.0, 0.8, shape)).astype(np.float32),
        "state": rng.normal(size=(ITEMS, LANGUAGES, DIM)).astype(np.float32),
        "reference": (-length * rng.gamma(2.0, 0.8, shape)).astype(np.float32),
        "reference_state": rng.normal(size=(ITEMS, DIM)).astype(np.float32),
        "chosen": chosen,
        "rejected": np.tile(np.array([[3], [2], [0], [1], [0], [3]], np.int32), (1, LANGUAGES)),
        "length": length,
        "mask": mask,
    }


TABLES = ("policy", "state", "reference", "reference_state")


def run(given: dict[str, np.ndarray], **options):
    """(loss, metrics), and the gradients of all four tables."""
    rest = {name: value for name, value in given.items() if name not in TABLES}
    function = partial(mpo, anchor=ANCHOR, **rest, **options)
    function = jax.jit(jax.value_and_grad(function, argnums=(0, 1, 2, 3), has_aux=True))
    return function(*(given[name] for name in TABLES))


@pytest.mark.parametrize("beta", [1.0, 1.5])
def test_loss_and_gradients_are_those_of_the_formula(beta):
    given = problem()
    (loss, metrics), gradients = run(given, beta=beta)
    t = {name: torch.tensor(given[name], dtype=torch.float64, requires_grad=True) for name in TABLES}

    def gap(table, b, l):
        w, u = given["chosen"][b], given["rejected"][b, l]
        n = given["length"][b, l]
        return table[b, l, w] / int(n[w]) - table[b, l, u] / int(n[u])

    gaps, moved = [], []
    for b, l in PAIRS:
        target = gap(t["reference"], b, ANCHOR).detach()
        gaps.append((beta * gap(t["policy"], b, l) - target) ** 2)
        moved.append(torch.nn.functional.mse_loss(t["state"][b, ANCHOR], t["reference_state"][b].detach()))
    expected = torch.stack(gaps).mean() + torch.stack(moved).mean()
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    assert float(metrics["gap_loss"]) == pytest.approx(torch.stack(gaps).mean().item(), rel=1e-5)
    np.testing.assert_allclose(gradients[0], t["policy"].grad, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(gradients[1], t["state"].grad, rtol=1e-4, atol=1e-7)
    assert not any(np.any(gradient) for gradient in gradients[2:])
    assert float(metrics["weight"]) == len(PAIRS)
    assert int(metrics["items"]) == len({b for b, _ in PAIRS})


def test_what_is_in_no_pair_is_immaterial():
    given = problem()
    cells, reference_cells = np.zeros((2, *given["policy"].shape), bool)
    states = np.zeros(given["state"].shape, bool)
    for b, l in PAIRS:
        both = [given["chosen"][b], given["rejected"][b, l]]
        cells[b, l, both] = reference_cells[b, ANCHOR, both] = True
        states[b, ANCHOR] = True
    counted = {"policy": cells, "reference": reference_cells}
    counted |= {"state": states, "reference_state": states[:, ANCHOR]}

    def filled(fill: float):
        return run(given | {n: np.where(mask, given[n], np.float32(fill)) for n, mask in counted.items()})

    plain = filled(0.0)
    assert not np.asarray(plain[1][0])[~cells].any()
    assert not np.asarray(plain[1][1])[~states].any()
    for fill in (np.nan, np.inf, -np.inf):
        jax.tree.map(np.testing.assert_array_equal, filled(fill), plain)


def test_a_free_table_comes_to_the_anchors_gap_and_state():
    given = problem(1) | {"mask": np.ones((ITEMS, LANGUAGES, CANDIDATES), bool)}
    given["chosen"] = np.where(given["chosen"] < 0, 2, given["chosen"]).astype(np.int32)
    rest = {name: value for name, value in given.items() if name not in TABLES}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.3, 1500))

    def step(carry, _):
        free, state = carry
        gradient, metrics = jax.grad(
            lambda free: mpo(
                *free, given["reference"], given["reference_state"], anchor=ANCHOR, beta=1.5, **rest
            ),
            has_aux=True,
        )(free)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(free, updates), state), metrics

    start = (given["policy"], given["state"])
    ((_, state), _), metrics = jax.jit(lambda s: jax.lax.scan(step, (s, optimizer.init(s)), length=1500))(
        start
    )
    assert float(metrics["loss"][0]) > 0.5
    assert float(metrics["loss"][-1]) < 1e-6
    assert float(metrics["gap"][-1]) == pytest.approx(float(metrics["gap_target"][-1]) / 1.5, abs=1e-3)
    np.testing.assert_allclose(state[:, ANCHOR], given["reference_state"], atol=1e-2)


def test_wrong_arguments_are_told():
    given = problem()
    with pytest.raises(ValueError, match=r"^mpo: anchor must lie in 0..2, not 3"):
        mpo(**given, anchor=3)
    with pytest.raises(ValueError, match=r"^mpo: reference_state must have shape \[6, 5\]"):
        mpo(**given | {"reference_state": given["reference_state"][:, :2]}, anchor=0)
    with pytest.raises(ValueError, match=r"^mpo: reference must have shape"):
        mpo(**given | {"reference": given["reference"][:2]}, anchor=0)


def test_usable_items_have_a_pair_in_english_and_in_another_language():
    given = problem()
    usable = OBJECTIVES["mpo"].usable(given["mask"], given["chosen"], ("de", "en", "sw"))
    assert usable.tolist() == [True, True, False, False, False, True]
    assert not OBJECTIVES["mpo"].usable(given["mask"], given["chosen"], ("de", "fr", "sw")).any()


def test_a_wrong_answer_for_each_language_is_refused():
    config = default()
    config.model.path = "somewhere"
    config.objective.name, config.objective.rejected = "mpo", "hardest"
    with pytest.raises(ConfigError, match=r"same two answers.*rejected=random"):
        validate(config)
