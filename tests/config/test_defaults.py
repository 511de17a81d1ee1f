"""The rows of the config: each default may stand where it stands, and choices are those of what acts on them."""

import inspect

import pytest

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import KEYS, default, help_text, rows
from consistency_jax.config.stages import flattened
from consistency_jax.objectives import OBJECTIVES, registry
from consistency_jax.runtime.keys import WIDTH, Rule
from consistency_jax.selection import SELECTIONS
from consistency_jax.training.optimizer import OPTIMIZERS, make_schedule
from consistency_jax.training.precision import ROUNDINGS


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_default_may_stand_in_its_key(objective):
    for name, row in rows(objective).items():
        row.check(name, row.default)
        assert row.help, name


def test_the_default_config_holds_every_row_and_no_other_key():
    options = {f"objective.{option}" for objective in OBJECTIVES.values() for option in objective.keys}
    known = {name for objective in OBJECTIVES for name in rows(objective)}
    assert options < known
    held = {name: value for name, value in flattened(default().to_dict()).items()}
    empty = {name for name in known if _stands(name) == {}}  # free dicts
    assert set(held) | empty == known
    assert all(held[name] is None for name in options - empty)  # unset: the objective's own default holds


def _stands(name):
    value = default().to_dict()
    for part in name.split("."):
        value = value[part]
    return value


def test_choices_are_those_of_the_floors_above():
    """Those of lower floors are taken from there; these the rows cannot import."""
    row = KEYS["optimizer"]
    assert set(row["name"].allowed) == set(OPTIMIZERS)
    assert set(row["rounding"].allowed) == set(ROUNDINGS)
    assert set(KEYS["selection"]["name"].allowed) == {"", *SELECTIONS}
    ends = {}
    for name in row["schedule"].allowed:
        config = default().optimizer
        config.schedule = name
        ends[name] = float(make_schedule(config, 1.0, 10)(5))
    assert ends == {"linear": 0.5, "cosine": pytest.approx(0.5), "constant": 1.0}


def test_help_shows_every_key_and_choice_within_its_columns():
    lines = help_text().splitlines()
    assert max(map(len, lines)) <= WIDTH
    text = " ".join(help_text().split())
    for section, keys in (*KEYS.items(), *(("objective", own.keys) for own in OBJECTIVES.values())):
        for key, row in keys.items():
            assert any(line.startswith(f"  {key} ") for line in lines), f"{section}.{key}"
            if not isinstance(row.allowed, Rule):
                assert f"[{' | '.join(choice or repr('') for choice in row.allowed)}]" in text
            assert row.help in text


def test_a_key_of_a_section_that_hides_a_method_is_read_and_set():
    config = default()
    config.batching.items, config.data.train.items = 6, 5
    assert (config.batching["items"], config.data.train["items"]) == (6, 5)
    config.model.path = "somewhere"
    validate(config)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_has_the_defaults_of_its_function(name):
    """Who calls `simpo` and who names it in a config get the same: beta stood at 0.1 there, and at 2.0 here."""
    taken = inspect.signature(getattr(registry, name)).parameters
    for option, row in OBJECTIVES[name].options.items():
        if option not in ("steer", "partners") and option in taken:  # arrays there
            assert row.default == taken[option].default, option
