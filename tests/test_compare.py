"""Runs side by side: the figures are those of their reports, seeds are put together, what differs is refused."""

import dataclasses
import itertools
import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from consistency_jax.compare import compare, compare_workdirs
from consistency_jax.config.defaults import default
from consistency_jax.config.parsing import to_json
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.metrics import accuracy
from consistency_jax.report import summarise
from consistency_jax.report.comparison import columns, markdown_comparison, picture, terminal_comparison
from consistency_jax.table import Table, read_tables, write_tables

LANGUAGES = ("en", "fr", "hi", "sw")
KEYS = ("clc_all", "clc_en", "accuracy_en", "accuracy_non_en")


def table(seed: int, strength: float, noise: float = 1.0, items: int = 60) -> Table:
    """Four candidates, the gold one likelier by `strength`, less so in later languages; items named by the seed."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 4, items)
    shape = (items, len(LANGUAGES), 4)
    logp = noise * rng.normal(size=shape)
    logp[np.arange(items), :, gold] += strength * np.array([3.0, 2.0, 0.5, 0.3])
    return Table(
        ids=tuple(f"{seed}-{n}" for n in range(items)),
        languages=LANGUAGES,
        logp=logp.astype(np.float32),
        length=np.ones(shape, np.int32),
        bytes=np.ones(shape, np.int32),
        mask=np.ones(shape, bool),
        gold=gold.astype(np.int32),
    )


@pytest.fixture
def make_run(tmp_path):
    """Writes a workdir as a finished run leaves it."""

    def make(name: str, seed: int = 0, strength: float = 1.5, **changes):
        config = default()
        config.seed, config.model.path, config.evaluation.normalization = seed, "model", "sum"
        config.update(changes)
        folder = tmp_path / "runs" / name
        write_tables(folder / "tables" / "base.npz", {"test": table(seed, 1.0)})
        write_tables(folder / "tables" / "final.npz", {"test": table(seed, strength)})
        (folder / "config.json").write_text(to_json(config))
        lines = [{"stage": "pretrain", "step": 1, "items_per_s": 900.0}]
        lines += [{"stage": config.objective.name, "step": n, "items_per_s": 10.0 + n} for n in range(3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return make


@pytest.fixture
def make_audit(make_run):
    """The same as an audit leaves it, of a model of another name."""

    def make(name: str, strength: float, **changes):
        folder = make_run(name, 0, strength, **changes)
        config = json.loads((folder / "config.json").read_text())
        config["model"]["path"] = f"{name}.gguf"
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tables" / "final.npz").rename(folder / "tables" / "base.npz")
        (folder / "report.json").write_text('{"settings": {"splits": {}}, "base": {}}')
        return folder

    return make


def test_audits_are_compared_with_the_first(make_audit, tmp_path, capsys):
    audits = [make_audit("weak", 1.0), make_audit("strong", 3.0)]
    result = compare(audits, resamples=300)
    rows = result["splits"]["test"]
    assert list(rows) == ["weak", "strong"]
    report = summarise(table(0, 1.0), table(0, 3.0), normalization="sum", resamples=300, seed=0)
    for key in KEYS:
        for against in ("against_first", "against_base"):
            change = rows["strong"][against][key]
            assert change["mean"] == pytest.approx(report["delta"]["test"][key], abs=1e-5)
            bounds = pytest.approx(report["confidence"]["test"][key], abs=1e-5)
            assert [change["low"], change["high"]] == bounds
    assert [(own["model"], own["method"]) for own in result["methods"]] == [
        ("weak.gguf", "as it is"),
        ("strong.gguf", "as it is"),
    ]
    compare_workdirs([str(folder) for folder in audits])
    told = capsys.readouterr().out
    assert "Changes are against weak;" in told
    assert "they are not the answers of weak." in " ".join(told.split())
    page = (tmp_path / "runs" / "compare.html").read_text()
    assert "2 models compared" in page
    assert "strong is more consistent between languages than weak: CLC +" in page
    compare_workdirs([str(folder) for folder in reversed(audits)])
    page = (tmp_path / "runs" / "compare.html").read_text()
    assert "no model is measurably more consistent between languages than strong" in page


def test_an_audit_is_not_compared_with_a_run(make_run, make_audit):
    with pytest.raises(
        UserError, match="weak is an audit, of a model as it is, and others are training runs"
    ):
        compare([make_run("run"), make_audit("weak", 1.0)])


def test_a_run_without_a_trained_model_is_told_to_go_on(make_run):
    folder = make_run("half")
    (folder / "tables" / "final.npz").unlink()
    with pytest.raises(UserError, match="half has no tables/final.npz: let its training finish"):
        compare([make_run("run"), folder])


def test_a_model_that_was_measured_before_its_training_ended_is_told(make_run):
    runs = [make_run("whole", total_steps=10), make_run("early", strength=2.0, total_steps=11)]
    for folder, step in zip(runs, (10, 4), strict=True):
        settings = {"splits": {}, "checkpoint": ["dco", step]}
        (folder / "report.json").write_text(json.dumps({"settings": settings, "base": {}, "final": {}}))
    told = [method["method"] for method in compare(runs, resamples=10)["methods"]]
    assert told[0].startswith("dco, 10 steps")
    assert told[0].endswith("items")
    assert told[1].endswith(", at step 4 of dco, before its end")


def test_seeds_that_were_measured_at_other_steps_are_no_spread_of_one_method(make_run):
    runs = [make_run("whole", seed=0, total_steps=10), make_run("early", seed=1, total_steps=10)]
    for folder, step in zip(runs, (10, 4), strict=True):
        settings = {"splits": {}, "checkpoint": ["dco", step]}
        (folder / "report.json").write_text(json.dumps({"settings": settings, "base": {}, "final": {}}))
    assert [method["seeds"] for method in compare(runs, resamples=10)["methods"]] == [[0], [1]]


def test_low_resource_languages_are_known_without_those_that_have_no_answer(make_run, make_audit):
    mask = np.ones((60, 4, 4), bool)
    mask[:, 3] = False
    for name, strength in (("weak", 1.0), ("strong", 3.0)):
        folder = make_run(name, total_steps=int(strength))
        own = dataclasses.replace(table(0, strength), mask=mask)
        for side in ("base", "final"):
            write_tables(folder / "tables" / f"{side}.npz", {"test": own})
    low = compare([folder.parent / "weak", folder], resamples=10)["settings"]["splits"]["test"][
        "low_resource"
    ]
    assert low == ["hi"]


def test_low_resource_languages_of_audits_are_those_of_all_models(make_audit):
    """Chosen by one model alone, its chance errors would count as gains of every other."""
    first, second = make_audit("first", 1.0), make_audit("second", 1.0)
    one, other = table(0, 1.0), table(0, 1.0)
    gold = np.arange(60), slice(None), one.gold
    for own, language in (
        (one, 1),
        (other, 2),
    ):  # each is wrong in another language, once in each more than en and sw
        own.logp[gold] = 9.0
        own.logp[: 20 + language, language] *= -1
        own.logp[:30, 3] *= -1
    for folder, own in ((first, one), (second, other)):
        write_tables(folder / "tables" / "base.npz", {"test": own})
    pairs = [first, second], [second, first]
    results = [compare(pair, resamples=10) for pair in pairs]
    low = [result["settings"]["splits"]["test"]["low_resource"] for result in results]
    assert low[0] == low[1] == ["hi", "sw"]


def test_what_it_wrote_itself_is_no_workdir(make_audit, tmp_path):
    """`compare runs/*` once more, with its own page among the runs."""
    audits = [str(make_audit(name, strength)) for name, strength in (("a", 1.0), ("b", 2.0))]
    out = tmp_path / "out"
    compare_workdirs(audits, out=out)
    compare_workdirs([*audits, str(out / "compare.html"), str(out / "compare.json")], out=out)
    with pytest.raises(UserError, match="has no config.json"):
        compare_workdirs([*audits, str(tmp_path / "nowhere" / "compare.html")], out=out)


def test_audits_of_other_questions_are_not_compared(make_audit):
    other = make_audit("other", 1.0)
    write_tables(other / "tables" / "base.npz", {"test": table(1, 1.0)})
    with pytest.raises(UserError, match="cannot be compared, they measured other items of split 'test'"):
        compare([make_audit("weak", 1.0), other])


def test_figures_and_intervals_are_those_of_the_reports(make_run):
    runs = make_run("weak", strength=1.2, total_steps=10), make_run("strong", strength=3.0, total_steps=20)
    result = compare(runs, resamples=300)
    rows = result["splits"]["test"]
    assert list(rows) == ["base", "weak", "strong"]
    for name, strength in (("weak", 1.2), ("strong", 3.0)):
        report = summarise(table(0, 1.0), table(0, strength), normalization="sum", resamples=300, seed=0)
        for key in KEYS:
            assert rows["base"]["figures"][key]["mean"] == pytest.approx(report["base"]["test"][key])
            assert rows[name]["figures"][key] == {
                "mean": pytest.approx(report["final"]["test"][key]),
                "sd": None,
            }
            change = rows[name]["against_base"][key]
            assert change["mean"] == pytest.approx(report["delta"]["test"][key], abs=1e-5)
            assert [change["low"], change["high"]] == pytest.approx(
                report["confidence"]["test"][key], abs=1e-5
            )
        drift = report["final"]["test"]["changed_en"]
        assert rows[name]["figures"]["changed_en"]["mean"] == pytest.approx(drift)
    report = summarise(table(0, 1.2), table(0, 3.0), normalization="sum", resamples=300, seed=0)
    change = rows["strong"]["against_first"]["clc_all"]
    assert [change["low"], change["high"]] == pytest.approx(report["confidence"]["test"]["clc_all"], abs=1e-5)
    assert result["settings"]["splits"]["test"]["low_resource"] == ["hi", "sw"]
    right = accuracy(table(0, 3.0).scores("sum"), table(0, 3.0).gold, languages=LANGUAGES).per_language
    low = 100 * (right[2] + right[3]) / 2
    assert rows["strong"]["figures"]["accuracy_low"]["mean"] == pytest.approx(low)
    assert [method["items_per_s"] for method in result["methods"]] == [11.0, 11.0]


def test_a_run_called_base_is_not_taken_for_the_base_model(make_run):
    runs = [
        str(make_run(name, strength=n, optimizer={"learning_rate": n}))
        for n, name in ((2.0, "base"), (3.0, "x"))
    ]
    result = compare(runs)
    assert [method["name"] for method in result["methods"]] == ["base (run)", "x"]
    assert list(result["splits"]["test"]) == ["base", "base (run)", "x"]
    assert "base (run)" in picture(result, "test")


def test_seeds_of_one_method_are_put_together(make_run):
    """Other items with another seed; mean and standard deviation by hand, and an interval narrower than one seed's."""
    strengths = {0: 2.0, 1: 2.5, 2: 3.0}
    runs = [make_run(f"dco/{seed}", seed, strength) for seed, strength in strengths.items()]
    runs += [make_run(f"sft/{seed}", seed, 1.1, total_steps=5) for seed in (1, 0)]
    result = compare(runs, resamples=300)
    assert [(m["name"], m["seeds"]) for m in result["methods"]] == [("dco", [0, 1, 2]), ("sft", [1, 0])]
    rows = result["splits"]["test"]
    assert list(rows) == ["dco", "sft"]  # not from the same base models: one seed is missing
    deltas = {}
    for seed, strength in strengths.items():
        report = summarise(
            table(seed, 1.0), table(seed, strength), normalization="sum", resamples=300, seed=seed
        )
        deltas[seed] = report["delta"]["test"]["clc_all"]
        width = np.diff(report["confidence"]["test"]["clc_all"])[0]
    change = rows["dco"]["against_base"]["clc_all"]
    assert change["mean"] == pytest.approx(np.mean(list(deltas.values())), abs=1e-5)
    assert change["sd"] == pytest.approx(np.std(list(deltas.values()), ddof=1), abs=1e-5)
    assert 0.4 < (change["high"] - change["low"]) / width < 0.8  # about 1 / sqrt(3)
    first = [
        summarise(table(s, strengths[s]), table(s, 1.1), normalization="sum", resamples=9)["delta"]["test"]
        for s in (0, 1)  # the seeds that both have
    ]
    assert rows["sft"]["against_first"]["clc_all"]["mean"] == pytest.approx(
        np.mean([delta["clc_all"] for delta in first]), abs=1e-5
    )


def test_runs_that_answer_alike_have_the_interval_of_one(make_run):
    """All seeds were tested on the same items: three identical answers to them are not three times as many."""
    runs = [make_run(f"dco/{seed}", seed) for seed in range(3)]
    for run in runs:
        for side, strength in (("base", 1.0), ("final", 2.0)):
            write_tables(run / "tables" / f"{side}.npz", {"test": table(0, strength)})
    one, three = (
        compare([*own, make_run("sft", total_steps=5)], resamples=50)["splits"]["test"]
        for own in (runs[:1], runs)
    )
    many_name, name = (next(name for name in rows if name.startswith("dco")) for rows in (three, one))
    for key in KEYS:
        many, single = three[many_name]["against_base"][key], one[name]["against_base"][key]
        assert [many["low"], many["high"]] == pytest.approx([single["low"], single["high"]], abs=1e-5)
        assert many["low"] < many["high"]
        assert many["sd"] == 0


def rows_of(whole: Table, rows) -> Table:
    cells = {name: getattr(whole, name)[rows] for name in ("logp", "length", "bytes", "mask", "gold")}
    return replace(whole, ids=tuple(whole.ids[n] for n in rows), **cells)


def test_questions_that_seeds_share_are_drawn_together(make_run):
    """Seeds that draw the split too: two of three questions of each are the other's, in another order."""
    base, final = table(0, 1.0, items=240), table(0, 2.0, items=240)
    own = {0: np.arange(180), 1: np.arange(239, 59, -1)}
    runs = [make_run(f"dco/{seed}", seed) for seed in own] + [make_run("sft/0", 0, total_steps=5)]
    for run, rows in zip(runs, (own[0], own[1], own[0])):
        write_tables(run / "tables" / "base.npz", {"test": rows_of(base, rows)})
        write_tables(run / "tables" / "final.npz", {"test": rows_of(final, rows)})
    change = compare(runs, resamples=2000)["splits"]["test"]["dco"]["against_base"]["accuracy_non_en"]

    # The same by hand: questions by number, drawn from all 240.
    right = [(t.logp.argmax(2) == t.gold[:, None])[:, 1:].mean(1) for t in (base, final)]
    gain, rng = 100 * (right[1] - right[0]), np.random.default_rng(7)
    held = np.stack([np.isin(np.arange(240), rows) for rows in own.values()])
    counts = np.stack([np.bincount(rng.integers(0, 240, 240), minlength=240) for _ in range(20000)])
    means = np.mean([(counts * has) @ gain / (counts @ has) for has in held], axis=0)
    low, high = np.quantile(means, [0.025, 0.975])
    assert change["mean"] == pytest.approx(np.mean([gain[has].mean() for has in held]), abs=1e-5)
    assert [change["low"], change["high"]] == pytest.approx([low, high], abs=0.06 * (high - low))
    draws = rng.integers(0, 180, (4000, 180))
    by_place = np.std([np.mean([gain[rows][draw].mean() for rows in own.values()]) for draw in draws])
    assert by_place < 0.93 * means.std()  # what drawing by place would say


@pytest.mark.parametrize(
    ("changes", "splits", "message"),
    [
        (
            {},
            ("test", "other"),
            "b: tables/base.npz has the splits test, other, tables/final.npz test; measure both",
        ),
        (
            {"evaluation.normalization": "pmi"},
            ("test",),
            "base.npz cannot be ranked by pmi .*, but by sum, mean, bytes: give --normalization=NAME",
        ),
        (
            {"evaluation.normalization": "mean_full"},
            ("test",),
            "mean_full needs .*consistency_jax.evaluate --workdir=",
        ),
    ],
)
def test_a_model_measured_again_with_other_settings_is_refused(make_run, changes, splits, message):
    one, other = make_run("a"), make_run("b", total_steps=7)
    write_tables(other / "tables" / "base.npz", {split: table(0, 1.0) for split in splits})
    config = default()
    config.update(json.loads((other / "config.json").read_text()))
    config.update_from_flattened_dict(changes)
    (other / "config.json").write_text(to_json(config))
    with pytest.raises(UserError, match=message):
        compare([one, other], resamples=5)


def test_runs_that_rank_otherwise_are_compared_by_what_all_have(make_run):
    one, other = make_run("a"), make_run("b", total_steps=7)
    lengths = np.random.default_rng(0).integers(1, 5, (60, 4, 4)).astype(np.int32)
    for run, side in itertools.product((one, other), ("base", "final")):
        path = run / "tables" / f"{side}.npz"
        write_tables(path, {"test": dataclasses.replace(read_tables(path)["test"], length=lengths)})
    stored = compare([one, other], resamples=5)
    config = default()
    config.update(json.loads((other / "config.json").read_text()))
    config.evaluation.normalization = "mean"
    (other / "config.json").write_text(to_json(config))
    with pytest.raises(
        UserError, match="by sum and mean: give --normalization=NAME, one of sum, mean, bytes, and all"
    ):
        compare([one, other], resamples=5)
    by_sum, by_mean = (compare([one, other], resamples=5, normalization=name) for name in ("sum", "mean"))
    assert by_sum == stored
    assert by_mean["settings"]["normalization"] == "mean"
    assert by_sum["splits"] != by_mean["splits"]
    with pytest.raises(ConfigError, match="--normalization=median should be one of sum, mean"):
        compare_workdirs([one, other], normalization="median")


def test_the_command_writes_a_page_that_needs_nothing(make_run, tmp_path, capsys):
    runs = make_run("weak", strength=1.0, total_steps=10), make_run("strong", strength=4.0, total_steps=20)
    compare_workdirs(runs)
    told = capsys.readouterr().out
    page = (tmp_path / "runs" / "compare.html").read_text()
    result = json.loads((tmp_path / "runs" / "compare.json").read_text())
    clc = result["splits"]["test"]["strong"]
    value, change = clc["figures"]["clc_all"]["mean"], clc["against_base"]["clc_all"]["mean"]
    for text in (f"{value:.1f}", f"{change:+.1f}*", "weak", "strong", "(hi, sw)"):
        assert text in told
    assert f"{value:.1f}" in page
    assert f"{change:+.1f}" in page
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    assert "NaN" not in page
    markdown = markdown_comparison(result, against="first")
    assert f"| strong | {value:.1f} (" in markdown
    first = result["splits"]["test"]["strong"]["against_first"]["clc_all"]
    assert f"[{first['low']:+.1f}, {first['high']:+.1f}]".replace("-", "\u2212") in markdown
    assert picture(result, "test").count("<circle") == 2 * len(columns())
    assert "against weak" in " ".join(terminal_comparison(result, against="first").split())


def test_the_page_tells_its_numbers_in_a_browser(make_run, tmp_path, chromium):
    compare_workdirs([make_run("weak", total_steps=10), make_run("strong", strength=4.0, total_steps=20)])
    chromium.get((tmp_path / "runs" / "compare.html").as_uri())
    mark = chromium.find_element("css selector", "svg.plot g[tabindex='0']")
    chromium.execute_script("arguments[0].focus()", mark)
    assert re.fullmatch(
        r"[+-][\d.]+, interval [+-][\d.]+ to [+-][\d.]+", chromium.find_element("id", "tip").text
    )
    assert [line for line in chromium.get_log("browser") if line["level"] != "INFO"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, None),  # other items, but of another seed
        ({"languages": ("en", "fr", "hi", "ar")}, "a and b cannot be compared, they measured languages"),
        ({"ids": tuple(f"x{n}" for n in range(60))}, "other items of split 'test'"),
        ({"gold": np.zeros(60, np.int32)}, "other candidates or answers in split 'test'"),
        (
            {"seed": 1, "ids": tuple(f"0-{n + 30}" for n in range(60))},  # some are those of the first
            "other candidates or answers to question '0-30' of split 'test'",
        ),
        ({"split": "validation"}, "splits .'test'. and .'validation'."),
        ({"missing": "final"}, "b has no tables/final.npz: let its training finish"),
        ({"damaged": "base"}, "cannot be read as tables"),
    ],
)
def test_what_did_not_measure_the_same_is_refused(make_run, change, message):
    seed = change.pop("seed", 0)
    one, other = make_run("a"), make_run("b", seed=seed, total_steps=7)
    split, missing, damaged = (change.pop(name, None) for name in ("split", "missing", "damaged"))
    for side, strength in (("base", 1.0), ("final", 1.5)):
        write_tables(
            other / "tables" / f"{side}.npz", {split or "test": replace(table(seed, strength), **change)}
        )
    if missing:
        (other / "tables" / f"{missing}.npz").unlink()
    if damaged:
        (other / "tables" / f"{damaged}.npz").write_bytes(b"x")
    if message is None:
        assert set(compare([one, other], resamples=5)["splits"]["test"]) == {"a", "b"}
        return
    with pytest.raises(UserError, match=message):
        compare([one, other], resamples=5)


def test_answers_among_other_candidates_are_not_compared_and_those_that_are_missing_are(make_audit):
    def answers(counts: int, silent: int) -> Table:
        """Of so many candidates each; a language that says nothing has a place of its own behind them."""
        logp, mask = np.full((60, 4, 5), -50.0, np.float32), np.zeros((60, 4, 5), bool)
        mask[:, :, :counts] = True
        logp[:, :, 0] = 0.0
        logp[:silent, 2], mask[:silent, 2, 4] = -50.0, True
        logp[:silent, 2, 4] = 0.0
        own = table(0, 1.0)
        sizes = np.ones(logp.shape, np.int32)
        return replace(
            own,
            logp=logp,
            mask=mask,
            length=sizes,
            bytes=sizes,
            gold=np.zeros_like(own.gold),
            known="answers",
        )

    audits = [make_audit(name, 1.0) for name in ("a", "b", "c")]
    for folder, own in zip(audits, (answers(4, 0), answers(4, 9), answers(2, 0)), strict=True):
        write_tables(folder / "tables" / "base.npz", {"test": own})
    assert set(compare(audits[:2], resamples=5)["splits"]["test"]) == {"a", "b"}
    with pytest.raises(UserError, match="other candidates or answers in split 'test'"):
        compare([audits[0], audits[2]], resamples=5)


def test_no_language_is_low_where_what_is_right_is_not_known(make_audit):
    audits = [make_audit(name, strength) for name, strength in (("a", 1.0), ("b", 2.0))]
    for folder, strength in zip(audits, (1.0, 2.0), strict=True):
        own = table(0, strength)
        write_tables(folder / "tables" / "base.npz", {"test": replace(own, gold=np.full_like(own.gold, -1))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare(audits, resamples=5)
    assert found["settings"]["splits"]["test"]["low_resource"] == []


def test_a_question_has_one_answer_in_whatever_form_a_table_has_it(make_run):
    """The right ones are numbers where no question of a split has several, else a row of candidates."""
    one, other = make_run("a"), make_run("b", seed=1, total_steps=7)
    for side, strength in (("base", 1.0), ("final", 1.5)):
        mine, own = table(0, strength), table(1, strength)
        right = np.zeros((60, 4), bool)
        right[np.arange(60), own.gold] = True
        right[0] = np.arange(4) == mine.gold[0]
        right[1, :2] = True
        ids = (mine.ids[0], *own.ids[1:])
        write_tables(other / "tables" / f"{side}.npz", {"test": replace(own, ids=ids, gold=right)})
    assert set(compare([one, other], resamples=5)["splits"]["test"]) == {"a", "b"}


def test_runs_are_two_or_more_and_not_the_same(make_run, tmp_path):
    one, copy = make_run("a"), make_run("b")
    with pytest.raises(UserError, match="two or more"):
        compare_workdirs([one])
    with pytest.raises(
        UserError, match="a, b have the same seed, and differ at most in how they were measured"
    ):
        compare([one, copy])
    with pytest.raises(UserError, match="given twice"):
        compare([one, one])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no config.json"):
        compare([one, tmp_path / "empty"])
