"""What report.json holds: figures are those of the metrics, of ragged tables too; odd ones are refused."""

import numpy as np
import pytest
from made import LANGUAGES, make_table

from consistency_jax.metrics import accuracy, clc
from consistency_jax.report import summarise, terminal_table, write_report
from consistency_jax.report.views import PARTS


def test_figures_are_those_of_the_metrics(tables, summary):
    for key, side in zip(("base", "final"), tables):
        for split, table in side.items():
            scores, figures = table.scores("mean_full"), summary[key][split]
            right = accuracy(scores, table.gold, table.mask, languages=LANGUAGES)
            consistency = clc(scores, table.mask, languages=LANGUAGES)
            expected = {
                "clc_all": consistency.all_pairs,
                "clc_en": consistency.anchor_pairs,
                "clc_norm1_all": clc(scores, weights="norm1").all_pairs,
                "clc_norm2_all": clc(scores, weights="norm2").all_pairs,
                "clc_corrected_all": clc(scores, corrected=True).all_pairs,
                "accuracy_en": 100 * right.anchor,
                "accuracy_non_en": 100 * right.mean_others,
                "accuracy_variance": 100**2 * right.variance,
            }
            # Figures are rounded to six digits.
            for name, value in expected.items():
                assert figures[name] == pytest.approx(value, abs=1e-6), name
            np.testing.assert_allclose(figures["clc_matrix"], consistency.matrix, atol=1e-6)
            np.testing.assert_allclose(
                list(figures["accuracy"].values()), 100 * right.per_language, atol=1e-6
            )
            assert list(figures["accuracy"]) == list(LANGUAGES)


def test_agreement_figures_of_first_answers(tables, summary):
    table, figures = tables[1]["test"], summary["final"]["test"]
    answers = table.logp.argmax(-1)
    before = tables[0]["test"].logp.argmax(-1)
    right = answers == table.gold[:, None]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    alike = (answers == answers[:, :1]).all(1)
    expected = {
        "top1_agreement_all": np.mean([(answers[:, i] == answers[:, j]).mean() for i, j in pairs]),
        "top1_agreement_en": np.mean([(answers[:, 0] == answers[:, j]).mean() for j in (1, 2, 3)]),
        "agreement_if_either_right_all": np.mean(
            [(right[:, i] & right[:, j]).sum() / (right[:, i] | right[:, j]).sum() for i, j in pairs]
        ),
        "all_agree": alike.mean(),
        "all_right": right.all(1).mean(),
        "all_agree_but_wrong": (alike & ~right[:, 0]).mean(),
        "changed_en": (answers != before)[:, 0].mean(),
        "changed_non_en": (answers != before)[:, 1:].mean(),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(100 * value, abs=1e-6), name


def test_ragged_candidates_and_absent_languages_are_left_out():
    base, final = make_table(0), make_table(2, 2.0)
    for table in (base, final):
        table.mask[:20, :, 3] = False
        table.mask[20:30, 2] = False
        table.gold[:20] %= 3
        table.logp[~table.mask] = np.nan
    summary = summarise(base, final, resamples=50)
    assert summary["settings"]["splits"]["test"]["lacking"] == {final.languages[2]: 10}
    assert f" languages; not asked in: {final.languages[2]} 10 " in terminal_table(summary, color=False)
    figures = summary["final"]["test"]
    scores = np.where(final.mask, final.scores("mean_full"), 0)
    assert figures["clc_all"] == pytest.approx(clc(scores, final.mask).all_pairs, abs=1e-6)
    right = accuracy(scores, final.gold, final.mask)
    assert list(figures["accuracy"].values()) == pytest.approx(100 * right.per_language, abs=1e-6)


def test_tables_that_do_not_belong_together_are_refused(tables):
    base, final = tables
    with pytest.raises(ValueError, match="base has the splits test, test_unseen, final has test"):
        summarise(base, {"test": final["test"]})
    with pytest.raises(ValueError, match=r"split test: base \(60\) and final \(30\) hold different items"):
        summarise(base["test"], final["test_unseen"])
    with pytest.raises(
        ValueError, match="split test: base has the languages en, ar, sw, zh, final has en, ar"
    ):
        summarise(base["test"], make_table(0, languages=("en", "ar")))
    other = make_table(0)
    other.gold[:] = 0
    with pytest.raises(ValueError, match="differ in candidates or gold answers"):
        summarise(base["test"], other)


def test_no_split_is_a_report_of_nothing(tmp_path):
    both, alone = summarise({}, {}), summarise({})
    assert {part for part, own in both.items() if own == {}} == {*PARTS, "analysis"}
    assert {part for part, own in alone.items() if own == {}} == {"base", "confidence", "analysis"}
    for summary in (both, alone):
        assert "<h1>" in write_report(tmp_path, summary).read_text("utf-8")
