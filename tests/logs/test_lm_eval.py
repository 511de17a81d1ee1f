"""Samples of lm-evaluation-harness: which tasks are one, what belongs together, and what cannot be read."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import consistency_jax as cj
from consistency_jax.data.items import MASK, DataError
from consistency_jax.logs import read_logs
from consistency_jax.report import summarise
from consistency_jax.table import NEVER

DATE = "2026-11-29T09-46-03.600470"
MODEL = "org__model"


def sample(number: int, scores: list[float], right: object, **changes: object) -> dict:
    """A line as the harness writes it: numbers as texts."""
    texts = [f" answer {k}" for k in range(len(scores))]
    answers = [[str(score), "False"] for score in scores]
    return {
        "doc_id": number,
        "doc": {"name": f"doc {number}"},
        "target": str(right),
        "arguments": {
            f"gen_args_{k}": {"arg_0": f"Q{number}:", "arg_1": text} for k, text in enumerate(texts)
        },
        "resps": [[answer] for answer in answers],
        "filtered_resps": answers,
        "filter": "none",
    } | changes


def write(folder: Path, task: str, samples: list[dict], date: str = DATE) -> Path:
    file = folder / MODEL / f"samples_{task}_{date}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(own) + "\n" for own in samples), encoding="utf8")
    return file


@pytest.fixture
def folder(tmp_path):
    """Two questions in two languages, one of them asked in the second language alone."""
    write(tmp_path, "facts_en", [sample(0, [-1.5, -2.0], 0), sample(1, [-1.0, -3.0, -2.0], 2)])
    write(
        tmp_path,
        "facts_sw",
        [sample(1, [-4.0, -3.0, -2.0], 2), sample(0, [-1.5, -2.5], 0), sample(2, [-1.0], 0)],
    )
    return tmp_path


def test_scores_stand_in_the_table_by_question_and_language(folder):
    logged = read_logs(folder)
    assert logged.model == MODEL
    assert list(logged.tables) == ["facts"]
    table, items = logged.tables["facts"], logged.items["facts"]
    assert table.ids == ("0", "1")
    assert table.languages == ("en", "sw")
    assert table.gold.tolist() == [0, 2]
    np.testing.assert_array_equal(table.logp[0], [[-1.5, -2, 0], [-1.5, -2.5, 0]])
    np.testing.assert_array_equal(table.logp[1], [[-1, -3, -2], [-4, -3, -2]])
    np.testing.assert_array_equal(table.mask[:, :, 2], [[False, False], [True, True]])
    assert table.bytes[0, 0].tolist() == [9, 9, 0]
    assert table.normalizations == ("sum", "bytes")
    assert items[1].candidates["sw"] == (" answer 0", " answer 1", " answer 2")
    with pytest.raises(ValueError, match="mean needs the number of tokens"):
        table.scores("mean")


def test_the_newest_samples_of_a_task_count(folder):
    write(folder, "facts_en", [sample(0, [-9.0, -2.0], 0)], "2026-11-30T00-00-00.0")
    table = read_logs(folder).tables["facts"]
    assert table.ids == ("0",)
    assert table.logp[0, 0].tolist() == [-9, -2]


def test_questions_are_joined_by_a_field(folder):
    write(folder, "facts_sw", [sample(7, [-1.5, -2.5], 0, doc={"name": "doc 0"})])
    with pytest.raises(DataError, match="no question is there in two languages of en, sw. .*--join=FIELD"):
        read_logs(folder)
    table = read_logs(folder, join="name").tables["facts"]
    assert table.ids == ("doc 0",)


@pytest.mark.parametrize(
    ("target", "right"),
    [("1", [1]), ("[0, 1]", [0, 1]), (" answer 1", [1]), ("other", []), ("7", []), ("[]", [])],
)
def test_what_is_right_is_a_number_a_list_or_a_text(tmp_path, target, right):
    for language in ("en", "sw"):
        write(tmp_path, f"facts_{language}", [sample(0, [-1.0, -2.0], target)])
    assert list(read_logs(tmp_path).items["facts"][0].right) == right


def test_requests_without_their_context_are_no_candidates(tmp_path):
    own = sample(0, [-1.0, -2.0, -5.0, -6.0], 1)
    for k, request in enumerate(own["arguments"].values()):
        request["arg_0"], request["arg_1"] = "Q0:" if k < 2 else "", f" answer {k % 2}"
    for language in ("en", "sw"):
        write(tmp_path, f"facts_{language}", [own])
    assert read_logs(tmp_path).tables["facts"].logp[0].tolist() == [[-1, -2], [-1, -2]]


def test_contexts_may_all_be_empty(tmp_path):
    own = sample(0, [-1.0, -2.0, -3.0, -4.0], 3)
    for request in own["arguments"].values():
        request["arg_0"] = ""
    for language in ("en", "sw"):
        write(tmp_path, f"facts_{language}", [own])
    assert read_logs(tmp_path).tables["facts"].logp[0, 0].tolist() == [-1, -2, -3, -4]


def test_the_first_of_several_filters_counts(tmp_path):
    for language in ("en", "sw"):
        other = sample(0, [-7.0, -8.0], 0, filter="other")
        write(tmp_path, f"facts_{language}", [sample(0, [-1.0, -2.0], 0), other])
    assert read_logs(tmp_path).tables["facts"].logp[0, 0].tolist() == [-1, -2]


def wrote(number: int, text: object, target: str, credit: float | None = None, name: str = "none") -> dict:
    """A line of a task whose answers are written, as mgsm_direct_en."""
    own = sample(number, [-1.0], target, filter=name, filtered_resps=[text])
    own["arguments"]["gen_args_0"]["arg_1"] = {"until": ["\n"], "do_sample": False}
    return own | {"exact_match": float(text == target) if credit is None else credit}


def test_written_answers_agree_by_text_and_number(tmp_path):
    lines = {
        "en": [
            wrote(0, "18", "18"),
            wrote(1, "1,000.", "1000"),
            wrote(2, "[invalid]", "7"),
            wrote(3, "Egypt", "Egypt"),
        ],
        "fr": [
            wrote(0, "18.0", "18"),
            wrote(1, "5", "1000"),
            wrote(2, "8", "7"),
            wrote(3, "l’Égypte", "Égypte", 1.0),
        ],
        "sw": [
            wrote(0, "$18", "18"),
            wrote(1, "1000", "1000"),
            wrote(2, "8", "7"),
            wrote(3, "misri!", "['Misri', 'Egipti']"),
        ],
    }
    for language, samples in lines.items():
        write(tmp_path, f"mgsm_{language}", samples)
    logged = read_logs(tmp_path)
    table, items = logged.tables["mgsm"], logged.items["mgsm"]
    assert table.known == "texts"
    answers = [
        [item.candidates[code][row.argmax()] for code, row in zip(table.languages, rows, strict=True)]
        for item, rows in zip(items, table.logp, strict=True)
    ]
    assert answers[1:3] == [["1,000.", "5", "1000"], ["(no answer)", "8", "8"]]
    assert answers[3] == ["Egypt", "Égypte", "misri!"]
    right = [row.argmax(-1).tolist() for row in table.logp]
    assert right == [[0, 0, 0], [0, 1, 0], [2, 1, 1], [0, 0, 0]]
    assert [item.candidates["fr"][item.gold] for item in items] == ["18.0", "1000", "7", "Égypte"]
    assert items[3].prompts["sw"] == "Q3:"


def test_the_last_of_several_filters_counts_for_written_answers(tmp_path):
    for language in ("en", "sw"):
        strict = [wrote(n, "", str(n), 0.0, "strict-match") for n in range(2)]
        found = [wrote(n, str(n), str(n), 1.0, "flexible-extract") for n in range(2)]
        write(tmp_path, f"mgsm_{language}", strict + found)
    table = read_logs(tmp_path).tables["mgsm"]
    assert table.logp.argmax(-1).tolist() == [[0, 0], [0, 0]]
    write(tmp_path, "mgsm_sw", [wrote(0, "0", "0"), wrote(0, "0", "0")])
    with pytest.raises(DataError, match="doc_id '0' stands twice"):
        read_logs(tmp_path)
    write(tmp_path, "mgsm_sw", [wrote(0, ["0"], "0")])
    with pytest.raises(DataError, match=r"no sample of lm_eval .*one answer is read, not \[\['0'\]\]"):
        read_logs(tmp_path)


def test_shares_of_credit_tell_nothing_of_what_is_right(tmp_path):
    """truthfulqa_mc2: `acc` is the share of all that are right, and the target always 0."""
    for language in ("en", "sw"):
        own = [sample(n, [-1.0, -2.0], "0", acc=acc) for n, acc in enumerate((0.37, 1.0, 0.0))]
        write(tmp_path, f"truthfulqa_{language}_mc2", own)
    items = read_logs(tmp_path).items["truthfulqa_mc2"]
    assert [item.right for item in items] == [()] * 3


def test_prompts_of_a_chat_server_are_messages(tmp_path):
    for language in ("en", "sw"):
        own = wrote(0, "18", "18")
        own["arguments"]["gen_args_0"]["arg_0"] = ['[{"role": "user", "content": "Q"}]']
        write(tmp_path, f"mgsm_{language}", [own])
    (item,) = read_logs(tmp_path).items["mgsm"]
    assert item.prompts["en"] == '[{"role": "user", "content": "Q"}]'


def test_a_number_with_a_comma_is_no_list_of_numbers(tmp_path):
    for language in ("en", "sw"):
        write(tmp_path, f"mgsm_{language}", [wrote(0, "1", "1,000"), wrote(1, "1000", "1,000")])
    assert read_logs(tmp_path).tables["mgsm"].logp.argmax(-1).tolist() == [[1, 1], [0, 0]]


def test_what_is_written_without_one_right_answer_is_left_out(tmp_path):
    for language in ("en", "sw"):
        own = wrote(0, "a translation", "another")
        del own["exact_match"]
        write(tmp_path, f"flores_{language}", [own])
    with pytest.raises(DataError, match="nor of written answers"):
        read_logs(tmp_path)


def test_written_answers_beside_choices_are_left_out_and_told(folder):
    write(folder, "facts_de", [wrote(0, "answer 0", "answer 0")])
    logged = read_logs(folder)
    assert logged.tables["facts"].languages == ("en", "sw")
    assert "facts is no multiple choice in de, left out" in logged.notes


def test_of_several_contexts_before_one_text_credit_tells_which_is_right(tmp_path):
    """As xwinograd's; the harness logs the text as target, which says nothing."""
    own = sample(0, [-1.0, -2.0], "end")
    for k, request in enumerate(own["arguments"].values()):
        request["arg_0"], request["arg_1"] = f"Start {k}", "end"
    for language in ("en", "sw"):
        write(tmp_path, f"facts_{language}", [own])
    logged = read_logs(tmp_path)
    (item,) = logged.items["facts"]
    assert (item.candidates["en"], item.right) == (("Start 0", "Start 1"), ())
    assert logged.notes[0].startswith("facts: what is right is not told of 1 of 1 questions")
    for credit, right in ((1.0, (0,)), (0.0, (1,))):  # of the first, which is the likelier
        for language in ("en", "sw"):
            write(tmp_path, f"facts_{language}", [own | {"acc": credit}])
        logged = read_logs(tmp_path)
        assert (logged.items["facts"][0].right, logged.notes) == (right, [])


def test_what_the_model_could_not_be_asked_is_the_least_likely(tmp_path):
    """The harness model of this package gives -inf for what is too long."""
    for language in ("en", "sw"):
        write(tmp_path, f"facts_{language}", [sample(0, [-1.0, -math.inf], 0)])
    table = read_logs(tmp_path).tables["facts"]
    assert table.logp[0].tolist() == [[-1.0, NEVER]] * 2


def test_the_order_of_lines_is_nothing_to_compare_by(tmp_path):
    found = []
    for order in ((0, 1, 2, 10), (2, 10, 0, 1)):
        for language in ("sw", "en") if found else ("en", "sw"):
            write(tmp_path, f"facts_{language}", [sample(n, [-1.0 - n, -2.0], 0) for n in order])
        found.append(read_logs(tmp_path).tables["facts"])
    assert (found[0].ids, found[0].languages) == (found[1].ids, found[1].languages)
    assert found[0].ids == ("0", "1", "2", "10")
    np.testing.assert_array_equal(found[0].logp, found[1].logp)


def test_one_text_a_document_is_no_multiple_choice(tmp_path):
    for language in ("en", "sw"):
        write(tmp_path, f"lambada_{language}", [sample(0, [-1.0], " answer 0")])
    with pytest.raises(DataError, match="it is no task of multiple choice, nor of written answers"):
        read_logs(tmp_path)


@pytest.mark.parametrize(
    ("texts", "target", "acc", "right"),
    [
        ([" False", " True"], "True", 0.0, (1,)),  # scores put the first in front
        ([" 1", " 2"], "1", 0.0, (1,)),
        ([" a", " b"], "1", 1.0, ()),  # the harness gave credit for another
    ],
)
def test_what_is_right_is_what_the_harness_gave_credit_for(tmp_path, texts, target, acc, right):
    own = sample(0, [-1.0, -2.0], target, acc=acc)
    for text, request in zip(texts, own["arguments"].values(), strict=True):
        request["arg_1"] = text
    for language in ("en", "sw"):
        write(tmp_path, f"facts_{language}", [own])
    assert read_logs(tmp_path).items["facts"][0].right == right


def test_a_family_that_is_none_does_not_end_the_others(folder):
    write(folder, "law_ar", [sample(0, [-1.0, -2.0], 0)])
    write(folder, "law_la", [sample(0, [-1.0, -2.0], 1)])
    logged = read_logs(folder)
    assert list(logged.items) == ["facts"]
    assert any("law (ar, la) is left out: " in note for note in logged.notes)
    with pytest.raises(DataError, match="the right answer is 1, at .* it is 0"):
        read_logs(folder, tasks="law_{language}")


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ("facts_en+facts_sw", "--tasks=facts_en has no place for its language. Write xcopa_{language}"),
        ("facts_{language}+fakts_{language}", "--tasks=fakts_{language} is no task; there are facts_en"),
    ],
)
def test_tasks_that_are_none_are_told(folder, tasks, told):
    with pytest.raises(DataError, match=re.escape(told)):
        read_logs(folder, tasks=tasks)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target": "1"}, "the right answer is 1, at .* it is 0"),
        ({"filtered_resps": [["nan", "False"], ["-1", "False"]]}, "a score is no finite number"),
        ({"filtered_resps": [["1e300", "False"], ["-1", "False"]]}, "a score is no finite number"),
        ({"filtered_resps": [["x", "False"], ["-1", "False"]]}, "no sample of lm_eval"),
        ({"filtered_resps": [["-1", "False"]]}, "no sample of lm_eval"),
        ({"arguments": {}}, "no sample of lm_eval"),
        (
            {"arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": " a"}}},
            "no sample of lm_eval",
        ),
        ({"doc_id": 1}, "doc_id '1' stands twice"),
        ({"doc": None, "doc_id": None}, "no question is there in two|2 candidates"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(tmp_path, changes, told):
    write(tmp_path, "facts_en", [sample(0, [-1.5, -2.0], 0)])
    write(tmp_path, "facts_sw", [sample(0, [-1.5, -2.0], 0, **changes), sample(1, [-1.0, -2.0], 0)])
    with pytest.raises(DataError, match=told):
        read_logs(tmp_path)


def test_several_models_one_language_and_no_logs_are_told(folder, tmp_path):
    with pytest.raises(DataError, match="there is no such file or folder"):
        read_logs(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no logs. Name a folder"):
        read_logs(tmp_path / "empty")
    write(tmp_path / "alone", "facts_en", [sample(0, [-1.0, -2.0], 0)])
    with pytest.raises(
        DataError, match="no task is there in two languages: facts_en. .*--tasks=xcopa_{language}"
    ):
        read_logs(tmp_path / "alone")
    other = folder / "other_model" / f"samples_facts_fr_{DATE}.jsonl"
    other.parent.mkdir()
    other.write_text(json.dumps(sample(0, [-1.0, -2.0], 0)) + "\n")
    with pytest.raises(DataError, match="samples of several models or runs, .*org__model, other_model"):
        read_logs(folder)


TASK = """
task: capital_{language}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
SAID = """
task: said_{language}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
generation_kwargs: {{until: ["\\n"], do_sample: false, max_gen_toks: 4}}
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{choices[gold]}}}}"
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
CLC = Path(__file__).parents[2] / "benchmarks" / "lm_eval_clc"  # what could become a part of the harness


@pytest.fixture(params=["random", "smollm2 on bmlama17", "smollm2 on cldr"])
def asked(request: pytest.FixtureRequest) -> tuple[Path, cj.Items]:
    """A model and questions."""
    name, _, source = request.param.partition(" on ")
    if not source:
        questions = cj.load_items("jsonl", path=request.getfixturevalue("questions"))
        return request.getfixturevalue("small_model"), questions
    options = {"languages": ["en", "fr", "ru", "vi"]}
    if source == "bmlama17":
        options["path"] = request.getfixturevalue("data_folder") / source
    items = cj.load_items(source, **options)
    return request.getfixturevalue("real_model")(name), cj.Items(items[:: len(items) // 15])


def asked_by_the_harness(item: cj.ParallelItem, language: str) -> dict[str, object]:
    """A document: what stands behind the gap of a cloze is a part of each choice."""
    head, gap, rest = item.prompts[language].partition(MASK)
    prompt = head.rstrip() if gap else head
    choices = [head[len(prompt) :] + answer + rest for answer in item.candidates[language]]
    return {"name": item.id, "prompt": prompt, "choices": choices, "gold": item.gold}


@pytest.mark.slow
def test_samples_of_the_harness_give_the_figures_of_our_own_audit(asked, tmp_path):
    pytest.importorskip("lm_eval", reason="pip install -e '.[lm-eval]'", exc_type=ImportError)
    path, items = asked
    for language in items.languages:
        file = tmp_path / f"{language}.json"
        documents = [asked_by_the_harness(item, language) for item in items]
        file.write_text("".join(json.dumps(own) + "\n" for own in documents), encoding="utf8")
        for name, task in {"capital": TASK, "said": SAID}.items():
            (tmp_path / f"{name}_{language}.yaml").write_text(task.format(language=language, file=file))
    for file in (CLC / "clc.py", CLC / "_clc_template"):
        shutil.copy(file, tmp_path)
    own_tasks = {language: f"capital_{language}" for language in items.languages}
    about = {"include_path": str(tmp_path), "key": "name", "tasks": own_tasks}
    task = f"include: _clc_template\ntask: all_capitals\ndataset_kwargs: {json.dumps(about)}\n"
    (tmp_path / "all_capitals.yaml").write_text(task)
    said = [f"said_{language}" for language in items.languages]
    tasks = ",".join([*own_tasks.values(), "all_capitals", *said])
    words = ["run", "--model", "consistency_jax", "--model_args", f"path={path}", "--tasks", tasks]
    words += ["--include_path", str(tmp_path), "--log_samples", "--output_path", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "consistency_jax.harness", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    logged = read_logs(tmp_path / "out")
    found = logged.tables["capital"]
    for item, rows in zip(logged.items["said"], logged.tables["said"].logp, strict=True):
        assert [row.max() for row in rows] == [0] * len(items.languages)  # each has its answer
        for language, prompt in item.prompts.items():
            assert prompt == asked_by_the_harness(items[int(item.id)], language)["prompt"]
    assert any(note.startswith("said: nothing but the answer") for note in logged.notes)
    own = cj.score(cj.load_pretrained(path), items, languages=found.languages)
    np.testing.assert_allclose(found.logp, own.logp, rtol=1e-5)
    spaced = (
        MASK in items[0].prompts["en"]
    )  # the harness counts the space before a gap as a byte of the choice
    for way in ("sum",) if spaced else ("sum", "bytes"):
        figures = [summarise(table, normalization=way)["base"]["test"] for table in (found, own)]
        for key in ("clc_all", "clc_en", "accuracy_en", "accuracy_non_en"):
            assert figures[0][key] == pytest.approx(figures[1][key], abs=1e-6)
    printed = json.loads(next((tmp_path / "out").rglob("results_*.json")).read_text("utf8"))
    whole = printed["results"]["all_capitals"]
    figures = summarise(found, normalization="sum")["base"]["test"]
    for key, name in {"clc_all": "clc,none", "clc_en": "clc_en,none"}.items():
        assert whole[name] == pytest.approx(figures[key], abs=1e-6)
    assert 100 * whole["acc,none"] == pytest.approx(np.mean(list(figures["accuracy"].values())), abs=1e-4)
