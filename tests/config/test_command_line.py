"""What people write behind a command, and what its flags get of it."""

from pathlib import Path

import pytest

from consistency_jax.config.command_line import as_flags
from consistency_jax.config.parsing import parse_arg
from consistency_jax.errors import ConfigError
from consistency_jax.runtime.shipped import folder

KNOWN = {"config", "workdir", "show", "verbosity", "only_check_args"}
CUSTOM = folder() / "custom.py"


def flags_of(*words: str) -> list[str]:
    return as_flags(["train", *words], KNOWN, ["config", "workdir", "show"])[1:]


@pytest.mark.parametrize("name", ["custom", "custom.py", "configs/custom.py", str(CUSTOM)])
def test_a_config_that_comes_along_has_a_short_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert flags_of(f"--config={name}:lora=1") == [f"--config={CUSTOM}:lora=1"]
    assert flags_of("--config", name, "--workdir=w") == [f"--config={CUSTOM}", "--workdir=w"]


def test_a_file_of_ones_own_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("configs").mkdir()
    for name in ("configs/custom.py", "mine.py"):
        Path(name).touch()
        assert flags_of(f"--config={name}:a=b") == [f"--config={name}:a=b"]
    assert flags_of("--config=~/mine.py") == [f"--config={tmp_path / 'mine.py'}"]
    Path("tiny").mkdir()  # a folder of that name is none
    assert flags_of("--config=tiny") == [f"--config={folder() / 'tiny.py'}"]


def test_a_name_that_is_none_is_told_with_the_nearest():
    message = (
        "--config=gema3: there is no such file .did you mean 'gemma3'..; configs that come along: ask, audit"
    )
    with pytest.raises(ConfigError, match=message):
        flags_of("--config=gema3:size=1b")
    with pytest.raises(ConfigError, match="--config=other/tiny.py: there is no such file"):
        flags_of("--config=other/tiny.py")


def test_options_may_be_flags_of_their_own():
    words = flags_of(
        '--path=a,b "c"', "--workdir", "w", "--config=custom:seed=1", "--data", "q=1.jsonl", "--chat"
    )
    assert words[1:] == ["--workdir", "w"]
    given = parse_arg(words[0].partition(":")[2], path="", data="", seed=0, chat=False)
    assert given.to_dict() == {"path": 'a,b "c"', "data": "q=1.jsonl", "seed": 1, "chat": True}


def test_what_is_a_flag_stays_one():
    words = [
        "--workdir=w",
        "--noonly_check_args",
        "-v",
        "--config.optimizer.learning_rate=1",
        "--show",
        "2",
        "word",
    ]
    words += ["--", "--path=x"]
    known = KNOWN | {"v"}
    assert as_flags(["train", *words], known, [])[1:] == words


def test_columns_behind_a_comma_are_options_of_their_own():
    words = ["train", "--config=custom", "--data=a,b.csv", "--prompt={text}, x=1,candidates=a+b,gold=right"]
    (config,) = [word for word in as_flags(words, {"config"}, []) if word.startswith("--config=")]
    assert config.partition(":")[2] == 'data="a,b.csv",prompt="{text}, x=1",candidates=a+b,gold=right'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=custom", "--workdri=w"], r"--workdri is no flag .did you mean --workdir\?"),
        (
            ["--path=x"],
            "--path=x is no flag of this command, and there is no config to be an option of: name one",
        ),
        (["--config=custom", "path=x"], "'path=x' is neither a flag nor an option: write --path=x"),
    ],
)
def test_what_is_neither_is_told(words, message):
    with pytest.raises(ConfigError, match=message):
        flags_of(*words)


def test_tuples_as_people_write_them():
    for value in ("en,fr", "en+fr", "en,fr,"):
        assert flags_of(f"--config.data.languages={value}") == ["--config.data.languages=('en', 'fr')"]
    assert flags_of("--config.stages=dpo+dco") == ["--config.stages=('dpo', 'dco')"]
    assert flags_of("--config.data.languages", "en,fr") == ["--config.data.languages=('en', 'fr')"]
    assert flags_of("--config.data.languages=en") == ["--config.data.languages=('en',)"]
    for as_it_is in (
        "--config.data.languages=('en','fr')",
        "--config.data.path=a,b",
        "--config.objective.steer.en=4",
        "--config.evaluation.generation.stop=,",
        "--config.selection.stop=1+1=",
        "--config.unknown.key=a,b",
    ):
        assert flags_of(as_it_is) == [as_it_is]
