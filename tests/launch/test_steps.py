"""What the launchers share: nothing that stands in a flag or a variable is run."""

import subprocess

import pytest

CANARY = "BASH_VERSINFO[$(touch canary)]"
TRAIN = ("--", "python", "-m", "consistency_jax.train", "--workdir=gs://b/run")
SLICE = ("--name=x", "--zone=z", "--topology=v5e:2x4")
LAUNCHERS = {
    "gke": ("launch/gke.sh", "submit", "--name=x", "--topology=v5e:4x4", "--image=i", "--dry-run"),
    "tpu": ("launch/tpu.sh", "watch", *SLICE, "--dry-run"),
    "gpu": ("launch/gpu.sh", "--dry-run"),
    "local": ("launch/local.sh", "--dry-run"),
    "slurm": ("bash", "launch/slurm.sbatch"),
}


@pytest.mark.parametrize(
    ("launcher", "flag"),
    [
        ("gke", "--restarts"),
        ("gke", "--timeout"),
        ("gke", "--chips-per-host"),
        ("gke", "--topology"),
        ("tpu", "--restarts"),
        ("tpu", "--patience"),
        ("tpu", "--poll"),
        ("tpu", "--topology"),
        ("gpu", "--gpus"),
        ("gpu", "--memory"),
        ("local", "-n"),
        ("local", "--devices"),
        ("local", "--port"),
        ("local", "--grace"),
    ],
)
def test_a_word_in_the_place_of_a_number_is_refused_and_not_run(stage, launcher, flag):
    words = (f"{flag}{CANARY}",) if flag == "-n" else (f"{flag}={CANARY}",)
    done = stage.run(*LAUNCHERS[launcher], *words, *TRAIN)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert not list(stage.repository.rglob("canary"))


@pytest.mark.parametrize(
    ("launcher", "variable"),
    [
        *((launcher, "DRY_RUN") for launcher in ("gke", "tpu", "gpu", "local")),
        *((launcher, "CONSISTENCY_SECRETS") for launcher in ("gke", "tpu")),
        *(("slurm", name) for name in ("SLURM_GPUS_ON_NODE", "SLURM_NTASKS_PER_NODE", "SLURM_RESTART_COUNT")),
        ("slurm", "CONSISTENCY_RESTARTS"),
    ],
)
def test_nor_is_one_of_the_environment(stage, launcher, variable):
    command = TRAIN[1:] if launcher == "slurm" else TRAIN
    done = stage.run(*LAUNCHERS[launcher], *command, **{variable: CANARY})
    assert done.returncode == 2
    assert not list(stage.repository.rglob("canary"))


def test_a_worker_waits_for_a_number_of_seconds(stage):
    home = stage.stub / "home"
    home.mkdir()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as job:
        try:
            (home / "pid").write_text(str(job.pid))
            words = ("bash", "launch/tpu_worker.sh", "stop")
            done = stage.run(*words, CONSISTENCY_HOME=str(home), CONSISTENCY_GRACE=CANARY)
        finally:
            job.kill()
    assert done.returncode == 2
    assert "is not a whole number" in done.stderr
    assert not list(stage.repository.rglob("canary"))


def test_a_home_is_quoted_when_a_step_is_shown(stage):
    shown = stage.run("launch/gpu.sh", "--dry-run", "--", "python", "~/x", "--workdir=~/y").stdout
    assert "python '~/x' '--workdir=~/y'" in shown
