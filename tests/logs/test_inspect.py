"""Logs of Inspect, written by it with answers that are given to it in the place of a model's."""

import json
import time
from pathlib import Path

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.logs import read_logs

pytestmark = pytest.mark.slow
inspect_ai = pytest.importorskip("inspect_ai")

PLACES = {"en": ("Egypt", "Kenya", "Chad"), "sw": ("Misri", "Kenya", "Chadi")}


def log(
    folder: Path, language: str, answers: list[str], form: str = "eval", epochs: int = 1, **changes
) -> None:
    """A log of three questions, of which the first, second and third place is right."""
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput, get_model
    from inspect_ai.scorer import choice, match
    from inspect_ai.solver import generate, multiple_choice

    written = changes.pop("written", False)
    samples = [
        Sample(
            id=f"q{n}",
            input=f"{language} {n}?",
            target=place if written else "ABC"[n],
            choices=None if written else list(PLACES[language]),
            metadata={"key": f"k{n}"},
        )
        for n, place in enumerate(PLACES[language])
    ]
    name = changes.pop("model", "model")
    outputs = [ModelOutput.from_content(f"mockllm/{name}", text) for text in answers]
    task = inspect_ai.Task(
        name=f"places_{language}",
        dataset=MemoryDataset(samples),
        solver=generate() if written else multiple_choice(),
        scorer=match(location="any") if written else choice(),
    )
    model = get_model(f"mockllm/{name}", custom_outputs=outputs, memoize=False)
    inspect_ai.eval(
        task, model=model, log_dir=str(folder), log_format=form, display="none", max_samples=1, epochs=epochs
    )


@pytest.mark.parametrize("form", ["eval", "json"])
def test_answers_by_question_and_language(tmp_path, form):
    log(tmp_path, "en", ["ANSWER: A", "ANSWER: B", "ANSWER: A"], form)
    log(tmp_path, "sw", ["ANSWER: A", "ANSWER: C", "I do not know"], form)
    logged = read_logs(tmp_path)
    assert logged.model == "mockllm/model"
    table = logged.tables["places"]
    assert (table.ids, table.languages, table.ranked) == (("q0", "q1", "q2"), ("en", "sw"), False)
    assert table.logp.argmax(-1).tolist() == [[0, 0], [1, 2], [0, 3]]
    assert table.gold.tolist() == [0, 1, 2]
    item = logged.items["places"][0]
    assert item.candidates["sw"] == ("A) Misri", "B) Kenya", "C) Chadi", "(no answer)")
    assert item.prompts["en"] == "en 0?"
    assert [note for note in logged.notes if "1 answers are empty" in note]
    assert read_logs(tmp_path, join="key").tables["places"].ids == ("k0", "k1", "k2")
    with pytest.raises(DataError, match="no name; its metadata has key"):
        read_logs(tmp_path, join="name")


def test_answers_in_other_words_count_as_the_scorer_says(tmp_path):
    log(tmp_path, "en", ["It lies in Egypt.", "Kenya", "Sudan"], written=True)
    log(tmp_path, "sw", ["Misri", "Chadi", "Chadi"], written=True)
    logged = read_logs(tmp_path)
    names = [
        [item.candidates[language][row.argmax()] for language, row in zip(("en", "sw"), rows, strict=True)]
        for item, rows in zip(logged.items["places"], logged.tables["places"].logp, strict=True)
    ]
    assert names == [
        ["Egypt", "Egypt"],
        ["Kenya", "Chadi"],
        ["Sudan", "Chad"],
    ]  # what is right in words of English
    assert [item.candidates["en"][item.gold] for item in logged.items["places"]] == list(PLACES["en"])


def test_the_first_epoch_counts_and_the_newest_log(tmp_path):
    log(tmp_path, "en", ["ANSWER: C"] * 3)
    time.sleep(1.1)  # Inspect tells the second alone
    log(tmp_path, "en", ["ANSWER: A", "ANSWER: B"] * 3, epochs=2)
    log(tmp_path, "sw", ["ANSWER: A"] * 3)
    answers = read_logs(tmp_path).tables["places"].logp.argmax(-1)
    assert answers[:, 1].tolist() == [0, 0, 0]
    assert set(answers[:, 0].tolist()) <= {0, 1}


def test_what_cannot_be_read(tmp_path):
    log(tmp_path, "en", ["ANSWER: A"] * 3, "json")
    with pytest.raises(DataError, match="no task is there in two languages: places_en"):
        read_logs(tmp_path)
    log(tmp_path, "sw", ["ANSWER: A"] * 3, "json")
    log(tmp_path, "sw", ["ANSWER: A"] * 3, "json", model="another")
    with pytest.raises(DataError, match="several models or runs, mockllm/another, mockllm/model"):
        read_logs(tmp_path)
    another = next(file for file in tmp_path.iterdir() if "another" in file.read_text("utf8"))
    another.unlink()
    file = sorted(tmp_path.iterdir())[0]
    whole = json.loads(file.read_text("utf8"))
    for changes, told in [
        ({"samples": []}, "a log without samples"),
        ({"samples": whole["samples"] + whole["samples"][:1]}, "id 'q0' stands twice"),
        ({"samples": [{**whole["samples"][0], "scores": None}]}, "no score"),
        ({"samples": [{**whole["samples"][0], "target": "B"}]}, "the right answer is"),
        ({"samples": [{**whole["samples"][0], "target": "D"}]}, "'D' is none of the candidates"),
        ({"samples": [{**whole["samples"][0], "choices": ["a", "b"]}]}, "2 candidates|3 candidates|none of"),
        (
            {"samples": [{**own, "id": f"x{own['id']}"} for own in whole["samples"]]},
            "no question is there in two",
        ),
        ({"samples": 3}, "no log of Inspect"),
        ({"eval": {}}, "no log of Inspect"),
        ({"version": 99}, "no log of Inspect"),
    ]:
        file.write_text(json.dumps(whole | changes), "utf8")
        with pytest.raises(DataError, match=told):
            read_logs(tmp_path)
    file.write_text("{", "utf8")
    with pytest.raises(DataError, match="no log of Inspect"):
        read_logs(tmp_path)
