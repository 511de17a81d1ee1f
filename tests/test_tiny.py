"""configs/tiny.py: every method and option is a config that can run."""

import importlib.util
from pathlib import Path

import pytest

from consistency_jax.config.checks import validate
from consistency_jax.config.stages import stages_of
from consistency_jax.data.sources import load_items
from consistency_jax.errors import ConfigError
from consistency_jax.objectives import OBJECTIVES
from consistency_jax.training.stages import load_training

spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parent.parent / "configs" / "tiny.py")
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


@pytest.mark.parametrize("method", tiny.METHODS | OBJECTIVES)
def test_every_method_is_a_valid_config(method: str):
    config = tiny.get_config(f"method={method}")
    validate(config)
    names = {stage.config.objective.name for stage in stages_of(config)}
    assert names == {method} if method in OBJECTIVES else names < set(OBJECTIVES)
    for stage in stages_of(tiny.get_config(f"method={method},lr=0.5")):
        assert stage.config.optimizer.learning_rate == 0.5


def test_the_weight_of_english_goes_to_what_takes_it():
    assert tiny.get_config("method=pco_exact,en=3").objective.steer.en == 3.0
    with pytest.raises(ConfigError, match="en=3 does nothing with method=dpo"):
        tiny.get_config("method=dpo,en=3")
    first, second = (stage.config.objective for stage in stages_of(tiny.get_config("method=dpo_dco,en=3")))
    assert "steer" not in first
    assert (second.steer.en, second.steer.sw, second.scale) == (3.0, 1.0, "one")


def test_languages_and_relations_are_left_out_of_training():
    config = tiny.get_config("unseen=zh+hi,relation=city_country")
    items, languages = load_training(config)
    assert languages == ("en", "fr", "ru", "ar", "sw")
    assert {item.group for item in items} == {"city_country"}
    assert config.data.languages == tuple(tiny.TOLD)
    groups = {item.group for item in load_items("cldr", split="test", languages=languages)}
    assert groups == set(tiny.RELATIONS) == {"city_country", *config.data.test_groups}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("method=dcoo", "method='dcoo'; choose from dco, "),
        ("unseen=zh+xx", "unseen='xx'; choose from en, fr"),
        ("unseen=" + "+".join(tiny.TOLD), "unseen='en.*' leaves no language to train on"),
        ("relation=rivers", "relation='rivers'; choose from city_country"),
    ],
)
def test_what_the_world_does_not_have_is_named(options: str, message: str):
    with pytest.raises(ConfigError, match=message):
        tiny.get_config(options)
