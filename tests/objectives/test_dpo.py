"""DPO, IPO, SimPO and ORPO: the same numbers and gradients as formulas written in torch, pair by pair."""

from functools import partial

import jax
import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from consistency_jax.objectives import dpo, ipo, orpo, simpo


def smoothed(x: torch.Tensor, e: float) -> torch.Tensor:
    return -(1 - e) * logsigmoid(x) - e * logsigmoid(-x)


def torch_dpo(l, r, n, beta=0.1, label_smoothing=0.0, gamma=0.0):
    ratio = (l[0] - l[1]) - (r[0] - r[1])
    return smoothed(beta * ratio, label_smoothing) - gamma * l[0] / n[0]


def torch_ipo(l, r, n, tau=0.1):
    """Equation 17 of arXiv 2310.12036: h of the policy against the reference, and its regression target."""
    del n
    h = torch.log((torch.exp(l[0]) * torch.exp(r[1])) / (torch.exp(l[1]) * torch.exp(r[0])))
    return (h - 1 / (2 * tau)) ** 2


def torch_simpo(l, r, n, beta=2.0, label_smoothing=0.0, margin=1.0):
    del r
    return smoothed(beta * (l[0] / n[0] - l[1] / n[1] - margin / beta), label_smoothing)


def torch_orpo(l, r, n, odds_weight=0.1):
    del r
    p = [torch.exp(l[i] / n[i]) for i in (0, 1)]
    odds = [x / (1 - x) for x in p]
    return -torch.log(p[0]) - odds_weight * logsigmoid(torch.log(odds[0] / odds[1]))


CASES = [
    (dpo, torch_dpo, {}),
    (dpo, torch_dpo, {"beta": 0.5, "label_smoothing": 0.1, "gamma": 0.7}),
    (ipo, torch_ipo, {}),
    (ipo, torch_ipo, {"tau": 1.5}),
    (simpo, torch_simpo, {}),
    (simpo, torch_simpo, {"beta": 3.0, "label_smoothing": 0.2, "margin": 0.4}),
    (orpo, torch_orpo, {}),
    (orpo, torch_orpo, {"odds_weight": 2.0}),
]
cases = pytest.mark.parametrize(("objective", "formula", "options"), CASES)


def problem(seed: int = 0, items: int = 7, languages: int = 3, candidates: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (items, languages, candidates)
    length = rng.integers(1, 6, shape).astype(np.int32)
    values = {name: -length * rng.gamma(2.0, 0.8, shape) for name in ("policy", "reference")}
    mask = np.ones(shape, bool)
    mask[0, 1] = False  # a language is missing
    mask[1, :, 0] = False  # the chosen answer is in no language
    mask[2, 2, 3] = False  # one language lacks its rejected answer
    chosen = np.array([1, 0, 2, -1, 3, 1, 0], np.int32)  # item 3 has no label
    rejected = np.array(
        [[0, 1, 2], [1, 2, 3], [0, 1, 3], [0, 1, 2], [0, -1, 1], [1, 0, 2], [3, 3, 3]], np.int32
    )
    return {
        **{name: value.astype(np.float32) for name, value in values.items()},
        "length": length,
        "mask": mask,
        "chosen": chosen,
        "rejected": rejected,
    }


# Item 1 and item 3 have no pair; item 4 none in language 1; item 5 rejects its own chosen answer in language 0.
PAIRS = [(0, 0), (0, 2), (2, 0), (2, 1), (4, 0), (4, 2), (5, 1), (5, 2), (6, 0), (6, 1), (6, 2)]


def call(objective, given: dict[str, np.ndarray], **options):
    """(loss, metrics) and the gradient with respect to the policy."""
    given = dict(given)
    tables = [given.pop("policy"), given.pop("reference")]
    if objective not in (dpo, ipo):
        tables.pop()
    function = jax.jit(jax.value_and_grad(partial(objective, **given, **options), has_aux=True))
    return function(*tables)


@cases
def test_loss_and_gradient_are_those_of_the_formula(objective, formula, options):
    given = problem()
    (loss, metrics), gradient = call(objective, given, **options)
    policy = torch.tensor(given["policy"], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor(given["reference"], dtype=torch.float64)
    losses = []
    for b, i in PAIRS:
        k = [int(given["chosen"][b]), int(given["rejected"][b, i])]
        losses.append(formula(policy[b, i, k], reference[b, i, k], given["length"][b, i, k], **options))
    expected = torch.stack(losses).mean()
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    # float32 against float64: gradients are at most about 1 / number of pairs
    np.testing.assert_allclose(gradient, policy.grad, rtol=1e-4, atol=1e-7)
    assert float(metrics["loss"]) == float(loss)
    assert float(metrics["weight"]) == len(PAIRS)
    assert int(metrics["items"]) == 5


@cases
def test_cells_in_no_pair_are_immaterial(objective, formula, options):
    del formula
    given = problem()
    in_pair = np.zeros(given["policy"].shape, bool)
    for b, i in PAIRS:
        in_pair[b, i, [given["chosen"][b], given["rejected"][b, i]]] = True

    def filled(value: float):
        tables = {name: np.where(in_pair, given[name], np.float32(value)) for name in ("policy", "reference")}
        return call(objective, given | tables | {"length": np.where(in_pair, given["length"], 0)}, **options)

    plain = filled(0.0)
    assert np.abs(plain[1])[in_pair].sum() > 0
    assert not np.asarray(plain[1])[~in_pair].any()
    for value in (np.nan, np.inf, -np.inf):
        jax.tree.map(np.testing.assert_array_equal, filled(value), plain)


@cases
def test_without_any_pair_loss_and_gradient_are_0(objective, formula, options):
    del formula
    (loss, metrics), gradient = call(objective, problem() | {"chosen": np.full(7, -1)}, **options)
    assert float(loss) == 0
    assert not np.any(gradient)
    assert all(float(value) == 0 for value in metrics.values())


def test_metrics_of_a_hand_worked_pair():
    table = np.array([[[-2.0, -6.0]]], np.float32)
    reference = np.array([[[-3.0, -5.0]]], np.float32)
    options = {"chosen": np.array([0]), "rejected": np.array([1]), "length": np.array([[[2, 3]]])}
    loss, metrics = dpo(table, reference, beta=0.5, gamma=2.0, **options)
    expected = {
        "margin": 1.0,
        "reward_chosen": 0.5,
        "reward_rejected": -0.5,
        "chosen": -1.0,
        "rejected": -2.0,
    }
    expected |= {"pair_accuracy": 1, "items": 1, "weight": 1, "loss": np.log(1 + np.exp(-1)) + 2.0}
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected)
    assert float(loss) == pytest.approx(expected["loss"])


def test_ipo_of_a_hand_worked_pair_asks_for_a_gap_and_no_more():
    table, reference = np.array([[[-2.0, -6.0]]], np.float32), np.array([[[-3.0, -5.0]]], np.float32)
    options = {"chosen": np.array([0]), "rejected": np.array([1])}
    for length in ([2, 3], [20, 30]):  # sums: in how many tokens a tokenizer cuts an answer is immaterial
        options["length"] = np.array([[length]])
        loss, metrics = ipo(table, reference, tau=0.1, **options)
        assert float(loss) == pytest.approx((2.0 - 5.0) ** 2)  # grown by 2 nats of the 5 that it should
        assert float(metrics["margin"]) == pytest.approx(2.0)
        assert (float(metrics["reward_chosen"]), float(metrics["reward_rejected"])) == (1.0, -1.0)
        value, gradient = jax.value_and_grad(lambda l: ipo(l, reference, tau=0.25, **options)[0])(table)
        assert float(value) == 0
        assert not np.any(gradient)


def test_dpo_at_its_reference_is_log_2_and_sends_no_gradient_into_it():
    given = problem()
    tables = given.pop("policy"), given.pop("reference")
    assert float(dpo(tables[0], tables[0], **given)[0]) == pytest.approx(np.log(2))
    assert not np.any(jax.grad(lambda reference: dpo(tables[0], reference, **given)[0])(tables[1]))


def test_orpo_is_finite_where_the_policy_is_sure():
    policy = np.array([[[0.0, -1e-9, -200.0]]], np.float32)
    options = {"chosen": np.array([0]), "length": np.ones((1, 1, 3), int)}
    for rejected in (1, 2):
        objective = partial(orpo, rejected=np.array([rejected]), **options)
        (loss, _), gradient = jax.value_and_grad(objective, has_aux=True)(policy)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"policy": np.zeros((2, 3))}, r"policy must have shape \[items, languages, candidates\]"),
        ({"reference": np.zeros((7, 3, 5))}, r"dpo: reference must have shape \[7, 3, 4\], not \[7, 3, 5\]"),
        ({"length": np.zeros((7, 3))}, "length must have shape"),
        ({"mask": np.zeros((7, 3))}, "mask must have shape"),
        ({"rejected": np.zeros(3, int)}, r"rejected must have shape \[7\] or \[7, 3\], not \[3\]"),
    ],
)
def test_wrong_shapes_are_named(wrong, message):
    given = problem() | wrong
    with pytest.raises(ValueError, match=message):
        dpo(given.pop("policy"), given.pop("reference"), **given)
