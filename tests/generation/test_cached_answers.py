"""Cached answers: a killed run asks only for those that it does not have."""

import json

import pytest
from table_generator import TableGenerator

from consistency_jax.errors import UserError
from consistency_jax.generation import Cut, Sampling
from consistency_jax.generation.cached_answers import CachedAnswers
from consistency_jax.generation.endpoint import Endpoint

PROMPTS = [f"prompt {n}\u2028" for n in range(10)]


def ask(generator, path, settings="model", **changes):
    arguments = {"n": 2, "sampling": Sampling(), "seed": 3} | changes
    return CachedAnswers(lambda: generator, path, settings, batch=4).generate(PROMPTS, **arguments)


def test_a_killed_run_asks_only_what_it_was_not_answered(tmp_path):
    def answer(prompt, s):
        return f"{prompt} {s}"

    whole, path = TableGenerator(answer), tmp_path / "answers.jsonl"
    expected = ask(whole, tmp_path / "other.jsonl")
    assert [len(prompts) for prompts in whole.asked] == [4, 4, 2]
    assert len(set(whole.seeds)) == 3
    with pytest.raises(KeyboardInterrupt):
        ask(TableGenerator(answer, fail_after=2), path)
    with path.open("a") as file:
        file.write('{"key": "half a li')  # a kill in the middle of a line
    rest = TableGenerator(answer)
    assert ask(rest, path) == expected
    assert (rest.asked, rest.seeds) == (whole.asked[2:], whole.seeds[2:])
    nothing = TableGenerator(answer)
    assert ask(nothing, path) == expected
    assert nothing.asked == []


def test_a_refused_prompt_is_its_own_fault_after_a_kill_too(tmp_path, serve):
    """Where a server has answered nothing yet, the request itself may be what is wrong."""

    def respond(body):
        return (400, b"") if body["prompt"] == "long" else (200, {"choices": [{"text": "x"}]})

    served = serve(respond)

    def asked(prompts):
        engine = CachedAnswers(
            lambda: Endpoint(served.url, "m", skip_refused=True), tmp_path / "answers.jsonl", "m", batch=2
        )
        return engine.generate(prompts, n=1, sampling=Sampling(), seed=0)

    assert asked(["a", "b"]) == [["x"], ["x"]]
    assert asked(["a", "b", "long"]) == [["x"], ["x"], [""]]


def test_what_was_cut_is_remembered_as_that(tmp_path):
    generator = TableGenerator(lambda prompt, s: (str, Cut)[s](f"{prompt} {s}"))
    for _ in range(2):
        answers = ask(generator, tmp_path / "answers.jsonl")
        assert [list(map(type, own)) for own in answers] == [[str, Cut]] * len(PROMPTS)
    assert len(generator.asked) == 3


@pytest.mark.parametrize("edited", ["answers", "key", "no digest", "3", "null", "[]", '"x"', "{}"])
def test_an_edited_line_is_asked_for_again(tmp_path, edited):
    generator, path = TableGenerator(lambda prompt, s: f"{prompt} {s}"), tmp_path / "answers.jsonl"
    expected = ask(generator, path)
    first, *others = path.read_text().splitlines(keepends=True)
    record = json.loads(first)
    if edited == "answers":
        record["answers"] = [["another"]] * 4
    elif edited == "key":
        record["answers"] = json.loads(others[0])["answers"]
        record["digest"] = json.loads(others[0])["digest"]
    elif edited == "no digest":
        del record["digest"]
    else:
        record = json.loads(edited)
    path.write_text("".join([json.dumps(record) + "\n", *others]))
    again = TableGenerator(lambda prompt, s: f"{prompt} {s}")
    assert ask(again, path) == expected
    assert again.asked == generator.asked[:1]


def test_a_file_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "q1"}\n{"id": "q2"}\n')
    with pytest.raises(UserError, match="answers.jsonl is there, and holds no answers"):
        ask(TableGenerator(lambda prompt, s: "x"), path)
    assert path.read_text().count("q") == 2


@pytest.mark.parametrize(
    "change",
    [{"settings": "other"}, {"n": 3}, {"seed": 4}, {"sampling": Sampling(temperature=0.5)}],
)
def test_cached_answers_belong_to_their_settings(tmp_path, change):
    generator = TableGenerator(lambda prompt, s: "x")
    ask(generator, tmp_path / "answers.jsonl")
    ask(generator, tmp_path / "answers.jsonl", **change)
    assert len(generator.asked) == 6
