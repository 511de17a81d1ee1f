"""consistency-jax ask: questions, answered in words by a model or a server, as lines that an audit reads."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from test_train import config_file

from consistency_jax.ask import ask
from consistency_jax.data.items import DataError
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.logs import read_logs
from consistency_jax.logs.__main__ import audit_logs
from consistency_jax.models.tokenizers import load_tokenizer

RIGHT = {"en": ["Egypt"], "sw": ["Misri", "Misri ya kale"]}


@pytest.fixture
def open_questions(tmp_path, monkeypatch):
    """A file of six questions that are answered in words, in two languages; the last one in English alone."""
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    lines = [
        {
            "id": f"q{n}",
            "group": "en" if n % 2 else "sw",
            "prompts": {"en": f"Where is {n}?", "sw": f"Iko wapi {n}?"} if n < 5 else {"en": "Where is 5?"},
            "targets": RIGHT if n < 5 else {"en": ["Chad"]},
        }
        for n in range(6)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_server_answers_and_an_audit_tells_what_that_is_worth(open_questions, serve, tmp_path):
    def respond(body):
        number = re.search(r"(\d)\?\n?$", body["prompt"])[1]
        swahili = "Iko wapi" in body["prompt"]
        text = {"0": " Misri" if swahili else "Egypt\nQ", "1": "Chad", "2": " "}.get(number, "Misri")
        return 200, {"choices": [{"text": text}]}

    served = serve(respond)
    config = config_file("ask.py", f"path=m,data={open_questions}")
    out = tmp_path / "answers.jsonl"
    ask(config, out, served.url)
    lines = read(out)
    assert [(line["id"], line["language"]) for line in lines[:3]] == [
        ("q0", "en"),
        ("q0", "sw"),
        ("q1", "en"),
    ]
    assert len(lines) == 11
    assert lines[0] == {
        "id": "q0",
        "language": "en",
        "group": "sw",
        "model": "m",
        "prompt": "Where is 0?",
        "answer": "Egypt",
        "gold": ["Egypt"],
    }
    assert [line["answer"] for line in lines[2:6]] == ["Chad", "Chad", None, None]
    assert served.asked[0]["stop"] == ["\n"]
    count = len(served.asked)
    ask(config, out, served.url)  # nothing is asked again
    assert (len(served.asked), read(out)) == (count, lines)
    found = audit_logs(out, tmp_path / "run", match="spelling")["base"]["answers"]
    # Of the five that both have: q0 is right in both, q1 wrong alike, q2 empty, q3 and q4 right in Swahili alone.
    assert found["top1_agreement_all"] == 40
    assert found["accuracy_non_en"] == 60
    assert found["accuracy_en"] == 20
    assert found["mother_tongue_non_en"] == pytest.approx(100 / 3)  # q0, q2, q4: 2 of 3 against 1
    config.evaluation.generation.max_tokens += 1
    with pytest.raises(
        ConfigError, match="is there, with answers to other questions, of another model or by"
    ):
        ask(config, out, served.url)
    assert (len(served.asked), read(out)) == (count, lines)  # before anything is asked
    config.evaluation.generation.max_tokens -= 1
    out.write_text("mine\n")
    with pytest.raises(ConfigError, match="answers.jsonl is there, and holds something else"):
        ask(config, out, served.url)
    (tmp_path / "b.jsonl").write_text("mine\n")
    with pytest.raises(
        ConfigError, match="b.jsonl is there, and nothing beside it says that it was made here"
    ):
        ask(config, tmp_path / "b.jsonl", served.url)
    with pytest.raises(ConfigError, match="is a folder: name a file"):
        ask(config, tmp_path, served.url)
    assert out.read_text() == (tmp_path / "b.jsonl").read_text() == "mine\n"
    assert len(served.asked) == count


def test_solved_questions_stand_before_each_other_one(open_questions, questions, serve, tmp_path):
    served = serve(lambda body: (200, {"choices": [{"text": "x"}]}))
    ask(config_file("ask.py", f"path=m,data={open_questions}"), tmp_path / "a.jsonl", served.url, shots=2)
    asked = sorted(body["prompt"] for body in served.asked)
    assert len(asked) == 7
    assert read(tmp_path / "a.jsonl")[0]["prompt"] == "Where is 2?"
    assert asked[0] == "Iko wapi 0?\nMisri\n\nIko wapi 1?\nMisri\n\nIko wapi 2?\n"
    served.asked.clear()
    config = config_file("ask.py", f"path=m,data={questions},languages=en+de,items=3")
    ask(config, tmp_path / "b.jsonl", served.url, shots=1)
    first = read(tmp_path / "b.jsonl")[0]
    (prompt,) = {body["prompt"] for body in served.asked if body["prompt"].endswith(first["prompt"])}
    (solved, own) = prompt.split("\n\n")
    assert re.fullmatch(r"The capital of place \d+ is (Paris|Madrid|Rome)", solved)
    assert re.fullmatch(r"The capital of place \d+ is", own)
    assert first["candidates"] == ["Paris", "Madrid", "Rome"]
    assert first["gold"][0] in first["candidates"]
    with pytest.raises(ConfigError, match="--shots=6 leave none of 6 questions to be asked in two languages"):
        ask(config_file("ask.py", f"path=m,data={open_questions}"), tmp_path / "c.jsonl", served.url, shots=6)


def test_a_model_answers_itself_several_times(open_questions, small_model, tmp_path):
    words = [sys.executable, "-m", "consistency_jax", "ask", f"--path={small_model}", "--temperature=1"]
    words += [f"--data={open_questions}", "--samples=3", "--max_tokens=4", f"--out={tmp_path / 'a.jsonl'}"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"next: consistency-jax audit --from={tmp_path / 'a.jsonl'} --match=spelling" in done.stdout
    lines = read(tmp_path / "a.jsonl")
    assert [len(line["answer"]) for line in lines] == [3] * 11
    assert len({answer for line in lines for answer in line["answer"]}) > 5
    found = audit_logs(tmp_path / "a.jsonl", tmp_path / "run")["base"]["answers"]
    assert 0 <= found["drawn_agreement_all"] < 100


@pytest.mark.parametrize(
    ("options", "more", "told"),
    [
        ("", {"samples": 2}, "--samples=2 at temperature 0 are one answer: set --temperature=1"),
        (",languages=en+xx", {}, "unknown language 'xx'"),
        (",languages=en", {}, "en alone has nothing to be compared with"),
        ("", {"shots": 5}, "--shots=5 leave none of 6 questions to be asked in two languages"),
        (",max_tokens=0", {}, "evaluation.generation.max_tokens"),
    ],
)
def test_what_cannot_be_asked_is_told_first(open_questions, serve, tmp_path, options, more, told):
    served = serve(lambda body: (200, {"choices": [{"text": "x"}]}))
    config = config_file("ask.py", f"path=m,data={open_questions}{options}")
    with pytest.raises(UserError, match=told):
        ask(config, tmp_path / "a.jsonl", served.url, **more)
    assert served.asked == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("data=cldr", "--path is missing"),
        ("path=x", "--data is missing"),
        ("path=x,data=nope", "data='nope'"),
    ],
)
def test_a_config_without_a_model_or_questions_is_told(options, told):
    with pytest.raises(ConfigError, match=told):
        config_file("ask.py", options)


def test_a_gap_at_the_start_is_not_asked_and_words_behind_one_are_told(tmp_path, serve, monkeypatch, capsys):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    served = serve(lambda body: (200, {"choices": [{"text": " Paris."}]}))
    prompts = {
        "en": "The capital of France is <mask>.",
        "tr": "<mask> Fransa'nın başkentidir.",
        "ja": "首都は<mask>である。",
    }
    item = {"id": "q", "gold": 0, "prompts": prompts, "candidates": dict.fromkeys(prompts, ["Paris", "Roma"])}
    (tmp_path / "q.jsonl").write_text(json.dumps(item) + "\n")
    ask(config_file("ask.py", f"path=m,data={tmp_path / 'q.jsonl'}"), tmp_path / "a.jsonl", served.url)
    assert sorted(body["prompt"] for body in served.asked) == ["The capital of France is", "首都は"]
    assert [line["answer"] for line in read(tmp_path / "a.jsonl")] == [
        "Paris",
        "Paris.",
    ]  # the sentence has a full stop
    told = capsys.readouterr().out
    assert "note: 1 of 3 prompts begin with their gap, and are not asked" in told
    assert "note: in 1 of 3 prompts words stand behind the gap" in told
    item["prompts"] = {code: f"<mask> {code}" for code in prompts}
    (tmp_path / "q.jsonl").write_text(json.dumps(item) + "\n")
    with pytest.raises(ConfigError, match="every question begins with its gap"):
        ask(config_file("ask.py", f"path=m,data={tmp_path / 'q.jsonl'}"), tmp_path / "b.jsonl", served.url)


def test_each_language_has_its_shots(tmp_path, serve, monkeypatch):
    """Questions of two languages each: solved ones are taken until every language has enough."""
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    served = serve(lambda body: (200, {"choices": [{"text": "x"}]}))
    lines = [
        {
            "id": f"{code}{n}",
            "prompts": {code: f"{code} {n}?", "en": f"en {code} {n}?"},
            "targets": {code: ["a"], "en": ["b"]},
        }
        for code in ("fr", "sv")
        for n in range(3)
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = config_file("ask.py", f"path=m,data={tmp_path / 'q.jsonl'}")
    ask(config, tmp_path / "a.jsonl", served.url, shots=1)
    assert sorted({body["prompt"] for body in served.asked}) == [
        "en fr 0?\nb\n\nen sv 1?\n",
        "en fr 0?\nb\n\nen sv 2?\n",
        "sv 0?\na\n\nsv 1?\n",
        "sv 0?\na\n\nsv 2?\n",
    ]


def test_a_prompt_that_would_be_cut_is_told(small_model, tmp_path, monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    prompts = {"en": "word " * 900, "sw": "Wapi?"}
    (tmp_path / "q.jsonl").write_text(json.dumps({"id": "q", "prompts": prompts}) + "\n")
    config = config_file("ask.py", f"path={small_model},data={tmp_path / 'q.jsonl'}")
    with pytest.raises(
        ConfigError, match=r"a prompt has [\d,]+ tokens, and data.max_length=1024 would cut it"
    ):
        ask(config, tmp_path / "a.jsonl")


def test_a_prompt_that_cannot_be_asked_is_told_by_its_place_or_left_out(
    small_model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    shutil.copytree(small_model, tmp_path / "m")
    tokenizer = load_tokenizer(small_model)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | replace('Bonn', '') }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "m")
    lines = [
        {
            "id": f"q{n}",
            "prompts": {"en": f"Where is {city}?", "sw": "Wapi?"},
            "targets": {"en": ["a"], "sw": ["b"]},
        }
        for n, city in enumerate(("Paris", "Rome", "Bonn"))
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = config_file(
        "ask.py", f"path={tmp_path / 'm'},data={tmp_path / 'q.jsonl'},chat=True,max_tokens=2"
    )
    with pytest.raises(DataError, match="q.jsonl:3.*the chat template leaves a part of the prompt out"):
        ask(config, tmp_path / "a.jsonl")
    config.data.on_error = "skip"
    ask(config, tmp_path / "a.jsonl")
    assert "note: 1 prompts are not asked: " in capsys.readouterr().out
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 5


def test_audits_of_two_models_stand_on_one_board(open_questions, serve, tmp_path):
    """What was asked is the same, whatever they answered."""
    from consistency_jax.evaluation.reports import asked

    digests = []
    for name, text in (("a", "Egypt"), ("b", "Chad")):
        served = serve(lambda body, text=text: (200, {"choices": [{"text": text}]}))
        ask(
            config_file("ask.py", f"path={name},data={open_questions}"),
            tmp_path / f"{name}.jsonl",
            served.url,
        )
        logged = read_logs(tmp_path / f"{name}.jsonl")
        assert logged.model == name
        digests.append(asked(logged.items["answers"], logged.tables["answers"]))
    assert digests[0] == digests[1]


def test_an_audit_of_open_questions_says_who_asks_them(open_questions, small_model, tmp_path):
    from consistency_jax.evaluate import evaluate_workdir

    config = config_file("audit.py", f"path={small_model},data={open_questions}")
    with pytest.raises(UserError, match="'q0' is a bare prompt.*consistency-jax ask"):
        evaluate_workdir(config, tmp_path / "run")
