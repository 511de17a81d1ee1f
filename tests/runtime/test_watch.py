"""What a command tells of its time, and which steps it is asked to trace."""

import gzip
import json
import time
from pathlib import Path

import jax.numpy as jnp
import pytest
from etils import epath

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.watch import Watch, profiled_steps


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("5", "--profile='5' should be FIRST:LAST, two steps counted from 1"),
        ("0:3", "--profile='0:3' should be"),
        ("4:3", "--profile='4:3' should be"),
        ("2:x", "--profile='2:x' should be"),
        ("9:11", "--profile=9:11 names a step behind the last one, 10"),
    ],
)
def test_what_names_no_steps_is_told(profile, message):
    with pytest.raises(ConfigError, match=message):
        profiled_steps(profile, Path("run"), total=10)


def test_steps_to_trace_are_counted_from_one():
    assert list(profiled_steps("8:10", Path("run"), total=10)) == [8, 9, 10]
    assert list(profiled_steps("3:3", Path("run"))) == [3]
    assert not profiled_steps("", Path("run"))
    with pytest.raises(ConfigError, match="cannot in a bucket"):
        profiled_steps("3:3", epath.Path("gs://bucket/run"))


def test_the_time_until_the_first_step_is_told_once_and_by_parts(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = Watch()
    for part, seconds in (("data", 2), ("model", 30), ("data", 0.5)):
        watch.part(part)
        now[0] += seconds
    watch.part("compiling", "training")
    for _ in range(2):
        watch.begin()
        now[0] += 10
        watch.end(jnp.zeros(1))
    assert capsys.readouterr().out == (
        "    32 s  training\nfirst step after 42.5 s: data 2.5 s, model 30.0 s, compiling 10.0 s\n"
    )


def test_a_watch_that_was_told_nothing_says_nothing(tmp_path, capsys):
    watch = Watch(range(5, 7), tmp_path)
    watch.begin()
    watch.end(jnp.zeros(1))
    assert capsys.readouterr().out == ""
    watch.close()
    assert capsys.readouterr().out == "profile: none of step 5 to 6 was computed by this command\n"
    assert not list(tmp_path.iterdir())


def traced(folder: Path) -> list[int]:
    """The steps that have a mark in the one trace of a folder."""
    (path,) = folder.rglob("*.xplane.pb")
    (path,) = path.parent.glob("*.trace.json.gz")  # what Perfetto reads
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == folder.name)


def test_a_trace_holds_the_steps_asked_for_of_each_stage(tmp_path):
    watch = Watch(range(3, 5), tmp_path)
    for stage, first in (
        ("one", 1),
        ("two", 4),
    ):  # the second one was resumed, in the middle of what is asked for
        for step in range(first, 7):
            watch.begin(step, stage)
            watch.end(jnp.zeros(1), step)
    assert traced(tmp_path / "one") == [3, 4]
    assert traced(tmp_path / "two") == [4]
