"""Which tasks are one in several languages, by their names, and which of several runs counts."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.logs.families import Run, newest, read_families


def read(tasks: Sequence[str], wanted: str = "", failing: str = ""):
    """The families of tasks, of which the items are the files of each language."""

    def joined(name, files):
        if name == failing:
            raise DataError.at(name, "it does not fit", "Mend it")
        return {language: file.name for language, file in files.items()}, name, []

    runs = {task: Run("model", "today", Path(task)) for task in tasks}
    return read_families(Path("logs"), runs, wanted, joined)


@pytest.mark.parametrize(
    ("tasks", "families"),
    [
        (["xcopa_it", "xcopa_sw", "copa"], {"xcopa": ["it", "sw"]}),
        (["belebele_eng_Latn", "belebele_swh_Latn"], {"belebele": ["en", "swh_Latn"]}),
        (["belebele_eng_Latn_cf", "belebele_ita_Latn_cf"], {"belebele_cf": ["en", "ita_Latn"]}),
        (["m_mmlu_fr", "m_mmlu_de", "arc_fr", "arc_de"], {"m_mmlu": ["de", "fr"], "arc": ["de", "fr"]}),
        (["belebele_quy_Latn", "belebele_zho_Hans"], {"belebele": ["quy_Latn", "zho_Hans"]}),
        (["piqa_eng_latn", "piqa_jpn_jpan", "piqa_tha_thai"], {"piqa": ["en", "jpn_Jpan", "tha_Thai"]}),
        (["mmlu_en_law", "mmlu_sw_law"], {"mmlu_law": ["en", "sw"]}),
        (["copa_en", "copa_eng"], {"copa": ["en", "eng"]}),
        (["copa_eng", "copa_en"], {"copa": ["en", "eng"]}),
    ],
)
def test_tasks_of_one_name_but_for_its_language_are_one(tasks, families):
    logged = read(tasks)
    assert {name: list(files) for name, files in logged.items.items()} == families
    assert {file for files in logged.items.values() for file in files.values()} == {*tasks} - {"copa"}
    assert logged.notes == (["in one language alone, left out: copa"] if "copa" in tasks else [])


def test_tasks_are_chosen_by_a_pattern():
    logged = read(["a-en-x", "a-sw-x", "b_en", "b_sw"], "a-{language}-x")
    assert list(logged.items) == ["a-{language}-x"]
    assert logged.notes == ["in one language alone, left out: b_en, b_sw"]
    for wanted, told in {
        "a_en": "no place for its language",
        "c_{language}": "is no task; there are",
    }.items():
        with pytest.raises(DataError, match=told):
            read(["a_en", "a_sw"], wanted)


def test_a_pattern_tells_where_a_language_stands_that_has_no_code():
    logged = read(["include_albanian_stem", "include_arabic_stem", "include_x"], "include_{language}_stem")
    assert list(logged.items["include_{language}_stem".replace("_{language}", "")]) == ["albanian", "arabic"]
    logged = read(["arc_de", "arc_easy", "arc_fr"], "arc_{language}")
    assert list(logged.items["arc"]) == ["de", "fr"]  # where two are known, words are no languages
    assert logged.notes == ["in one language alone, left out: arc_easy"]
    logged = read(["wino_en", "wino_jp", "wino_full_en"], "wino_{language}")
    assert list(logged.items["wino"]) == ["en", "jp"]


def test_a_family_that_does_not_fit_is_left_out_or_told():
    tasks = ["a_en", "a_sw", "b_en", "b_sw"]
    logged = read(tasks, failing="a")
    assert list(logged.items) == ["b"]
    assert logged.notes[0].startswith("a (en, sw) is left out: a: it does not fit")
    with pytest.raises(DataError, match="it does not fit"):
        read(tasks, "a_{language}+b_{language}", failing="a")
    with pytest.raises(DataError, match="no task is there in two languages: a_en"):
        read(["a_en"])


def test_the_newest_run_of_a_task_counts():
    runs = {
        Path("1"): ("a", Run("m", "2026-01-02", Path("1"))),
        Path("2"): ("a", Run("m", "2026-01-03", Path("2"))),
        Path("3"): ("b", Run("m", "2026-01-01", Path("3"))),
    }
    assert {task: run.file.name for task, run in newest(Path("logs"), runs).items()} == {"a": "2", "b": "3"}
    half = {Path("5"): ("b", Run("m", "2026-01-09", Path("5"), whole=False))}
    assert newest(Path("logs"), runs | half)["b"].file == Path("3")
    assert newest(Path("logs"), half)["b"].file == Path("5")
    with pytest.raises(DataError, match="several models or runs, m, other"):
        newest(Path("logs"), runs | {Path("4"): ("a", Run("other", "2026-01-03", Path("4")))})
