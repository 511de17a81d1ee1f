"""launch/tpu.sh against a stub of gcloud whose workers really run what is sent to them."""

import pytest

SLICE = ("--name=my-run", "--zone=us-central1-a")
WATCH = ("launch/tpu.sh", "watch", *SLICE, "--topology=v5e:2x4", "--spot", "--poll=0.1")
JOB = ("--", "bash", "job.sh", "--config=configs/x.py:size=4b", "--workdir=gs://b/my run")
SECRET = "hf_'a b\"$HOME"


def verbs(calls: list[list[str]]) -> list[str]:
    """What was done with the slice, looks aside."""
    told = [call[4] for call in calls if call[:4] == ["gcloud", "compute", "tpus", "queued-resources"]]
    return [verb for verb in told if verb != "describe"]


def test_watch_goes_from_nothing_to_the_report_and_gives_the_slice_back(stage):
    stage.plan(secrets=["HF_TOKEN"])
    (stage.repository / "my data").mkdir()
    (stage.repository / "my data" / "en.tsv").write_text("Paris")
    done = stage.run(*WATCH, "--data=my data", "--keep", *JOB, HF_TOKEN=SECRET)
    assert done.returncode == 0, done.stderr
    assert [(stage.stub / f"worker-{n}/consistency/data/my data/en.tsv").read_text() for n in (0, 1)] == [
        "Paris"
    ] * 2
    assert verbs(stage.calls) == ["create"]
    done = stage.run(*WATCH, *JOB)  # finished: the same command finds that out and ends
    assert done.returncode == 0, done.stderr
    assert verbs(stage.calls) == ["create", "delete"]
    assert (stage.bucket / "b" / "my run" / "report.json").exists()
    create = next(call for call in stage.calls if "create" in call)
    assert {"--accelerator-type=v5litepod-8", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"} < set(create)
    history = (stage.bucket / "b" / "my run" / "history").read_text().splitlines()
    assert sorted(history)[::2] == [f"worker {n} starts at step 0 with HF_TOKEN={SECRET}" for n in (0, 1)]
    shown = done.stdout + done.stderr + (stage.stub / "calls.jsonl").read_text()
    assert "hf_" not in shown
    assert not list(stage.repository.rglob("secrets.env"))


def test_watch_recreates_a_preempted_slice_and_resumes_the_workdir(stage):
    stage.plan(preempt_at_poll=2)
    done = stage.run(*WATCH, *JOB)
    assert done.returncode == 0, done.stderr
    assert verbs(stage.calls) == ["create", "delete", "create", "delete"]
    assert "my-run is SUSPENDED: taking it out" in done.stderr
    history = (stage.bucket / "b" / "my run" / "history").read_text()
    starts = [
        int(line.split(" starts at step ")[1].split()[0])
        for line in history.splitlines()
        if "worker 0" in line
    ]
    assert starts[0] == 0
    assert 0 < starts[1] < 15
    assert (stage.bucket / "b" / "my run" / "step-0").read_text() == "15\n"


def test_watch_gives_up_after_the_restarts_it_was_allowed(stage):
    stage.plan(preempt_at_poll=2)
    done = stage.run(*WATCH, "--restarts=0", *JOB)
    assert done.returncode == 5
    assert "gave up after 0 restarts" in done.stderr


def test_a_command_that_ended_early_with_a_checkpoint_is_started_again_on_the_same_slice(stage):
    stage.plan()
    script = stage.repository / "job.sh"
    script.write_text(
        "[ -e $STUB/once ] || { touch $STUB/once-$STUB_WORKER; [ -e $STUB/once-1 ] && touch $STUB/once; exit 0; }\n"
        + script.read_text()
    )
    stage.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qam", "stops once")
    done = stage.run(*WATCH, *JOB)
    assert done.returncode == 0, done.stderr
    assert verbs(stage.calls) == ["create", "delete"]
    assert "ended early and wrote a checkpoint: starting it again" in done.stderr


def test_a_failing_job_ends_watch_with_its_last_lines_and_keeps_the_slice(stage):
    stage.plan()
    (stage.bucket / "b" / "my run").mkdir(parents=True)
    (stage.bucket / "b" / "my run" / "fail").touch()
    done = stage.run(*WATCH, *JOB)
    assert done.returncode == 1
    assert "the loss is nan" in done.stdout
    assert "the job failed (2 exited 3)" in done.stderr
    assert verbs(stage.calls) == ["create"]


def test_a_report_of_an_earlier_run_does_not_hide_that_a_job_failed(stage):
    stage.plan()
    (stage.bucket / "b" / "my run").mkdir(parents=True)
    for name in ("fail", "report.json"):
        (stage.bucket / "b" / "my run" / name).touch()
    assert stage.run(*WATCH, *JOB).returncode == 1
    assert verbs(stage.calls) == ["create"]


def test_a_quota_refusal_is_told_with_the_mend_and_a_status_of_its_own(stage):
    stage.plan(
        refuse="ERROR: (gcloud) RESOURCE_EXHAUSTED: Quota limit 'TPUV5sPreemptible' has been exceeded. Limit: 0"
    )
    for action in ("create", "watch"):
        done = stage.run("launch/tpu.sh", action, *WATCH[2:], *JOB)
        assert done.returncode == 3
        assert "Limit: 0" in done.stderr
        assert "the slice my-run (v5litepod-8 in us-central1-a) was refused for want of quota" in done.stderr
    stage.plan(refuse="ERROR: (gcloud) PERMISSION_DENIED")
    done = stage.run("launch/tpu.sh", "create", *WATCH[2:])
    assert done.returncode == 1
    assert "quota" not in done.stderr


def test_a_worker_that_fails_to_install_ends_watch_and_is_told(stage):
    stage.plan(install_fails_on="1")
    done = stage.run(*WATCH, *JOB)
    assert done.returncode == 4
    assert "no route to the package index" in done.stderr
    assert "install failed on a worker of my-run" in done.stderr
    assert verbs(stage.calls) == ["create"]


def test_the_single_steps_do_what_watch_does(stage):
    stage.plan()
    tpu = "launch/tpu.sh"
    for action in (("create", "--topology=v5e:2x4"), ("wait", "--poll=0.1"), ("sync",), ("install",)):
        done = stage.run(tpu, action[0], *SLICE, *action[1:])
        assert done.returncode == 0, done.stderr
    assert stage.run(tpu, "run", *SLICE, *JOB, "--steps=600").returncode == 0
    assert stage.run(tpu, "status", *SLICE).stdout.splitlines()[-2:] == ["running", "running"]
    assert (
        stage.run(tpu, "run", *SLICE, "--dry-run", "--", "python", "-c", "1").returncode == 0
    )  # of no workdir
    assert stage.run(tpu, "run", *SLICE, *JOB).returncode == 4  # one at a time
    done = stage.run(tpu, "sync", *SLICE)  # nor is its code taken from under it
    assert (done.returncode, "a command runs here: stop it first" in done.stderr) == (4, True)
    assert stage.run(tpu, "status", *SLICE).stdout.splitlines()[-2:] == ["running", "running"]
    assert stage.run(tpu, "stop", *SLICE).stdout.splitlines()[-2:] == ["exited 0", "exited 0"]
    assert not (stage.bucket / "b" / "my run" / "report.json").exists()
    assert stage.run(tpu, "delete", *SLICE).returncode == 0
    assert stage.run(tpu, "wait", *SLICE).returncode == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "--name=my run", "--zone=z"), "--name='my run' cannot be a name there"),
        (("create", *SLICE, "--topology=v5e-16"), "--topology='v5e-16' is not like v5e:4x4"),
        (("create", *SLICE, "--topology=v9:4x4"), "the generations are v4, v5e, v5p and v6e"),
        (("create", *SLICE, "--topology=v5e:4x4", "--spot", "--reserved"), "exclude each other"),
        (("run", *SLICE), "run needs a command"),
        (("run", *SLICE, "--", "python", "--workdir=runs/x"), "take ../runs/x beside it"),
        (
            ("watch", *SLICE, "--topology=v5e:4x4", "--", "python", "--workdir=runs/x"),
            "watch needs --workdir=gs://",
        ),
        (("wait", *SLICE, "--spots"), "unknown flag '--spots'"),
        (("dance", *SLICE), "unknown action 'dance'"),
    ],
)
def test_wrong_flags_are_told_before_anything_starts(stage, words, message):
    done = stage.run("launch/tpu.sh", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert stage.calls == []


@pytest.mark.parametrize(
    ("topology", "kind", "image"),
    [
        ("v4:2x2x4", "v4-32", "tpu-ubuntu2204-base"),
        ("v5e:4x4", "v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p:2x2x2", "v5p-16", "v2-alpha-tpuv5"),
        ("v6e:8x16", "v6e-128", "v2-alpha-tpuv6e"),
    ],
)
def test_topologies_as_aot_spells_them(stage, topology, kind, image):
    done = stage.run("launch/tpu.sh", "create", *SLICE, f"--topology={topology}", "--dry-run")
    assert f"--accelerator-type={kind} --runtime-version={image}" in done.stdout
    assert stage.calls == []
