"""Pairs made with a model: sampled selections end to end, with an engine that answers from a table for the sampler."""

import dataclasses
import hashlib
import json
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from table_generator import TableGenerator

from consistency_jax.data.preferences import read_pairs
from consistency_jax.evaluation.splits import load_split
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.pairs import write_selection
from consistency_jax.selection.letters import lettered_question
from consistency_jax.selection.making import selected_pairs


def answer(prompt, s):
    drawn = hashlib.sha256(f"{prompt} {s}".encode()).digest()[0]
    return f" Because {s} is {drawn % 2}.\nAnswer: {'AAAAB?'[drawn % 6]}"


@pytest.fixture
def engines(monkeypatch):
    """Every engine that was made, in order; the next one's `fail_after` can be set."""
    made = types.SimpleNamespace(all=[], fail_after=None)

    def sampler(model, *, chat, max_length):
        assert chat is None
        assert max_length in (512, 1024)
        made.all.append(TableGenerator(answer, made.fail_after))
        return made.all[-1]

    monkeypatch.setattr("consistency_jax.evaluation.free_text.Sampler", sampler)
    return made


def test_calm_by_sampling_goes_on_where_it_was_killed(small_config, engines, tmp_path):
    small_config.selection.update(name="calm", form="sampling", batch=20)
    items = {item.id: item for item in load_split(small_config, "train")}
    pairs = write_selection(small_config, tmp_path / "unbroken.jsonl")
    assert len(pairs) > 5
    for pair in pairs:
        question = lettered_question(items[pair.id], pair.language)
        assert pair.prompt == question
        assert pair.provenance["chosen_from"] == pair.language  # there is no translator
        assert pair.rejected in [answer(question, s) for s in range(3)]
    engines.fail_after = 2
    with pytest.raises(KeyboardInterrupt):
        write_selection(small_config, tmp_path / "killed.jsonl")
    assert not (tmp_path / "killed.jsonl").exists()
    engines.fail_after = None
    write_selection(small_config, tmp_path / "killed.jsonl")
    unbroken, killed, rest = (engine.asked for engine in engines.all)
    assert [*killed, *rest] == unbroken
    assert len(killed) == 2
    for suffix in (".jsonl", ".summary.json"):
        left, right = ((tmp_path / name).with_suffix(suffix) for name in ("unbroken", "killed"))
        assert left.read_bytes() == right.read_bytes()


def test_a_translator_is_a_function_by_name(small_config, engines, tmp_path, monkeypatch):
    small_config.selection.update(name="calm", form="sampling", translator="own_words:translate")
    monkeypatch.setitem(sys.modules, "own_words", types.ModuleType("own_words"))
    sys.modules["own_words"].translate = lambda text, source, target: f"{source}->{target}{text}"
    pairs = write_selection(small_config, tmp_path / "pairs.jsonl")
    foreign = [pair for pair in pairs if pair.provenance["chosen_from"] != pair.language]
    assert foreign
    for pair in foreign:
        assert pair.chosen.startswith(f"{pair.provenance['chosen_from']}->{pair.language} Because")
    small_config.selection.translator = "nothing_here:x"
    with pytest.raises(ValueError, match="selection.translator='nothing_here:x' cannot be imported"):
        write_selection(small_config, tmp_path / "pairs.jsonl")


def test_the_model_translates_whole_answers_many_at_once(small_config, tmp_path, monkeypatch):
    def translated(prompt, s):
        if prompt.startswith(tuple(f"{language}: Because" for language in ("en", "de", "ru"))):
            source, target = prompt[:2], prompt[-3:-1]
            text = prompt.removeprefix(f"{source}: ").removesuffix(f"\n{target}:")
            # every line in other words, then another example, as base models go on
            return f" {target}! {text.replace('is', 'was')}\n{source}: And so on\n{target}: more"
        return answer(prompt, s)

    tables = []

    def engine(model, *, chat, max_length):
        tables.append(TableGenerator(translated))
        return tables[-1]

    monkeypatch.setattr("consistency_jax.evaluation.free_text.Sampler", engine)
    small_config.selection.update(name="calm", form="sampling", translator="model", batch=1000)
    out = tmp_path / "pairs.jsonl"
    pairs = write_selection(small_config, out)
    foreign = [pair for pair in pairs if pair.provenance["chosen_from"] != pair.language]
    assert len(foreign) > 5
    for pair in foreign:
        letter = "ABC"[pair.provenance["winner"]]
        assert pair.chosen in [
            f"{pair.language}! Because {s} was {d}.\nAnswer: {letter}" for s in range(3) for d in (0, 1)
        ]
    (table,) = tables
    assert len(table.asked) <= 1 + 6  # the questions, and once for each pair of languages
    out.unlink()
    assert list(write_selection(small_config, out)) == list(pairs)
    assert len(tables) == 1  # translations are kept as answers are


@pytest.fixture
def server():
    """A server that answers as the table does; (its url, the bodies of requests with their paths)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(
                json.loads(self.rfile.read(int(self.headers["Content-Length"]))) | {"path": self.path}
            )
            texts = [answer(str(asked[-1]), s) for s in range(asked[-1].get("n", 1))]
            payload = json.dumps(
                {"choices": [{"text": t, "message": {"content": t}} for t in texts]}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/v1", asked
        running.shutdown()
        thread.join()


def test_a_server_is_asked_in_a_chat_where_the_config_says_so(small_config, server, tmp_path):
    url, asked = server
    small_config.selection.update(name="calm", form="sampling", engine=url, engine_model="it")
    write_selection(small_config, tmp_path / "plain.jsonl")
    assert {(body["path"], body["model"]) for body in asked} == {("/v1/completions", "it")}
    asked.clear()
    small_config.data.update(chat_template="tokenizer", system_prompt="Be brief.")
    write_selection(small_config, tmp_path / "chat.jsonl")
    assert {body["path"] for body in asked} == {"/v1/chat/completions"}
    items = load_split(small_config, "train")
    questions = {lettered_question(item, language) for item in items for language in item.languages}
    assert {body["messages"][1]["content"] for body in asked} == questions
    assert {body["messages"][0]["content"] for body in asked} == {"Be brief."}


def test_answers_and_pairs_belong_to_how_the_model_reads(small_config, engines, tmp_path):
    out = tmp_path / "pairs.jsonl"
    small_config.selection.update(name="calm", form="sampling", batch=1000)
    model = load_pretrained(small_config.model.path)
    items, languages = load_split(small_config, "train"), ("en", "de", "ru")

    def asks(config, model):
        before = len(engines.all)
        selected_pairs(config, model, items, languages, out)
        return len(engines.all) - before

    assert asks(small_config, model) == 1
    assert asks(small_config, load_pretrained(small_config.model.path)) == 0
    half = dataclasses.replace(model, config=dataclasses.replace(model.config, dtype="bfloat16"))
    assert asks(small_config, half) == 1
    other = load_pretrained(small_config.model.path)
    other.tokenizer.add_tokens(["Hauptstadt"])
    assert asks(small_config, other) == 1
    small_config.data.max_length = 512
    assert asks(small_config, model) == 1


@pytest.mark.parametrize("name", ["mathematics", "general"])
def test_cm_align_from_the_command(small_config, engines, tmp_path, name):
    small_config.selection.update(name="cm_align", task=name, samples=3)
    write_selection(small_config, tmp_path / "pairs.jsonl")
    summary = json.loads((tmp_path / "pairs.summary.json").read_text(encoding="utf8"))
    count = len(load_split(small_config, "train"))
    for language, counts in summary["languages"].items():
        assert counts["prompts"] == count
        assert counts["kept"] + sum(counts["dropped"].values()) == count
        assert (counts["kept"] > 0) == (language != "en")
    for pair in read_pairs(tmp_path / "pairs.jsonl"):
        assert pair.language != "en"
        assert len(pair.provenance["scores"]) == 3
        scores = [pair.provenance["scores"][pair.provenance[which]] for which in ("chosen", "rejected")]
        assert scores[0] > scores[1]


def test_an_open_question_has_no_mask(small_config, questions, tmp_path):
    masked = tmp_path / "masked.jsonl"
    masked.write_text(questions.read_text(encoding="utf8").replace("Ort ", "<mask> "), encoding="utf8")
    small_config.data.path = str(masked)
    small_config.selection.name = "cm_align"
    with pytest.raises(ValueError, match="asks open questions, and item 'q[0-9]+' has a <mask>"):
        write_selection(small_config, tmp_path / "pairs.jsonl")
