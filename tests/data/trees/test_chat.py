"""Chat templates: the trees are the rendered conversation, token for token, with one BOS."""

import copy
import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import transformers

from consistency_jax.config.checks import validate
from consistency_jax.data.items import MASK, DataError, ParallelItem
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees import chat
from consistency_jax.data.trees.builder import BadCells, TreeBuilder
from consistency_jax.data.trees.chat import ChatTemplate
from consistency_jax.data.trees.forest import ANSWER
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.splits import split_of
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.models.tokenizers import load_tokenizer
from consistency_jax.train import train

# The published formats, in a few lines each.
INST = """{%- if messages[0].role == 'system' -%}
{%- set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' -%}{%- set messages = messages[1:] -%}
{%- else -%}{%- set system = '' -%}{%- endif -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}
{{ bos_token + '[INST] ' + (system if loop.first else '') + m.content + ' [/INST]' }}
{%- else -%}{{ ' ' + m.content + ' ' + eos_token }}{%- endif -%}{%- endfor -%}"""
HEADERS = """{{ bos_token }}{% for m in messages %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}
{%- endfor %}{% if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""
TURNS = """{{ bos_token }}{% for m in messages %}
{{- '<|START_OF_TURN_TOKEN|><|' + {'user': 'USER', 'assistant': 'CHATBOT', 'system': 'SYSTEM'}[m.role] }}
{{- '_TOKEN|>' + m.content + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"""
CHATML = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
REFUSES = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + INST
)
TEMPLATES = {"llama2": INST, "llama3": HEADERS, "cohere_commandr": TURNS}
SYSTEM = "Answer in one word."

ITEMS = [
    ParallelItem(
        "plain",
        "",
        {"en": "The capital of France is", "ja": "フランスの首都は"},
        {"en": (" Paris", " Madrid", " Paris now"), "ja": ("パリ", "マドリード", "パリス")},
        context={"en": "About France."},
    ),
    ParallelItem(
        "cloze",
        "",
        {"en": "X was born in <mask> , Spain .", "ja": "<mask>に生まれました。"},
        {"en": ("Madrid", "Paris", "Mad"), "ja": ("マドリード", "パリ", "マ")},
    ),
]


def with_template(tokenizer, template: str | None) -> transformers.PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def conversation(item: ParallelItem, language: str, system: str) -> list[dict[str, str]]:
    context = (item.context or {}).get(language)
    prompt = item.prompts[language].replace(MASK, "____")
    user = {"role": "user", "content": f"{context}\n\n{prompt}" if context else prompt}
    return [{"role": "system", "content": system}, user] if system else [user]


def rendered(tokenizer, item: ParallelItem, language: str, system: str) -> tuple[str, list[str]]:
    """(all before the answer, each answer behind it), straight from transformers."""
    head = tokenizer.apply_chat_template(
        conversation(item, language, system),
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    space = " " if tokenizer.chat_template == INST else ""
    return head, [space + candidate.strip() for candidate in item.candidates[language]]


def assert_trees_are_rendered(
    tokenizer, items: list[ParallelItem], languages: tuple[str, ...], system: str, boundary: str
) -> None:
    chat = ChatTemplate(tokenizer, system)
    trees = iter(TreeBuilder(tokenizer, boundary=boundary, chat=chat).build(items, languages))
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = False  # <s> is the token, in the whole conversation as in each part
    for item in items:
        for language in languages:
            tree = next(trees)
            head, answers = rendered(tokenizer, item, language, system)
            prompt = backend.encode(head, add_special_tokens=False).ids
            assert tree.bytes.tolist() == [len(answer.encode()) for answer in answers]
            assert len(tree.branches) == len(answers) > 0
            for branch, answer in zip(tree.branches, answers):
                ids = np.r_[tree.trunk, branch].tolist()
                if boundary == "joint":
                    assert ids == backend.encode(head + answer, add_special_tokens=False).ids
                else:
                    assert tree.trunk.tolist() == prompt
                    assert backend.decode([prompt[-1], *branch]).endswith(answer.strip())
                if tokenizer.bos_token_id is not None:
                    assert ids[0] == tokenizer.bos_token_id
                    assert ids.count(tokenizer.bos_token_id) == 1
    assert next(trees, None) is None


@pytest.mark.parametrize("boundary", ["separate", "joint"])
@pytest.mark.parametrize("system", ["", SYSTEM])
@pytest.mark.parametrize("template", [INST, HEADERS, TURNS])
def test_trees_are_the_rendered_conversation(small_tokenizer, template, system, boundary):
    assert_trees_are_rendered(with_template(small_tokenizer, template), ITEMS, ("en", "ja"), system, boundary)


def asked(tokenizer, item: ParallelItem, language: str) -> list[int]:
    """The question's tokens, straight from transformers."""
    chat = conversation(item, language, "")
    return tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True)["input_ids"]


@pytest.mark.parametrize("puts", [True, False])
@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_bos_may_be_the_mark_of_every_turn(small_tokenizer, boundary, puts):
    """As SmolLM2's is, which it does not put before a text; and no second one stands in front where one is put."""
    ends = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "add_bos_token": puts}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer.backend_tokenizer, **ends
    )
    tokenizer.chat_template = CHATML
    builder = TreeBuilder(tokenizer, boundary=boundary, chat=ChatTemplate(tokenizer))
    for item in ITEMS:
        for language, tree in zip(("en", "ja"), builder.build([item], ("en", "ja")), strict=True):
            prompt = asked(tokenizer, item, language)
            assert prompt.count(tokenizer.bos_token_id) == 2
            assert prompt[0] == tokenizer.bos_token_id
            for branch in tree.branches:
                assert np.r_[tree.trunk, branch][: len(prompt)].tolist() == prompt
            assert (tree.trunk_kind[: len(prompt)] == 0).tolist() == [True] + [False] * (len(prompt) - 1)
    assert_written_answers_end(tokenizer, ITEMS, ("en", "ja"))


def test_one_bos_is_put_where_the_template_writes_none(small_tokenizer):
    tokenizer = with_template(small_tokenizer, HEADERS.replace("{{ bos_token }}", ""))
    bare = asked(tokenizer, ITEMS[0], "en")
    (tree,) = TreeBuilder(tokenizer, chat=ChatTemplate(tokenizer)).build(ITEMS[:1], ["en"])
    assert tree.trunk.tolist() == [tokenizer.bos_token_id, *bare]
    tokenizer.add_bos_token = False
    (tree,) = TreeBuilder(tokenizer, chat=ChatTemplate(tokenizer)).build(ITEMS[:1], ["en"])
    assert tree.trunk.tolist() == bare


def assert_written_answers_end(tokenizer, items: list[ParallelItem], languages: tuple[str, ...]) -> None:
    """Trees of written answers are the conversations that transformers makes of them, up to the line's end behind the
    turn; ranked ones end before it."""
    chat = ChatTemplate(tokenizer)
    for boundary in ("separate", "joint"):
        written = [dataclasses.replace(item, written=True) for item in items]
        settings = {"boundary": boundary, "chat": chat}
        ended = TreeBuilder(tokenizer, end="written", **settings).build(written, languages)
        ranked = TreeBuilder(tokenizer, end="written", **settings).build(items, languages)
        always = TreeBuilder(tokenizer, end="always", **settings).build(items, languages)
        never = TreeBuilder(tokenizer, **settings).build(written, languages)
        for n, tree in enumerate(ended):
            item, language = items[n // len(languages)], languages[n % len(languages)]
            for k, (branch, kind, other) in enumerate(
                zip(tree.branches, tree.branch_kinds, ranked[n].branches)
            ):
                said = {"role": "assistant", "content": item.candidates[language][k].strip()}
                whole = tokenizer.apply_chat_template(
                    [*conversation(item, language, ""), said], tokenize=False
                )
                answer = np.r_[tree.trunk, branch]
                assert tokenizer.decode(answer) == tokenizer.decode(read(tokenizer, whole.rstrip()))
                if boundary == "joint":
                    assert answer.tolist() == read(tokenizer, whole.rstrip())
                assert len(branch) > len(other)
                assert branch[: len(other)].tolist() == other.tolist() == never[n].branches[k].tolist()
                assert (kind == ANSWER).sum() - len(branch) == 0 or (tree.trunk_kind == ANSWER).any()
                assert kind[len(other) :].tolist() == [ANSWER] * (len(branch) - len(other))
            assert tree.bytes.tolist() == ranked[n].bytes.tolist()
            assert [own.tolist() for own in always[n].branches] == [own.tolist() for own in tree.branches]


def read(tokenizer, text: str) -> list[int]:
    tokenizer.backend_tokenizer.encode_special_tokens = False
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("template", [INST, HEADERS, TURNS])
def test_a_written_answer_ends_with_its_turn(small_tokenizer, template):
    assert_written_answers_end(with_template(small_tokenizer, template), ITEMS, ("en", "ja"))


def test_eos_ends_a_turn_that_its_template_does_not(small_tokenizer):
    tokenizer = with_template(small_tokenizer, HEADERS.replace("<|eot_id|>", "\n"))
    item = dataclasses.replace(ITEMS[0], written=True)
    (tree,) = TreeBuilder(tokenizer, end="written", chat=ChatTemplate(tokenizer)).build([item], ["en"])
    assert [branch.tolist().index(tokenizer.eos_token_id) for branch in tree.branches] == [
        len(branch) - 1 for branch in tree.branches
    ]


def test_written_answers_of_real_tokenizers_end(real_tokenizer):
    assert_written_answers_end(real_tokenizer, ITEMS, ("en", "ja"))


@pytest.fixture(scope="module", params=["llama2", "llama3", "qwen3_rebuilt", "cohere_commandr"])
def real_tokenizer(request, data_folder: Path, tmp_path_factory):
    source, folder = data_folder / "tokenizers" / request.param, tmp_path_factory.mktemp(request.param)
    for path in source.iterdir():
        if path.suffix == ".gz":
            (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            (folder / path.name).write_bytes(path.read_bytes())
    if request.param == "cohere_commandr":
        names = {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(names))
    if request.param in TEMPLATES:
        (folder / "chat_template.jinja").write_text(TEMPLATES[request.param])
    return load_tokenizer(folder)


@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_conversations_about_bmlama_in_17_languages(real_tokenizer, data_folder: Path, boundary):
    items = load_items("bmlama17", path=data_folder / "bmlama17")[::680]
    assert_trees_are_rendered(real_tokenizer, items, items[0].languages, SYSTEM, boundary)
    assert_trees_are_rendered(real_tokenizer, ITEMS, ("en", "ja"), "", boundary)


def test_the_templates_tokens_are_special_and_the_items_text_may_not_be(real_tokenizer):
    chat = ChatTemplate(real_tokenizer)
    builder = TreeBuilder(real_tokenizer, chat=chat)
    named = {token.content: i for i, token in real_tokenizer.added_tokens_decoder.items() if token.special}
    tree = builder.build(ITEMS[:1], ["en"])[0]
    if real_tokenizer.chat_template != INST:  # which has BOS alone
        assert set(tree.trunk[1:].tolist()) & set(named.values())
    for text, where in (("Write {} .", " Paris"), ("Write", " {}")):
        special = next(reversed(named))
        item = ParallelItem("odd", "", {"en": text.format(special)}, {"en": (" a", where.format(special))})
        with pytest.raises(DataError, match="item 'odd', language 'en': its text holds .*chat template"):
            builder.build([item])


def test_the_separator_is_the_templates_own(small_tokenizer):
    assert ChatTemplate(with_template(small_tokenizer, INST)).separator == " "
    assert ChatTemplate(with_template(small_tokenizer, HEADERS)).separator == ""
    vicuna = (
        "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} {% else %}"
        "ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
    assert ChatTemplate(with_template(small_tokenizer, vicuna)).separator == " "


def test_a_template_with_a_date_always_says_the_same(small_tokenizer):
    dated = "{% if not date_string is defined %}{% set date_string = strftime_now('%Y') %}{% endif %}"
    chat = ChatTemplate(
        with_template(small_tokenizer, dated + "{{ date_string }}" + INST.replace("bos_token", "''"))
    )
    assert chat.render(["Who?"]) == ["26 Jul 2024[INST] Who? [/INST]"]


def test_the_clock_that_a_template_asks_stands_still(small_tokenizer):
    asks = "{%- set today = strftime_now('%d %B %Y, %b %m') -%}\n{{ today }}" + INST.replace(
        "bos_token", "''"
    )
    chat = ChatTemplate(with_template(small_tokenizer, asks))
    assert chat.render(["Who?"]) == ["26 July 2024, Jul 07[INST] Who? [/INST]"]
    hours = ChatTemplate(with_template(small_tokenizer, asks.replace("%d %B", "%A %-d %B %y %H:%M:%S")))
    assert hours.render(["Who?"])[0].startswith("Friday 26 July 24 00:00:00 2024")


@pytest.mark.parametrize("opening", ["\n", "  ", "\n  ", "  {% if true %}", "{{- 'a' }}", "\n{%- if true %}"])
def test_other_templates_say_what_they_said(small_tokenizer, opening):
    tokenizer = with_template(small_tokenizer, opening + CHATML + "{% endif %}" * ("{%" in opening))
    said = [{"role": "user", "content": "Who?"}]
    expected = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert ChatTemplate(tokenizer).render(["Who?"]) == [expected]


TURN = "{{ '<|im_start|>assistant\n' }}"
R1 = """{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<User>' + m.content }}{% else %}
{{- '<Assistant>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<Assistant><think>\n' }}{% endif %}"""
THINKING = CHATML.replace(TURN, TURN + "{{ '<think>\n' }}").replace(
    "+ m.content", "+ ('<think>\n\n</think>\n\n' if m.role == 'assistant' else '') + m.content"
)
CLOSED = CHATML.replace(TURN, TURN + "{{ '<think>\n\n</think>\n\n' }}")
SILENT = CHATML.partition("{%- if add")[0]  # knows no generation prompt


@pytest.mark.parametrize(
    ("template", "opening", "separator"),
    [
        (R1, "<Assistant>", ""),
        (THINKING, "<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        (
            CLOSED,
            "<|im_start|>assistant\n<think>\n\n</think>\n\n",
            "",
        ),  # shut in the question, and not in the history
        (CHATML, "<|im_start|>assistant\n", ""),
        (SILENT, "<|im_start|>assistant\n", ""),
    ],
    ids=["deepseek r1", "always thinking", "closed thinking", "plain", "no opening"],
)
def test_an_answer_stands_behind_no_open_reasoning(small_tokenizer, template, opening, separator):
    chat = ChatTemplate(with_template(small_tokenizer, template))
    (text,) = chat.render(["Who?"])
    assert text.partition("Who?")[2].removeprefix("<|im_end|>\n") == opening
    assert chat.separator == separator


@pytest.mark.parametrize("eos", ["<|eot_id|>", "<|end_of_text|>"])
def test_the_opening_of_a_next_turn_ends_no_answer(small_tokenizer, eos):
    """The first template of Llama 3 opens the assistant's turn whatever it is asked."""
    opens = HEADERS.replace("{% if add_generation_prompt %}", "").replace("{% endif %}", "")
    tokenizer = with_template(small_tokenizer, opens)
    names = ["<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": names, "eos_token": eos})
    assert ChatTemplate(tokenizer).end == "<|eot_id|>"
    bare = with_template(small_tokenizer, SILENT)  # which opens nothing, and has no such token
    assert ChatTemplate(bare).end == "<|im_end|>"


def test_reasoning_is_off(small_tokenizer):
    thinks = (
        HEADERS + "{% if add_generation_prompt and enable_thinking is not false %}{{ '<think>' }}{% endif %}"
    )
    assert "<think>" not in ChatTemplate(with_template(small_tokenizer, thinks)).render(["Who?"])[0]


def test_templates_that_do_not_serve_are_clear_errors(small_tokenizer):
    with pytest.raises(DataError, match="data.chat_template: .*has no chat template.*chat_template=off"):
        ChatTemplate(with_template(small_tokenizer, None))
    assert ChatTemplate(with_template(small_tokenizer, REFUSES)).render(["Who?"])
    with pytest.raises(DataError, match="data.system_prompt: .*no system prompt .System role not supported"):
        ChatTemplate(with_template(small_tokenizer, REFUSES), SYSTEM)
    silent = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    with pytest.raises(DataError, match="data.system_prompt: .*leaves the system prompt out"):
        ChatTemplate(with_template(small_tokenizer, silent), SYSTEM)
    with pytest.raises(DataError, match="writes BOS twice"):
        ChatTemplate(with_template(small_tokenizer, "{{ bos_token }}" + INST))
    with pytest.raises(DataError, match="data.chat_template: the chat template fails"):
        ChatTemplate(with_template(small_tokenizer, "{{ raise_exception('no') }}"))


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages + 1 }}", "TypeError"),
        ("{{ messages[9].content.x.y }}", "UndefinedError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ 'x' * 10 ** 15 }}", "MemoryError"),
        ("{{ 'x'.__class__.__mro__ }}", "SecurityError"),
        ("{% for m in %}", "TemplateSyntaxError"),
    ],
)
def test_a_template_may_fail_in_any_way(small_tokenizer, template, kind):
    with pytest.raises(
        DataError, match=rf"^data.chat_template: the chat template fails \({kind}: .*chat_template=off"
    ):
        ChatTemplate(with_template(small_tokenizer, template))


def test_a_template_that_does_not_end_is_an_error(small_tokenizer, monkeypatch):
    monkeypatch.setattr(chat, "PATIENCE", 0.1)
    # It ends some time, so that no thread outlives the tests for long.
    loop = "{% for i in range(3000) %}{% for j in range(3000) %}{% endfor %}{% endfor %}"
    behind = INST + "{% if not add_generation_prompt %}" + loop + "{% endif %}"
    for template in (loop, behind):
        with pytest.raises(DataError, match="takes longer than 0.1 s over 1 prompt\\."):
            ChatTemplate(with_template(small_tokenizer, template))
    # Over certain prompts alone.
    longer = loop.replace("3000", "9000")
    template = "{% if 'Rome' in messages[0].content %}" + longer + "{% endif %}" + INST
    picky = ChatTemplate(with_template(small_tokenizer, template))
    assert len(picky.render(["Where is Paris?"] * 3)) == 3
    with pytest.raises(DataError, match="takes longer than 1.1 s over 51 prompts"):
        picky.render(["Where is Paris?"] * 50 + ["Where is Rome?"])


def test_a_template_that_rewrites_what_is_said_is_an_error(small_tokenizer):
    deaf = "{% for m in messages if m.role == 'user' %}<u>{{ m.content }}</u>{% endfor %}<a>"
    with pytest.raises(DataError, match="the template leaves the answer out, or changes it"):
        ChatTemplate(with_template(small_tokenizer, deaf))
    cut = "{% for m in messages %}<{{ m.role }}>{{ m.content[:40] }}<e>{% endfor %}<assistant>"
    chat_of_40 = ChatTemplate(with_template(small_tokenizer, cut))
    items = [
        ParallelItem(f"q{n}", "", {"en": f"Question number {n} {'very ' * 10 * n}long"}, {"en": ("a", "b")})
        for n in range(3)
    ]
    builder = TreeBuilder(with_template(small_tokenizer, cut), chat=chat_of_40)
    assert len(builder.build(items[:1])) == 1
    with pytest.raises(
        BadCells, match="item 'q1', .*the chat template leaves a part of the prompt out"
    ) as caught:
        builder.build(items)
    assert set(caught.value.problems) == {1, 2}


def test_a_config_with_a_chat_is_checked(small_config, tmp_path):
    small_config.data.system_prompt = SYSTEM
    with pytest.raises(ConfigError, match="data.system_prompt is set, but data.chat_template=off"):
        validate(small_config)
    small_config.data.chat_template = "tokeniser"
    with pytest.raises(ConfigError, match="data.chat_template='tokeniser'.*did you mean 'tokenizer'"):
        validate(small_config)
    small_config.data.chat_template = "tokenizer"
    validate(small_config)
    with pytest.raises(DataError, match="data.chat_template: .*has no chat template"):
        train(small_config, tmp_path / "run")
    assert not (tmp_path / "run" / "tables").exists()
    small_config.model.path, small_config.pretrain.total_steps = "", 1
    with pytest.raises(ConfigError, match="data.chat_template=tokenizer needs a model with a chat template"):
        validate(small_config)


def test_a_config_with_a_chat_builds_such_trees(small_config, small_model):
    small_config.data.chat_template = "tokenizer"
    small_config.data.system_prompt = SYSTEM
    model = load_pretrained(str(small_model))
    model = dataclasses.replace(model, tokenizer=with_template(model.tokenizer, HEADERS))
    split = split_of(small_config, "test", load_items("jsonl", path=small_config.data.path), model, "joint")
    for tree in split.trees:
        assert SYSTEM in model.tokenizer.decode(tree.trunk.tolist())


def test_templates_beside_a_sentencepiece_file(data_folder: Path, tmp_path: Path):
    for number, (name, content) in enumerate(
        [
            ("chat_template.jinja", INST),
            ("chat_template.json", json.dumps({"chat_template": INST})),
            ("tokenizer_config.json", json.dumps({"chat_template": INST})),
            ("tokenizer_config.json", json.dumps({"chat_template": [{"name": "default", "template": INST}]})),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        model_file = data_folder / "checkpoints" / "hf_stories260K" / "tokenizer.model"
        (folder / "tokenizer.model").write_bytes(model_file.read_bytes())
        assert load_tokenizer(folder).chat_template is None
        (folder / name).write_text(content)
        tokenizer = load_tokenizer(folder)
        assert ChatTemplate(tokenizer).render(["Who?"]) == ["<s>[INST] Who? [/INST]"]


def test_prompts_that_spell_a_special_token_are_all_told_at_once(small_tokenizer):
    texts = ("Who?", "Who is </s>?", "Who?", "</s>", "Who?")
    spelt = [ParallelItem(f"q{n}", "", {"en": text}, {"en": (" a", " b")}) for n, text in enumerate(texts)]
    tokenizer = with_template(small_tokenizer, INST)
    builder = TreeBuilder(tokenizer, chat=ChatTemplate(tokenizer))
    with pytest.raises(BadCells, match="item 'q1'.*'</s>', a special token.*And 1 more") as caught:
        builder.build(spelt, ["en"])
    assert set(caught.value.problems) == {1, 3}
