"""launch/sweep.py: its grid, what it skips, the commands it makes, and the table of results."""

import importlib.util
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def sweep():
    spec = importlib.util.spec_from_file_location("sweep", ROOT / "launch" / "sweep.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# In place of train: notes its words, and leaves the report that the finished run would.
TRAIN = """\
echo "$@" >>"$0.calls"
for word in "$@"; do
  case $word in
    --workdir=*) folder=${word#*=} ;;
    *seed=1*) [ -e "$0.mended" ] || exit 3 ;;
  esac
done
mkdir -p "$folder"
echo '{"base": {"test": %(base)s}, "final": {"test": %(final)s}, "delta": {"test": %(delta)s}}' >"$folder/report.json"
"""


def side(clc: float) -> str:
    return json.dumps(
        {"clc_all": clc, "clc_en": clc + 1, "accuracy_non_en": clc - 1, "accuracy": {"en": None}}
    )


@pytest.fixture
def launcher(tmp_path) -> Path:
    path = tmp_path / "a launcher.sh"
    path.write_text(TRAIN % {"base": side(60), "final": side(70), "delta": side(10)})
    return path


def flags(tmp_path, launcher) -> list[str]:
    grid = [
        "--models",
        "gemma3:4b",
        "aya:8b",
        "--data",
        "bmlama17=my data",
        "--methods",
        "dco",
        "--seeds",
        "0",
        "1",
    ]
    return [f"--out={tmp_path / 'out'}", *grid, f"--launcher=bash {shlex.quote(str(launcher))} {{name}}"]


def test_a_sweep_runs_what_is_not_finished_and_makes_one_table(sweep, tmp_path, launcher, capfd):
    words = flags(tmp_path, launcher)
    assert sweep.main(words) == 1  # seed 1 fails
    out, errors = capfd.readouterr()
    assert "4 runs: 0 finished, 4 to do" in out
    assert "gemma3-4b-bmlama17-dco-s1: ended with status 3" in errors
    calls = Path(f"{launcher}.calls").read_text().splitlines()
    folder = tmp_path / "out" / "gemma3-4b-bmlama17-dco-s0"
    config = "configs/gemma3.py:size=4b,data=bmlama17,method=dco,seed=0,data_path=my data"
    assert (
        calls[0]
        == f"gemma3-4b-bmlama17-dco-s0 python -m consistency_jax.train --config={config} --workdir={folder}"
    )
    Path(f"{launcher}.mended").touch()
    assert sweep.main(words) == 0
    assert "4 runs: 2 finished, 2 to do" in capfd.readouterr().out
    assert len(Path(f"{launcher}.calls").read_text().splitlines()) == 6
    table = (tmp_path / "out" / "results.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| gemma3:4b", "| aya:8b"]
    assert "| test | dco | 2 | 60.0 ± 0.0, 70.0 ± 0.0, 10.0 ± 0.0 |" in table[2]
    assert table[2].endswith("| -, -, - |")
    assert sweep.main([*words, "--table"]) == 0
    assert capfd.readouterr().out.splitlines() == table
    command = [sys.executable, sweep.__file__, *words, "--table"]
    plain = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True
    )
    assert plain.stdout.splitlines() == [line.replace("±", "?") for line in table], plain.stderr


def test_a_report_of_the_base_or_of_an_earlier_step_is_not_the_end_of_a_run(sweep, tmp_path, launcher, capfd):
    words = flags(tmp_path, launcher)
    folder = tmp_path / "out" / "gemma3-4b-bmlama17-dco-s0"
    folder.mkdir(parents=True)
    whole = {"base": {}, "final": {"test": side(70)}, "delta": {"test": side(10)}}
    early = whole | {"base": {"test": side(60)}, "settings": {"checkpoint": ["dco", 5], "finished": False}}
    for report in ({"base": {"test": side(60)}}, early):
        (folder / "report.json").write_text(json.dumps(report))
        assert sweep.main([*words, "--dry-run"]) == 0
        assert "4 runs: 0 finished, 4 to do" in capfd.readouterr().out


def test_from_another_folder_workdirs_and_data_are_where_one_stands(
    sweep, tmp_path, launcher, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").touch()
    assert (
        sweep.main(["--out=runs", "--models=gemma3:4b", "--data", "q.jsonl", "--seeds=0", "--dry-run"]) == 0
    )
    told = capfd.readouterr().out
    assert f"data={tmp_path}/q.jsonl," in told
    assert re.search(f"--workdir={tmp_path}/runs/gemma3-4b-q-jsonl-dco-s0-[0-9a-f]{{6}}", told)
    assert sweep.main(["--out=runs", *flags(tmp_path, launcher)[1:], "--dry-run"]) == 0
    assert f"--workdir={tmp_path / 'runs'}/gemma3-4b-bmlama17-dco-s0" in capfd.readouterr().out
    with pytest.raises(SystemExit):
        sweep.main(["--out=runs", "--jobs=0"])
    assert "0 should be 1 or more" in capfd.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        '{"base": {"te',
        "[]",
        "{}",
        "3",
        '{"final": {"test": {}}}',
        '{"base": 1, "final": {"test": 2}}',
        '{"final": ["test"]}',
    ],
)
def test_half_a_report_is_one_line(sweep, tmp_path, launcher, text):
    folder = tmp_path / "out" / "gemma3-4b-bmlama17-dco-s0"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(text)
    with pytest.raises(SystemExit, match="error: .*gemma3-4b-bmlama17-dco-s0/report.json is damaged"):
        sweep.main(flags(tmp_path, launcher))


def test_a_dry_run_shows_every_command_and_runs_none(sweep, tmp_path, launcher, capfd):
    more = ["--options=lora=16", "--override", "optimizer.b2=0.9", "--dry-run"]
    assert sweep.main([*flags(tmp_path, launcher), *more]) == 0
    lines = capfd.readouterr().out.splitlines()[1:]
    assert len(lines) == 4
    words = shlex.split(lines[0])
    assert words[:3] == ["+", "bash", str(launcher)]
    name = re.fullmatch("gemma3-4b-bmlama17-dco-s0-[0-9a-f]{6}", words[3])[0]
    assert words[-2].endswith(f"/{name}")
    assert words[-3].endswith("data_path=my data,lora=16")
    assert words[-1] == "--config.optimizer.b2=0.9"
    assert not (tmp_path / "out").exists()


def test_a_finished_run_of_other_options_is_another_run(sweep, tmp_path, launcher, capfd):
    words = flags(tmp_path, launcher)
    folder = tmp_path / "out" / "gemma3-4b-bmlama17-dco-s0"
    folder.mkdir(parents=True)
    parts = {"base": 60, "final": 70, "delta": 10}
    report = {part: {"test": json.loads(side(clc))} for part, clc in parts.items()}
    (folder / "report.json").write_text(json.dumps(report))
    for more, finished in (([], 1), (["--options=lora=16"], 0), (["--override", "optimizer.b2=0.9"], 0)):
        assert sweep.main([*words, *more, "--dry-run"]) == 0
        assert f"4 runs: {finished} finished" in capfd.readouterr().out


def test_without_a_launcher_the_runs_take_this_python(sweep, tmp_path, capfd):
    assert sweep.main([f"--out={tmp_path}", "--models=gemma3:4b", "--data", "cldr", "--dry-run"]) == 0
    assert f"+ {sys.executable} -m consistency_jax.train" in capfd.readouterr().out


def test_the_spread_over_seeds(sweep):
    values = [61.25, 58.5, 60.0]
    assert sweep.spread(values) == f"{sum(values) / 3:.1f} ± {statistics.stdev(values):.1f}"
    assert (sweep.spread([4.0]), sweep.spread([None])) == ("4.0", "-")


def test_the_papers_grid_has_nine_models_whose_configs_exist_and_names_that_machines_take(sweep):
    args = sweep.flags().parse_args(["--out=x", "--data", "bmlama17"])
    runs = sweep.grid(args)
    assert (len(args.models), len(runs)) == (9, 9 * 3 * 3)
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 40 and name.replace("-", "").isalnum() for name in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--models", "gemma3:5b"), "gemma3-5b-bmlama17-dco-s0: --config option size='5b'"),
        (("--models", "gemma4:1b"), "gemma4.py"),
        (("--methods", "magic"), "method='magic'"),
        (("--options", "rank=4"), "takes no option 'rank'"),
        (("--options", "seed=5"), "option 'seed' is given twice"),
        (("--override", "seed=5"), "--override seed=... would make all seeds one: give --seeds"),
        (
            ("--seeds", "0", "0"),
            "2 runs have the name qwen2-5-7b-bmlama17-dco-s0: give each a sweep of its own",
        ),
        ((), "error: --data bmlama17=FOLDER: they are read from files"),
        (("--options", "runlocal", "--launcher", "nosuch --"), "there is no command nosuch"),
    ],
)
def test_a_grid_that_cannot_run_is_told_before_anything_starts(sweep, capfd, words, message):
    assert sweep.main(["--out=x", "--data", "bmlama17", *words]) == 2
    assert message in capfd.readouterr().err
