"""Options of objectives: each takes its own, alone and in stages, and a workdir keeps them all."""

import numpy as np
import pytest

from consistency_jax.config import default, stages_of, validate
from consistency_jax.config.stages import filled
from consistency_jax.data.examples import Examples
from consistency_jax.errors import ConfigError
from consistency_jax.objectives import Outputs, make_objective


@pytest.fixture
def config():
    config = default()
    config.model.path = "somewhere"
    return config


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "dpo",
            {"steer": {"en": 2.0}},
            r"objective.steer=\{'en': 2.0\}: dpo takes no steer; it takes: .*beta",
        ),
        ("dco", {"beta": 0.1}, r"dco takes no beta; it takes: steer, .* \(beta is for dpo, mpo, simpo\)"),
        ("simpo", {"gamma": 0.0}, "simpo takes no gamma; it takes: label_smoothing, beta, margin, rejected"),
        ("sft", {"rejected": "random"}, "sft takes no rejected; it takes: normalization"),
        ("pco_exact", {"samples": 8}, "pco_exact takes no samples"),
        ("dpo", {"bta": 0.5}, "unknown config key 'objective.bta' .did you mean 'beta'"),
        ("dpo", {"label_smoothing": 0.5}, r"objective.label_smoothing=0.5 must lie in \[0, 0.5\)"),
        ("ipo", {"tau": 0.0}, "objective.tau=0.0 must be greater than 0"),
    ],
)
@pytest.mark.parametrize("staged", [False, True])
def test_an_option_of_another_objective_is_refused_by_name(config, name, options, message, staged):
    if staged:
        config.stages = ("sft", "second")
        config.stage = {"second": {"objective": {"name": name, **options}}}
        message = f"stage second: .*{message}"
    else:
        config.objective.update({"name": name, **options})
    with pytest.raises(ConfigError, match=message):
        validate(config)


def test_stages_take_of_the_runs_options_what_is_theirs(config):
    config.stages = ("dpo", "dco")
    config.objective.update({"beta": 0.5, "steer": {"en": 3.0}})
    validate(config)
    first, second = (stage.config.objective.to_dict() for stage in stages_of(config))
    assert first["beta"] == 0.5
    assert "steer" not in first
    assert second["steer"] == {"en": 3.0}
    assert "beta" not in second
    config.objective.kl = "token"  # neither takes it
    with pytest.raises(ConfigError, match="stage dpo: objective.kl='token': dpo takes no kl"):
        validate(config)


def test_what_a_workdir_keeps_has_every_option_and_means_the_same(config):
    config.objective.name = "simpo"
    config.objective.margin = 0.5
    kept = filled(config)
    assert kept.objective.to_dict() == {
        "name": "simpo",
        "beta": 2.0,
        "label_smoothing": 0.0,
        "margin": 0.5,
        "rejected": "random",
    }
    validate(kept)
    assert filled(kept).to_dict() == kept.to_dict()
    config = default()
    config.model.path, config.stages, config.objective.partners = "somewhere", ("mpo", "dco"), "random"
    kept = filled(config)
    assert kept.stage.mpo.to_dict() == {"objective": {"name": "mpo", "beta": 1.0, "rejected": "random"}}
    assert kept.stage.dco.objective.partners == "random"
    assert kept.objective.to_dict() == {"name": "dco"}
    validate(kept)
    assert filled(kept).to_dict() == kept.to_dict()


# Two items in two languages, two candidates each: sums of log-probabilities in nats, and tokens.
POLICY = np.array([[[-2.0, -6.0], [-3.0, -3.5]], [[-8.0, -1.0], [-2.0, -9.0]]], np.float32)
LENGTH = np.array([[[2, 3], [1, 2]], [[4, 1], [2, 3]]], np.int32)


def examples(**changes):
    values = {
        "mask": np.ones((2, 2, 2), bool),
        "length": LENGTH,
        "gold": np.array([0, 0], np.int32),
        "partners": np.full((2, 2), -1, np.int32),
        "rejected": np.ones((2, 2), np.int32),
        "reference": POLICY * 0.5 - 1,
        "state": np.zeros((2, 3), np.float32),
        "prompts": np.zeros((0, 0), bool),
        "seed": np.zeros(2, np.uint32),
    }
    return Examples(**values | changes)


def by_hand(name):
    """The published formulas with the papers' settings, pair by pair: SimPO's beta 2 and margin 1, MPO's beta 1."""
    gap = POLICY[..., 0] / LENGTH[..., 0] - POLICY[..., 1] / LENGTH[..., 1]
    if name == "simpo":
        return np.mean(np.log1p(np.exp(-(2.0 * gap - 1.0))))
    reference = POLICY * 0.5 - 1
    english = reference[:, 0, 0] / LENGTH[:, 0, 0] - reference[:, 0, 1] / LENGTH[:, 0, 1]
    return np.mean((1.0 * gap[:, 1] - english) ** 2)


@pytest.mark.parametrize("name", ["simpo", "mpo"])
@pytest.mark.parametrize("staged", [False, True])
def test_an_objective_that_is_only_named_has_its_own_beta(config, name, staged):
    """It was dpo's 0.1 for all of them."""
    if staged:
        config.stages = (name,)
    else:
        config.objective.name = name
    validate(config)
    (stage,) = stages_of(config)
    loss, _ = make_objective(stage.config.objective, ("en", "de"))
    value, _ = loss(Outputs(POLICY, np.zeros((2, 2, 3), np.float32)), examples())
    assert float(value) == pytest.approx(by_hand(name), rel=1e-6)
