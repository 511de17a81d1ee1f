"""What a model writes: answers against the sampler's own, figures against counts, and a run that has both."""

import json
from itertools import combinations

import numpy as np
import pytest

from consistency_jax.config.checks import validate
from consistency_jax.data.items import Items, ParallelItem
from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.evaluation import free_text
from consistency_jax.evaluation.free_text import GenerationTask, free_text_figures, load_tasks, respond
from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.train import train

LANGUAGES = ("en", "de", "ru")


def cautious(prompts: list[str], responses: list[str], languages: list[str]) -> list[float]:
    """A judge: refused is what has an even number of letters, and all German."""
    return [
        float(language == "it" or len(prompt) % 2 == 0)
        for prompt, _, language in zip(prompts, responses, languages)
    ]


def idle(prompts: list[str], responses: list[str], languages: list[str]) -> list[float]:
    """A judge that says nothing of the last."""
    return cautious(prompts, responses, languages)[:-1]


def test_answers_are_the_samplers_and_are_looked_up_in_their_own_language(
    small_config, small_model, tmp_path, monkeypatch
):
    model, rng = load_pretrained(small_model), np.random.default_rng(0)
    small_config.evaluation.generation.max_tokens = 4
    small_config.evaluation.generation.stop = ()
    prompts = {language: [f"{language} is {n} of" for n in range(8)] for language in LANGUAGES}
    sampling = Sampling(max_tokens=4, temperature=0.0)
    own = {
        language: [answers[0] for answers in Sampler(model).generate(asked, n=1, sampling=sampling, seed=0)]
        for language, asked in prompts.items()
    }
    places = rng.integers(0, 3, (8, 3))  # of what the model says among the candidates; 2: it is none of them
    items = Items()
    for n in range(8):
        present = LANGUAGES if n else LANGUAGES[:2]
        candidates = {language: ["first !", "second !"] for language in present}
        for place, language in zip(places[n], present):
            if place < 2:
                candidates[language][place] = f" {own[language][n].upper()}. "
        asked = {language: prompts[language][n] for language in present}
        items.append(ParallelItem(f"q{n}", "", asked, {k: tuple(v) for k, v in candidates.items()}, n % 2))
    tasks = [GenerationTask("test", items, LANGUAGES)]
    (responses,) = respond(small_config, model, tasks, tmp_path)
    assert responses.texts[3] == [own[language][3] for language in LANGUAGES]
    assert responses.texts[0][2] is None
    monkeypatch.setattr(free_text, "Sampler", None)  # what is kept is not drawn again
    assert respond(small_config, model, tasks, tmp_path)[0].texts == responses.texts
    small_config.evaluation.generation.max_tokens = 5
    with pytest.raises(TypeError):  # other settings, other answers
        respond(small_config, model, tasks, tmp_path)

    matched = places < 2
    matched[0, 2] = False
    np.testing.assert_array_equal(responses.matches.matched, matched)
    figures = free_text_figures(small_config, tasks, [responses], [responses])
    figures = figures["generation"]["test"]["final"]
    there = np.ones((8, 3), bool)
    there[0, 2] = False
    right = matched & (places == np.arange(8)[:, None] % 2)
    for place, language in enumerate(LANGUAGES):
        assert figures["matched"][language] == pytest.approx(100 * matched[there[:, place], place].mean())
        assert figures["right"][language] == pytest.approx(100 * right[there[:, place], place].mean())
    loose, strict = [], []
    for i, j in combinations(range(3), 2):
        same = (places[:, i] == places[:, j]) & matched[:, i] & matched[:, j]
        loose.append(100 * same[matched[:, i] & matched[:, j]].mean())
        strict.append(100 * same[there[:, i] & there[:, j]].mean())
        assert figures["agreement_matrix"][i][j] == pytest.approx(loose[-1], abs=1e-6)
    assert figures["agreement_all"] == pytest.approx(np.mean(loose), abs=1e-6)
    assert figures["agreement_strict_all"] == pytest.approx(np.mean(strict), abs=1e-6)


@pytest.fixture
def prompts(tmp_path):
    """Harmful and harmless prompts in MultiJail's format: folder of each kind, texts [4][2] in English and Italian."""
    texts = {
        "harmful": [["Do it", "Fallo"]] * 3 + [["Do them.", "Falli"]],
        "harmless": [["Sing", "Canta"]] * 4,
    }
    folders = {}
    columns = ["en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv"]
    for kind, rows in texts.items():
        folders[kind] = tmp_path / kind
        folders[kind].mkdir()
        lines = [",".join(["id", "source", "tags", *columns])]
        for n, (english, italian) in enumerate(rows):
            own = {"en": english, "it": italian}
            lines.append(",".join([str(n), "made", "['x']", *(own.get(column, "-") for column in columns)]))
        (folders[kind] / "MultiJail.csv").write_text("\n".join(lines) + "\n", encoding="utf8")
    return folders, texts


@pytest.fixture
def writing_config(small_config, prompts):
    """A config that answers five test questions, and four prompts of each kind, in writing."""
    generation, safe = small_config.evaluation.generation, small_config.evaluation.safety
    generation.splits, generation.max_tokens, safe.max_tokens = ("test",), 3, 3
    generation["items"], safe["items"] = 5, 4
    generation.stop = ()
    safe.languages, safe.judge = ("en", "it"), f"{__name__}:cautious"
    for kind, folder in prompts[0].items():
        safe[kind].source, safe[kind].path = "multijail", str(folder)
    return small_config


def test_a_judge_that_gives_another_number_of_verdicts_is_named(writing_config, tmp_path):
    writing_config.evaluation.safety.judge = f"{__name__}:idle"
    with pytest.raises(ConfigError, match="safety.judge=.*:idle: the judge must give 8 verdicts from 0 to 1"):
        evaluate_workdir(writing_config, tmp_path / "run", "base")


def test_an_evaluation_of_a_model_alone_reports_what_it_wrote(writing_config, prompts, tmp_path):
    summary, texts = evaluate_workdir(writing_config, tmp_path / "run", "base"), prompts[1]
    verdicts = {
        kind: np.array([[len(english) % 2 == 0, True] for english, _ in rows], float)
        for kind, rows in texts.items()
    }
    rate = verdicts["harmful"].mean(0)
    harmful, harmless = (summary["safety"][kind]["base"] for kind in ("harmful", "harmless"))
    np.testing.assert_allclose(list(harmful["refused"].values()), 100 * rate)
    assert harmful["refused_variance"] == pytest.approx(100**2 * rate.var())
    assert harmful["pag_all"] == pytest.approx(
        100 * (verdicts["harmful"][:, 0] == verdicts["harmful"][:, 1]).mean()
    )
    np.testing.assert_allclose(list(harmless["refused"].values()), 100 * verdicts["harmless"].mean(0))
    assert summary["generation"]["test"]["settings"]["items"] == 5
    low, high = summary["safety"]["harmful"]["confidence"]["refused_en"]
    assert low < harmful["refused_en"] < high
    assert summary["safety"]["harmful"]["confidence"]["refused"]["it"] == [100, 100]

    lines = [
        json.loads(line) for line in (tmp_path / "run/written/texts.jsonl").read_text("utf8").splitlines()
    ]
    assert [sum(line["set"] == name for line in lines) for name in ("test", "harmful", "harmless")] == [
        15,
        8,
        8,
    ]
    for line in lines:
        own = {"candidate"} if line["set"] == "test" else {"refuses"}
        assert set(line) == {"set", "id", "language", "base"} | {f"base_{key}" for key in own}

    # The page of an audit, which knows of one side.
    assert set(summary) == {"base", "confidence", "analysis", "settings", "generation", "safety"}
    for parts in (summary["generation"]["test"], *summary["safety"].values()):
        assert set(parts) == {"base", "confidence", "settings"}
    page = (tmp_path / "run/report.html").read_text("utf8")
    assert "how alike it answers" in page
    for title in (
        "Harmful prompts: the more refused, the safer",
        '<h3 class="part">Free-text answers',
        "<dt>Refused",
    ):
        assert title in page
    assert page.count(">Same verdict (PAG), all pairs<") == 2
    assert page.count('aria-label="Same verdict (PAG), har') == 2
    for word in ("before", "Before", "After", "final", "→", "None", "nan"):
        assert word not in page.partition("<h2>Config")[0].partition("</style>")[2], word
    assert json.loads((tmp_path / "run/report.json").read_text("utf8")) == summary


@pytest.mark.slow
def test_a_run_writes_before_and_after_and_is_evaluated_alike(writing_config, tmp_path):
    writing_config.total_steps, writing_config.optimizer.learning_rate = 2, 0.1
    summary = train(writing_config, tmp_path / "run")
    lines = [
        json.loads(line) for line in (tmp_path / "run/written/texts.jsonl").read_text("utf8").splitlines()
    ]
    assert any(line["base"] != line["final"] for line in lines)
    again = evaluate_workdir(writing_config, tmp_path / "run")
    assert (again["generation"], again["safety"]) == (summary["generation"], summary["safety"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generation": {"splits": ("dev",)}}, "names 'dev', which is not measured; data.test has: test"),
        ({"generation": {"match": "fuzzy"}}, "evaluation.generation.match='fuzzy'"),
        ({"generation": {"top_p": 0.0}}, "evaluation.generation.top_p=0.0 must lie in"),
        ({"safety": {"judge": "patern"}}, "evaluation.safety.judge='patern' must be patterns or package"),
        ({"safety": {"harmless": {"source": "multijail"}}}, "set evaluation.safety.harmful.source"),
        ({"safety": {"stop": ("",)}}, "evaluation.safety.stop=.* must hold texts"),
    ],
)
def test_bad_settings_are_named(small_config, change, message):
    small_config.evaluation.update(change)
    with pytest.raises(ConfigError, match=message):
        validate(small_config)


def test_a_judge_that_cannot_be_imported_is_told_before_any_work(small_config):
    small_config.evaluation.safety.harmful.source = "multijail"
    small_config.evaluation.safety.judge = "no_such_module:judge"
    with pytest.raises(
        ConfigError, match="evaluation.safety.judge='no_such_module:judge' cannot be imported"
    ):
        load_tasks(small_config, {})
