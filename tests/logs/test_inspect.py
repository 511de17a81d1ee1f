"""Logs of Inspect, in the form that its versions 0.3.69 and 0.3.285 wrote here, as JSON and packed."""

import json
import zipfile
from pathlib import Path

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.logs import read_logs

PLACES = {"en": ("Egypt", "Kenya", "Chad"), "sw": ("Misri", "Kenya", "Chadi")}
DATE = "2026-11-29T13:06:54+00:00"
PACKINGS = {"json": None, "stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED, "zstd": 93}


def sample(number: int, language: str, answer: str, **changes: object) -> dict:
    """Of three questions, of which the first, second and third place is right."""
    right = "ABC"[number]
    return {
        "id": f"q{number}",
        "epoch": 1,
        "input": f"{language} {number}?",
        "choices": list(PLACES[language]),
        "target": right,
        "scores": {
            "choice": {"value": "C" if answer == right else "I", "answer": answer, "explanation": "..."}
        },
        "metadata": {"key": f"k{number}"},
    } | changes


def log(
    folder: Path,
    language: str,
    samples: object,
    packing: str = "json",
    model: str = "mockllm/model",
    date: str = DATE,
    version: int = 2,
    ended: bool = True,
    status: str = "success",
) -> Path:
    about = {"task": f"places_{language}", "model": model, "created": date}
    head = {"version": version, "status": status, "eval": about}
    name = f"{date.replace(':', '-')}_places-{language}_{model.replace('/', '-')}"
    if packing == "json":
        file = folder / f"{name}.json"
        file.write_text(json.dumps(head | {"samples": samples}), "utf8")
        return file
    if packing == "zstd":
        pytest.importorskip("zipfile_zstd")
    file = folder / f"{name}.eval"
    with zipfile.ZipFile(file, "w", PACKINGS[packing]) as archive:
        archive.writestr("_journal/start.json", json.dumps(head))
        for own in samples:
            archive.writestr(f"samples/{own['id']}_epoch_{own['epoch']}.json", json.dumps(own))
        if ended:
            archive.writestr("header.json", json.dumps(head))
    return file


def answers(language: str, letters: str) -> list[dict]:
    return [sample(n, language, letter.strip()) for n, letter in enumerate(letters)]


@pytest.mark.parametrize("packing", PACKINGS)
def test_answers_by_question_and_language(tmp_path, packing):
    log(tmp_path, "en", answers("en", "ABA"), packing)
    log(tmp_path, "sw", answers("sw", "AC ")[::-1], packing, ended=False)  # in another order
    logged = read_logs(tmp_path)
    assert logged.model == "mockllm/model"
    table = logged.tables["places"]
    assert (table.ids, table.languages, table.known) == (("q0", "q1", "q2"), ("en", "sw"), "answers")
    assert table.logp.argmax(-1).tolist() == [[0, 0], [1, 2], [0, 3]]
    assert table.gold.tolist() == [0, 1, 2]
    item = logged.items["places"][0]
    assert item.candidates["sw"] == ("A) Misri", "B) Kenya", "C) Chadi")
    assert logged.items["places"][2].candidates["en"] == ("A) Egypt", "B) Kenya", "C) Chad", "(no answer)")
    assert item.prompts["en"] == "en 0?"
    assert any("1 of 6 answers are empty" in note for note in logged.notes)
    assert read_logs(tmp_path, join="key").tables["places"].ids == ("k0", "k1", "k2")
    with pytest.raises(DataError, match="no name; its metadata has key"):
        read_logs(tmp_path, join="name")


def test_letters_are_read_as_they_were_written(tmp_path):
    for language in ("en", "sw"):
        told = [("b", "I"), ("B.", "C"), ("it is C", "C")]
        scores = [{"answer": {"value": value, "answer": answer}} for answer, value in told]
        log(tmp_path, language, [sample(n, language, "", scores=own) for n, own in enumerate(scores)])
    table = read_logs(tmp_path).tables["places"]
    assert table.logp.argmax(-1).tolist() == [[1, 1], [1, 1], [2, 2]]


def test_answers_in_other_words_count_as_the_scorer_says(tmp_path):
    for language, given in {
        "en": ("It is Egypt.", "Kenya", "Sudan"),
        "sw": ("Misri", "Chadi", "Chadi"),
    }.items():
        samples = []
        for n, (text, right) in enumerate(zip(given, PLACES[language], strict=True)):
            value = {"en": "C", "sw": 1.0}[language] if right in text else {"en": "I", "sw": 0.0}[language]
            score = {"match": {"value": value, "answer": text}}
            chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{n}?"}]
            samples.append(sample(n, language, "", choices=None, target=[right], scores=score, input=chat))
        log(tmp_path, language, samples)
    logged = read_logs(tmp_path)
    items = logged.items["places"]
    names = [
        [item.candidates[language][row.argmax()] for language, row in zip(("en", "sw"), rows, strict=True)]
        for item, rows in zip(items, logged.tables["places"].logp, strict=True)
    ]
    assert names == [["Egypt", "Misri"], ["Kenya", "Chadi"], ["Sudan", "Chadi"]]
    assert logged.tables["places"].logp.argmax(-1).tolist() == [[0, 0], [0, 1], [1, 0]]
    assert [item.candidates["en"][item.gold] for item in items] == list(PLACES["en"])
    assert items[1].prompts["sw"] == "1?"


def test_the_first_epoch_counts_and_the_newest_log(tmp_path):
    log(tmp_path, "en", answers("en", "CCC"))
    twice = answers("en", "AAA") + [own | {"epoch": 2} for own in answers("en", "BBB")]
    log(tmp_path, "en", twice, "deflated", date="2026-11-30T00:00:00+00:00")
    log(tmp_path, "sw", answers("sw", "AAA"))
    logged = read_logs(tmp_path)
    assert logged.tables["places"].logp.argmax(-1).tolist() == [[0, 0]] * 3
    assert not any("runs" in note for note in logged.notes)


def test_a_log_that_did_not_end_well_is_told(tmp_path):
    log(tmp_path, "en", answers("en", "AB"), status="error")
    log(tmp_path, "sw", answers("sw", "ABC"), "deflated", ended=False, status="started")
    notes = read_logs(tmp_path).notes
    assert [note.partition(" (")[0] for note in notes if "did not end well" in note] == [
        "places: the log in en did not end well",
        "places: the log in sw did not end well",
    ]
    assert "places: 2 of 3 questions are there in all languages" in notes


ONE = sample(0, "en", "A")


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([], "a log without samples"),
        (3, "samples are no list"),
        ([3], "no sample of Inspect"),
        ([ONE, ONE], "id 'q0' stands twice"),
        ([ONE | {"scores": None}], "no score .none was made"),
        ([ONE | {"scores": {}, "error": {"message": "out of time"}}], "all 1 samples ended with an error"),
        ([ONE | {"target": "B"}], "the right answer is"),
        ([ONE | {"target": "D"}], "'D' is none of the candidates"),
        ([ONE | {"choices": ["Egypt", "Kenya"]}], "candidates, where"),
        ([ONE | {"id": "other"}], "no question is there in two"),
        ([{key: value for key, value in ONE.items() if key != "target"}], "no sample of Inspect .*target"),
        ([ONE | {"target": {"a": 1}}], "no sample of Inspect"),
        ([ONE | {"input": []}], "no sample of Inspect"),
        ([ONE | {"scores": {"choice": 1}}], "no sample of Inspect"),
        ([ONE | {"target": ["A", "B"]}], "A, B are right together"),
    ],
)
def test_samples_that_do_not_fit_are_told(tmp_path, samples, told):
    log(tmp_path, "en", samples)
    log(tmp_path, "sw", answers("sw", "AAA"))
    with pytest.raises(DataError, match=told):
        read_logs(tmp_path)


def test_what_is_no_log_is_told(tmp_path):
    log(tmp_path, "sw", answers("sw", "AAA"), "deflated")
    with pytest.raises(DataError, match="no task is there in two languages: places_sw"):
        read_logs(tmp_path)
    file = log(tmp_path, "en", answers("en", "AAA"), version=3)
    with pytest.raises(DataError, match=r"no log of Inspect .version 3"):
        read_logs(tmp_path)
    for text in ("{", "[]", '{"version": 2}', '{"version": 2, "eval": {"task": "x"}}'):
        file.write_text(text, "utf8")
        with pytest.raises(DataError, match="no log of Inspect"):
            read_logs(tmp_path)
    file.unlink()
    log(tmp_path, "en", answers("en", "AAA"), model="other")
    with pytest.raises(DataError, match="several models or runs, mockllm/model, other"):
        read_logs(tmp_path)


def test_a_damaged_log_or_sample_beside_others_is_left_out_and_told(tmp_path):
    failed = ONE | {"id": "q9", "scores": {}, "error": {"message": "out of time"}}
    log(tmp_path, "en", [*answers("en", "AAA"), failed])
    log(tmp_path, "sw", answers("sw", "AAA"))
    (tmp_path / "2026-11-30T13-06-54+00-00_places-sw_mockllm-model.json").write_text("{", "utf8")
    logged = read_logs(tmp_path)
    assert len(next(iter(logged.items.values()))) == 3
    assert any("1 samples in en ended with an error, left out" in note for note in logged.notes)
    assert any(note.startswith("left out: ") and "no log of Inspect" in note for note in logged.notes)


def test_a_task_that_was_told_its_language_is_one_of_several(tmp_path):
    for code in ("en", "sw"):
        file = log(tmp_path, code, answers(code, "AAA"))
        text = json.loads(file.read_text("utf8"))
        text["eval"] |= {"task": "places", "task_args": {"language": code}}
        file.write_text(json.dumps(text), "utf8")
    (items,) = read_logs(tmp_path).items.values()
    assert items.languages == ("en", "sw")
    for file in tmp_path.glob("*.json"):
        text = json.loads(file.read_text("utf8"))
        text["eval"]["task"] = f"places_{text['eval']['task_args']['language']}"  # which the name tells, too
        file.write_text(json.dumps(text), "utf8")
    (items,) = read_logs(tmp_path).items.values()
    assert items.languages == ("en", "sw")


@pytest.mark.parametrize("packing", list(PACKINGS)[1:])
def test_a_damaged_log_is_told(tmp_path, packing):
    file = log(tmp_path, "sw", answers("sw", "AAA"), packing)
    whole, place = file.read_bytes(), zipfile.ZipFile(file).getinfo("header.json").header_offset + 50
    for damaged in (whole[:100], whole[:place] + b"\0" * 20 + whole[place + 20 :]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="no log of Inspect"):
            read_logs(file)
