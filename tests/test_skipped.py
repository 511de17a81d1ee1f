"""data.on_error=skip leaves out every row that cannot be used, whatever the reason and the stage, and lists them."""

import json
import re
import shutil

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.builder import BadCells, TreeBuilder
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.models.tokenizers import load_tokenizer
from consistency_jax.pairs import write_selection
from consistency_jax.train import train


@pytest.fixture
def broken(questions, tmp_path):
    """The 40 questions; four lines cannot be used: no JSON, an empty answer, two far too long ones."""
    items = [json.loads(line) for line in questions.read_text("utf8").splitlines()]
    items[7]["candidates"]["ru"][1] = ""
    for n in (11, 19):
        items[n]["candidates"]["de"][0] = " sehr" * 3000
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    lines[3] = lines[3][:40]
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf8")
    return path


PLACES = {4: "not JSON", 8: "empty", 12: "max_length", 20: "max_length"}


def told(path):
    return [json.loads(line) for line in (path / "skipped.jsonl").read_text("utf8").splitlines()]


def test_a_run_leaves_all_of_them_out_and_names_their_lines(small_config, broken, tmp_path, capsys):
    small_config.data.path = str(broken)
    small_config.data.max_length = 256
    small_config.data.on_error = "skip"
    report = train(small_config, tmp_path / "run")
    lines = told(tmp_path / "run")
    assert {line["split"] for line in lines} <= {"train", "test"}
    found = {int(line["place"].rpartition(":")[2]): line["reason"] for line in lines}
    assert set(found) == set(PLACES)
    for number, reason in found.items():
        assert PLACES[number] in reason
    kept = {item.where.rpartition(":")[2] for item in load_items("jsonl", path=broken, on_error="skip")}
    assert len(kept) == 38  # two rows that no reader takes
    out = capsys.readouterr().out
    assert "more skipped, the first: " in out
    assert report["settings"]["splits"]["test"]["items"] > 0


def test_an_evaluation_of_the_base_model_leaves_the_list_of_the_run(small_config, broken, tmp_path):
    small_config.data.path = str(broken)
    small_config.data.max_length = 256
    small_config.data.on_error = "skip"
    train(small_config, tmp_path / "run")
    before = told(tmp_path / "run")
    evaluate_workdir(small_config, tmp_path / "run", checkpoint="base")
    assert told(tmp_path / "run") == before


def test_pairs_are_made_of_what_can_be_scored(small_config, broken, tmp_path):
    small_config.data.path = str(broken)
    small_config.data.max_length = 256
    small_config.data.on_error = "skip"
    small_config.objective.name = "dpo"
    small_config.selection.update(name="gold", rejected="hardest")
    pairs = write_selection(small_config, tmp_path / "pairs.jsonl")
    assert {pair.id for pair in pairs}.isdisjoint({"q3", "q7", "q11", "q19"})
    assert len(pairs) > 60


def test_a_run_that_makes_its_pairs_and_reads_prompts_lists_theirs_too(
    small_config, broken, questions, tmp_path
):
    """The stage selects from one file and has prompts of the other split beside it."""
    folder = tmp_path / "set"
    folder.mkdir()
    lines = broken.read_text("utf8").splitlines()
    (folder / "train.jsonl").write_text("\n".join(lines), "utf8")
    prompts = [json.loads(line) for line in questions.read_text("utf8").splitlines()]
    prompts[5]["candidates"]["de"][0] = " sehr" * 3000
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps(item) for item in prompts), "utf8")
    (folder / "test.jsonl").write_text(questions.read_text("utf8"), "utf8")
    small_config.data.update(path=str(folder), max_length=256, on_error="skip")
    small_config.objective.name = "dpo"
    small_config.selection.update(name="gold", rejected="hardest")
    small_config.auxiliary.mlc.update(weight=0.1, split="prompts", items=2)
    small_config.total_steps = 2
    for _ in range(2):  # made, and found again
        train(small_config, tmp_path / "run")
        lines = told(tmp_path / "run")
        found = {(line["split"], int(line["place"].rpartition(":")[2])) for line in lines}
        assert found == {("train", number) for number in PLACES} | {("prompts", 6)}
        (tmp_path / "run" / "report.json").unlink()


def test_an_audit_does_too(small_config, broken, tmp_path):
    small_config.data.path = str(broken)
    small_config.data.max_length = 256
    small_config.data.on_error = "skip"
    small_config.data.test = ("every",)
    report = evaluate_workdir(small_config, tmp_path / "audit", checkpoint="base")
    lines = told(tmp_path / "audit")
    assert report["settings"]["splits"]["every"]["items"] == 40 - len(lines)
    assert len(lines) == len({line["place"] for line in lines})


def test_otherwise_the_first_is_told_with_its_line_and_how_many_there_are(small_config, broken, tmp_path):
    lines = broken.read_text("utf8").splitlines()
    broken.write_text("\n".join(line for n, line in enumerate(lines) if n not in (3, 7)) + "\n", "utf8")
    small_config.data.path = str(broken)
    small_config.data.max_length = 256
    small_config.data.test = ("every",)
    with pytest.raises(
        DataError,
        match=r"broken\.jsonl:10: item 'q11', language 'de': .*And 1 more. Or leave .*data.on_error=skip",
    ):
        evaluate_workdir(small_config, tmp_path / "audit", checkpoint="base")


@pytest.fixture
def chat_model(small_model, tmp_path):
    """A folder whose tokenizer has a chat template, in which `</s>` in a prompt would end the turn."""
    folder = tmp_path / "chat"
    shutil.copytree(small_model, folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = "<s>{% for m in messages %}[{{ m.content }}]{% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


SPELT = re.compile("'Q2'.*</s>")


def test_safety_prompts_that_spell_a_special_token_in_a_chat_are_among_them(
    small_config, chat_model, tmp_path
):
    lines = [
        {"id": f"Q{n}", "prompts": {"en": f"Steal {n}", "de": f"Stiehl {n}{'</s>' * (n == 2)}"}}
        for n in range(4)
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(line | {"candidates": {"en": [], "de": []}}) for line in lines))
    small_config.model.path, small_config.data.chat_template = str(chat_model), "tokenizer"
    small_config.evaluation.safety.update(max_tokens=2)
    small_config.evaluation.safety.harmful.update(source="jsonl", path=str(path), options={"bare": True})
    small_config.data.languages = ("en",)  # of the questions: prompts are asked in languages of their own
    with pytest.raises(DataError, match=SPELT):  # before anything is scored
        evaluate_workdir(small_config, tmp_path / "audit", checkpoint="base")
    assert not (tmp_path / "audit" / "tables").exists()
    small_config.data.on_error = "skip"
    report = evaluate_workdir(small_config, tmp_path / "audit", checkpoint="base")
    assert report["safety"]["harmful"]["settings"]["items"] == 3
    (line,) = told(tmp_path / "audit")
    assert line["split"] == "harmful"
    assert line["place"].endswith("prompts.jsonl:3")


def test_prompts_that_cm_align_cannot_ask_are_among_them(small_config, questions, chat_model, tmp_path):
    items = [json.loads(line) for line in questions.read_text("utf8").splitlines()]
    for item in items[:9]:
        item["prompts"]["de"] += " </s>"
    path = tmp_path / "spelt.jsonl"
    path.write_text("\n".join(json.dumps(item, ensure_ascii=False) for item in items), "utf8")
    small_config.data.update(path=str(path), on_error="skip", chat_template="tokenizer")
    small_config.model.path = str(chat_model)
    small_config.objective.name = "dpo"
    small_config.selection.update(name="cm_align", task="general", samples=2, max_tokens=3)
    train(small_config, tmp_path / "run")
    places = [(line["split"], line["place"].rpartition(":")[2]) for line in told(tmp_path / "run")]
    assert sorted(int(place) for _, place in places) == list(range(1, 10))
    assert {split for split, _ in places} == {"train", "test"}


def test_a_pair_that_fits_no_tree_is_named_by_its_line(small_config, questions, tmp_path):
    pair = {
        "id": "q: 1",
        "language": "en",
        "prompt": "The capital is",
        "chosen": " Paris",
        "rejected": " Rome",
    }
    pairs = [pair | {"id": f"q: {n}", "rejected": " Rome" * (3000 if n == 2 else 1)} for n in range(8)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(own) + "\n" for own in pairs))
    small_config.data.train.pairs = str(path)
    small_config.objective.name = "dpo"
    small_config.data.max_length = 256
    with pytest.raises(DataError, match=re.escape(f"{path}:3: item 'q: 2/en/1'")):
        train(small_config, tmp_path / "stops")
    small_config.data.on_error = "skip"
    train(small_config, tmp_path / "run")
    (line,) = told(tmp_path / "run")
    assert (line["place"], line["reason"][:5]) == (f"{path}:3", "item ")


def test_every_problem_of_every_cell_is_found_at_once(small_tokenizer, broken):
    items = load_items("jsonl", path=broken, on_error="skip")
    builder = TreeBuilder(small_tokenizer, max_length=256)
    with pytest.raises(BadCells) as caught:
        builder.build(items, ["en", "de", "ru"])
    names = {(items[n // 3].id, ("en", "de", "ru")[n % 3]) for n in caught.value.problems}
    assert names == {("q11", "de"), ("q19", "de")}
    good = [item for item in items if item.id not in ("q11", "q19")]
    assert len(builder.build(good, ["en", "de", "ru"])) == 3 * len(good)


def test_a_set_of_which_nothing_is_left_is_an_error(small_config, questions, tmp_path):
    small_config.data.max_length = 3
    small_config.data.on_error = "skip"
    with pytest.raises(DataError, match=r"questions\.jsonl:\d+: item .*max_length 3 tokens.*And \d+ more"):
        train(small_config, tmp_path / "run")
