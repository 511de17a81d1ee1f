"""What a metric costs: one row in report/figures.py. Throw-away metrics stand everywhere with the right value."""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
from made import LANGUAGES, make_items, make_table

from consistency_jax.compare import compare_workdirs
from consistency_jax.config.defaults import default
from consistency_jax.config.parsing import to_json
from consistency_jax.metrics import (
    bootstrap_delta,
    capa,
    clc_values,
    correct,
    fleiss_kappa,
    krippendorff_alpha,
)
from consistency_jax.report import columns, summarise, terminal_table, write_report
from consistency_jax.report.columns import PAIRS, SINGLE, Figure
from consistency_jax.report.figures import FIGURES, FREE_TEXT, SAFETY
from consistency_jax.report.views import split_view
from consistency_jax.table import NEVER, Table, write_tables


# ----------------------------------------------------------------------------------------- three metrics and their rows
def top3_agreement(scores: np.ndarray) -> np.ndarray:
    """f64[N, P]: the share of the three best candidates that two languages have in common."""
    best = np.argsort(np.argsort(-scores, axis=-1), axis=-1) < 3
    first, second = np.triu_indices(scores.shape[1], 1)
    return (best[:, first] & best[:, second]).sum(-1) / 3


def last_candidate(scores: np.ndarray) -> np.ndarray:
    """f64[N, L]: a language ranks the last candidate above the first one."""
    return (scores[..., -1] > scores[..., 0]).astype(float)


def split_vote(scores: np.ndarray) -> np.ndarray:
    """f64[N]: how many different answers the languages give, less one."""
    return np.array([len(set(row)) - 1.0 for row in scores.argmax(-1).tolist()])


ROWS = [
    Figure(
        "top3_agreement",
        PAIRS,
        lambda r: 100 * top3_agreement(r.scores),
        "Same best three",
        definition="What two languages < share of their best three.",
        headline=("top3_agreement_all",),
        terminal="Same best three, %",
        compare=("top3_agreement_all", "top3_agreement_en"),
    ),
    Figure(
        "last_candidate",
        columns.LANGUAGES,
        lambda r: 100 * last_candidate(r.scores),
        "Last above first",
        better=False,
        derived=("variance", "groups"),
        terminal="Last above first, %",
        compare=("last_candidate_en", "last_candidate_low"),
    ),
    Figure(
        "split_vote",
        SINGLE,
        lambda r: 100 * split_vote(r.scores),
        "Split vote",
        better=None,
        terminal="Split vote, x 100",
        compare=("split_vote",),
    ),
]


@pytest.fixture
def registered():
    FIGURES.extend(ROWS)
    yield
    del FIGURES[-len(ROWS) :]


def by_hand(table) -> dict[str, np.ndarray]:
    """Key of report.json -> f64[N], 100 times the figure of each item, from the rankings one by one."""
    ranks = [
        {l: sorted(range(4), key=lambda k: -row[i][k]) for i, l in enumerate(table.languages)}
        for row in table.scores("mean_full").tolist()
    ]

    def shared(rank, pairs) -> float:
        return np.mean([len(set(rank[a][:3]) & set(rank[b][:3])) / 3 for a, b in pairs])

    pairs = list(itertools.combinations(table.languages, 2))
    lasts = {l: [100.0 * (rank[l].index(3) < rank[l].index(0)) for rank in ranks] for l in table.languages}
    found = {
        "top3_agreement_all": [100 * shared(rank, pairs) for rank in ranks],
        "top3_agreement_en": [100 * shared(rank, [p for p in pairs if "en" in p]) for rank in ranks],
        "last_candidate_en": lasts["en"],
        "last_candidate_non_en": np.mean([lasts[l] for l in table.languages if l != "en"], axis=0),
        "split_vote": [100.0 * (len({own[0] for own in rank.values()}) - 1) for rank in ranks],
    }
    return {key: np.array(values) for key, values in (found | lasts).items()}


@pytest.fixture
def tables():
    return make_table(0), make_table(2, 2.0)


def cells(text: str, label: str) -> list[str]:
    """The cells of the first line of a table on the terminal that begins with a label."""
    (line, *_) = (line for line in text.splitlines() if label in line)
    return [cell.strip() for cell in line.strip("│").split("│")[1:]]


def page_rows(page: str, label: str) -> list[list[str]]:
    """The cells behind a label in all rows of the page's tables that begin with it, without markup."""
    found = re.findall(rf"<tr><td>{re.escape(label)}</td>(.*?)</tr>", page, flags=re.S)
    texts = [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in found
    ]
    return [[text.replace("\u2212", "-").strip() for text in row] for row in texts]


def signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}" if round(value, 1) else "0.0"


def test_a_row_is_all_that_a_report_needs(registered, tables, tmp_path):
    summary = summarise(*tables, resamples=200)
    hands = [by_hand(table) for table in tables]
    page = write_report(tmp_path, summary, *tables).read_text("utf8")
    told = terminal_table(summary, color=False)
    assert json.loads((tmp_path / "report.json").read_text("utf8")) == summary
    labels = {key: label for row in ROWS for key, label in row.labels.items()}
    for key in (
        "top3_agreement_all",
        "top3_agreement_en",
        "last_candidate_en",
        "last_candidate_non_en",
        "split_vote",
    ):
        before, after = (hand[key] for hand in hands)
        change = bootstrap_delta(before, after, replicates=200)
        assert change.low < change.high
        bounds = summary["confidence"]["test"][key]
        assert bounds == pytest.approx([change.low, change.high], abs=1e-6)
        for part, value in (("base", before.mean()), ("final", after.mean()), ("delta", change.estimate)):
            assert summary[part]["test"][key] == pytest.approx(value, abs=1e-6), (part, key)
        interval = f"{signed(bounds[0])} to {signed(bounds[1])}"
        expected = [f"{before.mean():.1f}", f"{after.mean():.1f}", signed(change.estimate), interval]
        assert [row[:4] for row in page_rows(page, labels[key])] == [expected]
    for language in LANGUAGES:
        assert summary["final"]["test"]["last_candidate"][language] == pytest.approx(
            hands[1][language].mean(), abs=1e-6
        )
    spread = np.var([hands[1][language].mean() for language in LANGUAGES])
    assert summary["final"]["test"]["last_candidate_variance"] == pytest.approx(spread, abs=1e-5)

    lines = told[told.index("Last above first, %") :]
    for label, key in (("sw  Swahili", "sw"), ("mean without English", "last_candidate_non_en")):
        assert cells(lines, label)[:2] == [f"{hand[key].mean():.1f}" for hand in hands]
    for title, label, key in (
        ("Same best three, %", "all language pairs", "top3_agreement_all"),
        ("Same best three, %", "pairs with English", "top3_agreement_en"),
        ("Split vote, x 100", "all questions", "split_vote"),
    ):
        assert cells(told[told.index(title) :], label)[:2] == [f"{hand[key].mean():.1f}" for hand in hands]

    assert "What two languages &lt; share of their best three." in page  # its definition
    assert '<div class="tile-name">Same best three, all pairs</div>' in page
    assert "<h3>Last above first, %, by language" in page


def test_the_colour_of_a_change_is_the_rows(registered):
    """Less of `last_candidate` is better, `split_vote` has no better."""
    base, final = make_table(0), make_table(0)
    base.logp[..., 3] = base.logp.max() + 1  # every language ranks the last candidate first
    page = {}
    for name, (one, other) in {"fewer": (base, final), "more": (final, base)}.items():
        summary = summarise(one, other, resamples=50)
        rows = split_view(summary, "test")["figures"]
        page[name] = {key: rows[key].tone for key in ("last_candidate_en", "split_vote", "clc_all")}
    assert page["fewer"] == {"last_candidate_en": "up", "split_vote": "even", "clc_all": "down"}
    assert page["more"] == {"last_candidate_en": "down", "split_vote": "even", "clc_all": "up"}


def test_a_row_is_all_that_a_report_of_one_model_needs(registered, tables, tmp_path):
    summary, hand = summarise(tables[0], resamples=200), by_hand(tables[0])
    page = write_report(tmp_path, summary).read_text("utf8")
    told = terminal_table(summary, color=False)
    for key, label, line in (
        ("top3_agreement_all", "Same best three, all pairs", "all language pairs"),
        ("split_vote", "Split vote", "all questions"),
    ):
        (low, high), value = summary["confidence"]["test"][key], hand[key].mean()
        assert summary["base"]["test"][key] == pytest.approx(value, abs=1e-6)
        assert low < value < high
        assert page_rows(page, label) == [[f"{value:.1f}", f"{low:.1f} to {high:.1f}"]]
        lines = told[told.index(next(row.terminal for row in ROWS if key in row.labels)) :]
        assert cells(lines, line)[:2] == [f"{value:.1f}", f"[{low:.1f}, {high:.1f}]"]


def test_a_row_is_all_that_compare_needs(registered, tables, tmp_path, capsys):
    for name, strength in (("weak", 1.2), ("strong", 3.0)):
        config = default()
        config.model.path, config.total_steps = name, int(10 * strength)
        folder = tmp_path / name
        write_tables(folder / "tables" / "base.npz", {"test": tables[0]})
        write_tables(folder / "tables" / "final.npz", {"test": make_table(2, strength)})
        (folder / "config.json").write_text(to_json(config))
    compare_workdirs([tmp_path / "weak", tmp_path / "strong"])
    told = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "compare.html").read_text("utf8")
    result = json.loads((tmp_path / "compare.json").read_text("utf8"))
    before, after = by_hand(tables[0]), by_hand(make_table(2, 3.0))
    low = result["settings"]["splits"]["test"]["low_resource"]
    for hand in (before, after):
        hand["last_candidate_low"] = np.mean([hand[language] for language in low], axis=0)
    row = result["splits"]["test"]["strong"]
    headings = re.findall(r'<th class="n">(.*?)</th>', page)
    cells = re.findall(r'<td class="n">([\d.]+)', page.partition(">strong</td>")[2])
    for figure in ROWS:
        for key in figure.compare:
            change = bootstrap_delta(before[key], after[key], replicates=2000)
            assert row["figures"][key]["mean"] == pytest.approx(after[key].mean(), abs=1e-6)
            own = row["against_base"][key]
            expected = [change.estimate, change.low, change.high]
            assert [own[name] for name in ("mean", "low", "high")] == pytest.approx(expected, abs=1e-5)
            assert cells[headings.index(figure.labels[key])] == f"{after[key].mean():.1f}"
            assert f"{after[key].mean():.1f}" in told
    for words in ("Same best", "Last above", "Split vote"):  # headings are broken into lines
        assert words in told
    for language in LANGUAGES:
        key = f"last_candidate/{language}"
        assert row["figures"][key]["mean"] == pytest.approx(after[language].mean(), abs=1e-6)


# ------------------------------------------------------------------------------------------------ what a row may not be
def test_a_row_says_what_its_columns_stand_for():
    with pytest.raises(TypeError, match="block"):
        Figure("x", columns=lambda r: r.scores)
    with pytest.raises(ValueError, match="'x' .* languages. has no 'x_all'; its keys are x_en, x_non_en"):
        Figure("x", columns.LANGUAGES, compare=("x_all",))
    with pytest.raises(ValueError, match="has no 'matrix'"):
        Figure("x", columns.LANGUAGES, derived=("matrix",))


@pytest.mark.parametrize("rows", [FIGURES, FREE_TEXT, SAFETY])
def test_keys_and_labels_name_one_figure_each(rows):
    keys, labels = (
        list(itertools.chain(*own)) for own in zip(*((f.labels, f.labels.values()) for f in rows))
    )
    assert len(set(keys)) == len(keys)
    assert len(set(labels)) == len(labels)


def test_figures_that_are_no_means_are_made_again_of_every_bootstrap_sample():
    """Values and intervals, from the metrics themselves, of the questions drawn."""
    table, resamples = make_table(0), 60
    summary = summarise(table, normalization="sum", resamples=resamples, seed=5)
    items = len(table.ids)
    drawn = np.random.default_rng([5, items]).integers(0, items, (resamples, items))
    anchored = [0, 1, 2]  # pairs of four languages with the first one
    scores, p = table.scores("sum"), table.logp.astype(np.float64)
    figures_by_hand = {
        "capa_all": lambda rows: capa(scores[rows], table.gold[rows]).mean(),
        "capa_en": lambda rows: capa(scores[rows], table.gold[rows])[anchored].mean(),
        "capa_p_all": lambda rows: capa(p[rows], table.gold[rows], probabilities=True).mean(),
        "fleiss_kappa": lambda rows: fleiss_kappa(scores[rows]),
        "krippendorff_alpha": lambda rows: krippendorff_alpha(scores[rows]),
        "accuracy_gap": lambda rows: np.ptp(correct(scores[rows], table.gold[rows]).mean(0)),
    }
    for key, by_hand in figures_by_hand.items():
        again = [100 * by_hand(rows) for rows in drawn]
        assert summary["base"]["test"][key] == pytest.approx(100 * by_hand(slice(None)), abs=1e-5), key
        expected = np.quantile(again, [0.025, 0.975])
        assert summary["confidence"]["test"][key] == pytest.approx(expected, abs=1e-5), key


def test_consistency_where_some_language_is_right():
    table = make_table(0)
    scores = table.scores("sum")
    right = (scores.argmax(-1) == table.gold[:, None]).any(1)
    assert 0 < right.mean() < 1
    expected = clc_values(scores[right], table.mask[right]).mean()
    found = summarise(table, normalization="sum", resamples=10)["base"]["test"]["clc_known_all"]
    assert found == pytest.approx(expected, abs=1e-5)


def test_groups_that_are_languages_have_a_mother_tongue_effect():
    table = make_table(0)
    groups = [LANGUAGES[n % 4] for n in range(len(table.ids))]
    found = summarise(table, normalization="sum", resamples=10, groups={"test": groups})["base"]["test"]
    right = table.scores("sum").argmax(-1) == table.gold[:, None]
    for place, language in list(enumerate(LANGUAGES))[1:]:
        own = [n for n, group in enumerate(groups) if group == language]
        expected = 100 * (right[own, place].mean() - right[own, 0].mean())
        assert found["mother_tongue"][language] == pytest.approx(expected, abs=1e-5)
    assert found["mother_tongue"]["en"] is None
    assert summarise(table, resamples=10)["base"]["test"]["mother_tongue_non_en"] is None


@pytest.mark.parametrize("known", ["answers", "texts"])
def test_of_answers_alone_nothing_else_is_told(tmp_path, known):
    """What the answers give is what it is of the whole table; all else is null, on the page, too."""
    whole = make_table(0)
    chosen = np.eye(4)[whole.scores("sum").argmax(-1)]
    table = dataclasses.replace(
        whole,
        logp=np.where(chosen, 0, NEVER).astype(np.float32),
        prompt_logp=None,
        prompt_length=None,
        length=np.zeros_like(whole.length),
        known=known,
    )
    told = summarise(whole, normalization="sum", resamples=50)
    found = summarise(table, normalization="sum", resamples=50)
    names = {"capa", "fleiss_kappa", "krippendorff_alpha"} if known == "answers" else set()
    names |= {"top1_agreement", "agreement_if_either_right", "all_agree", "all_right", "all_agree_but_wrong"}
    for part, unknown in {"base": None, "confidence": [None, None]}.items():
        for figure in (row for row in FIGURES if not row.of_change and row.name != "mother_tongue"):
            for key in figure.labels.keys() & told[part]["test"].keys():
                expected = told[part]["test"][key] if figure.name in {*names, "accuracy"} else unknown
                if figure.name == "drawn_agreement":  # of one answer each
                    expected = told[part]["test"][key.replace("drawn", "top1")]
                assert found[part]["test"][key] == expected, key
    page = write_report(tmp_path, found, table, items={"test": make_items(table)}).read_text("utf8")
    assert "agreement of first answers between languages, %, is <b>" in page
    assert "CLC" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert ("kappa" in page) is (known == "answers")
    assert "CLC" not in terminal_table(found, color=False)
    with pytest.raises(ValueError, match="of answers alone there is no before and after"):
        summarise(table, table)
    path = tmp_path / "table.npz"
    for own in (table, whole):
        own.save(path)
        assert Table.load(path).known == own.known
