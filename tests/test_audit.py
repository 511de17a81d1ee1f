"""configs/audit.py: a model measured as it is; killed and started again it ends with the same bits."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import SOURCES, load_items, source_of
from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.metrics import accuracy, clc
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.scoring.tables import score
from consistency_jax.table import read_tables

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("audit_config", ROOT / "configs" / "audit.py")
audit_config = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit_config)


def audit(tmp_path: Path, options: str) -> tuple[dict[str, Any], Path]:
    config = audit_config.get_config(options)
    config.evaluation.bootstrap = 50
    return evaluate_workdir(config, tmp_path / "run"), tmp_path / "run"


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))


def test_the_report_is_of_one_model(small_model, questions, tmp_path, own_cache):
    options = (
        f"path={small_model},data=jsonl,data_path={questions},languages=ru+en,items=24,normalization=mean"
    )
    summary, workdir = audit(tmp_path, options)
    report = json.loads((workdir / "report.json").read_text())
    assert report == json.loads(json.dumps(summary))
    assert set(report) == {"base", "confidence", "analysis", "settings"}
    assert report["settings"]["splits"]["every"]["items"] == 24
    assert report["settings"]["splits"]["every"]["languages"] == ["ru", "en"]

    # The very figures of the public functions.
    items = load_items("jsonl", path=questions)
    taken = [items[n] for n in np.linspace(0, len(items) - 1, 24).round().astype(int)]
    table = score(load_pretrained(small_model), taken, languages=["ru", "en"])
    stored = read_tables(workdir / "tables" / "base.npz")["every"]
    np.testing.assert_allclose(stored.logp, table.logp, atol=1e-4)  # float32, other batches
    scores, figures = table.scores("mean"), report["base"]["every"]
    consistency = clc(scores, table.mask, languages=table.languages)
    assert figures["clc_all"] == pytest.approx(consistency.all_pairs, abs=1e-3)
    right = accuracy(scores, table.gold, table.mask, languages=table.languages)
    assert figures["accuracy_en"] == pytest.approx(100 * right.anchor, abs=1e-3)
    low, high = report["confidence"]["every"]["clc_all"]
    assert low <= figures["clc_all"] <= high
    assert not (workdir / "checkpoints").exists()


def test_a_table_gives_the_figures_of_the_same_questions(small_model, questions, tmp_path, own_cache):
    rows = [("ask", "choices", "right", "lang", "name")]
    for item in load_items("jsonl", path=questions):
        for language in ("en", "ru"):
            texts = json.dumps(item.candidates[language], ensure_ascii=False)
            rows.append((item.prompts[language], texts, item.gold, language, item.id))
    sheet = tmp_path / "sheet.csv"
    with open(sheet, "w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows(rows)
    common = f"path={small_model},languages=ru+en,items=24"
    columns = "prompt=ask,candidates=choices,gold=right,language=lang,id=name"
    from_table, _ = audit(tmp_path / "table", f"{common},data={sheet},{columns}")
    expected, _ = audit(tmp_path / "lines", f"{common},data={questions}")
    assert from_table["base"] == expected["base"]


def test_the_page_reads_of_one_model(small_model, questions, tmp_path, own_cache):
    _, workdir = audit(tmp_path, f"path={small_model},data=jsonl,data_path={questions}")
    page = (workdir / "report.html").read_text()

    class Open(HTMLParser):
        tags: list[str] = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link", "br", "input"):
                self.tags.append(tag)

        def handle_endtag(self, tag):
            assert self.tags.pop() == tag

    parser = Open()
    parser.feed(page)
    assert parser.tags == []
    assert page.count("<svg") >= 1 + 3  # the map, and a bar a language
    for told in ("how alike it answers", str(small_model), "Ranked by", "consistency_jax 0.1.0"):
        assert told in page.partition("<nav")[0], told
    for word in ("before", "Before", "After", "final", "→", "http", "None", "nan"):
        assert word not in page.partition("<h2>Config")[0].partition("</style>")[2], word


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_with_answers_has_an_audit(source):
    options = f"path=x,data={source},data_path=y"
    if not source_of(source).answers:
        with pytest.raises(ConfigError, match=f"data='{source}'; choose from cldr, .*, jsonl"):
            audit_config.get_config(options)
        return
    config = audit_config.get_config(options)
    assert (config.data.source, config.data.path) == (source, "y")
    assert config.data.languages == source_of(source).experiment.languages
    assert audit_config.get_config(f"{options},languages=sw+en").data.languages == ("sw", "en")


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ("data=bmlama17", ConfigError, "option path is missing"),
        ("path={model},data=bmlama", ConfigError, "option data='bmlama' .* choose from cldr, bmlama17"),
        ("path={model},data=bmlama17", DataError, "the source 'bmlama17' needs a file or folder"),
        ("path={model},dtype=int8,data=cldr", ConfigError, "model.dtype='int8' is unknown"),
        (
            "path={model},normalization=avg,data=cldr",
            ConfigError,
            "evaluation.normalization='avg' is unknown",
        ),
        ("path={model},boundary=glued,data=cldr", ConfigError, "evaluation.boundary='glued' is unknown"),
        ("path={model},items=-1,data=cldr", ConfigError, "data.test_items=-1 must not be negative"),
        ("path={model},data=jsonl,data_path={questions},languages=en+sw", DataError, "'sw'"),
        ("path={model},data=jsonl,data_path={questions},split=dev", DataError, "'dev'"),
        ("path=/nowhere/at/all,data=jsonl,data_path={questions}", Exception, "no checkpoint folder"),
    ],
)
def test_what_cannot_be_audited_is_one_clear_error(
    options, error, reason, small_model, questions, tmp_path, own_cache
):
    with pytest.raises(error, match=reason):
        audit(tmp_path, options.format(model=small_model, questions=questions))


def command(folder: Path, data_folder: Path, cache: str, items: int) -> subprocess.Popen:
    checkpoint = data_folder / "checkpoints" / "hf_stories260K"
    options = (
        f"path={checkpoint},data=bmlama17,data_path={data_folder / 'bmlama17'},items={items},tokens=2048"
    )
    environment = os.environ | {
        "CONSISTENCY_CACHE": str(folder.parent / cache),
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),  # who is killed may leave half a file
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "consistency_jax.evaluate", f"--config=configs/audit.py:{options}"),
            *("--config.evaluation.bootstrap=200", f"--workdir={folder}"),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.optimised
def test_a_killed_audit_of_a_real_checkpoint_goes_on(data_folder, tmp_path):
    """SIGKILL after the first batches are kept; then the tables and reports of an audit that nobody killed."""
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    process = command(killed, data_folder, "one", 60)
    while not list((tmp_path / "one" / "tables").glob("*.batches/*/*/*.npz")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "report.json").exists()
    process = command(killed, data_folder, "one", 60)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "prompts/s" in output
    output, _ = (process := command(unbroken, data_folder, "two", 60)).communicate()
    assert process.returncode == 0, output
    for name in ("report.json", "tables/base.npz"):
        assert (killed / name).read_bytes() == (unbroken / name).read_bytes(), name
    assert not list((tmp_path / "one" / "tables").glob("*.batches"))


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_while_it_scores(data_folder, tmp_path):
    """Resident memory at the end of scoring against that a quarter of the way, when all programs have been compiled."""
    process = command(tmp_path / "run", data_folder, "cache", 120)
    sizes = []
    while process.poll() is None:
        kept = list((tmp_path / "cache" / "tables").glob("*.batches/*/*/*.npz"))
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        if kept and "VmRSS" in status:
            sizes.append(int(status.partition("VmRSS:")[2].split()[0]))
        time.sleep(0.1)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert len(sizes) > 8
    assert max(sizes[len(sizes) // 2 :]) < 1.1 * max(sizes[: len(sizes) // 4])
