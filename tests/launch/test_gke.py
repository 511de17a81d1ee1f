"""launch/gke.sh and launch/jobset.yaml, with stubs of kubectl, xpk and docker."""

import signal
import subprocess
import sys

import pytest
import yaml

CONFIG = '--config=configs/x.py:path={{NAME}} "a\\b"'
TRAIN = ("python", "-m", "consistency_jax.train", CONFIG, "--workdir=gs://b/my run")
STOPPABLE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
time.sleep(50)
"""
SUBMIT = ("launch/gke.sh", "submit", "--name=my-run", "--image=r/p/consistency_jax:1", "--topology=v5e:4x4")
XPK = ("--with=xpk", "--cluster=my-cluster", "--zone=us-central1-a")


def jobset(stage) -> dict:
    return yaml.safe_load((stage.repository / "build/launch/my-run/jobset.yaml").read_text())


def test_the_jobset_runs_the_command_on_every_host_of_the_slice(stage):
    done = stage.run(*SUBMIT, "--", *TRAIN)
    assert done.returncode == 0, done.stderr
    assert stage.calls == [["kubectl", "create", "--filename=build/launch/my-run/jobset.yaml"]]
    job = jobset(stage)
    assert (job["kind"], job["metadata"]["name"]) == ("JobSet", "my-run")
    (workers,) = job["spec"]["replicatedJobs"]
    work = workers["template"]["spec"]
    assert (work["parallelism"], work["completions"], work["backoffLimit"]) == (4, 4, 0)
    pod = work["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    (container,) = pod["containers"]
    assert container["command"] == ["bash", "launch/pod.sh", *TRAIN]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}


def test_spot_hosts_of_another_shape_and_flags_of_the_environment(stage):
    args = ("--spot", "--chips-per-host=8", "--restarts=3", "--", *TRAIN)
    stage.run(*SUBMIT, *args, LIBTPU_INIT_ARGS='--xla_a="b"', JAX_COMPILATION_CACHE_DIR="gs://b/cache")
    spec = jobset(stage)["spec"]
    assert spec["failurePolicy"]["maxRestarts"] == 3
    work = spec["replicatedJobs"][0]["template"]["spec"]
    pod = work["template"]["spec"]
    assert work["parallelism"] == 2
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert pod["tolerations"][0]["key"] == "cloud.google.com/gke-spot"
    environment = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    assert environment == {"LIBTPU_INIT_ARGS": '--xla_a="b"', "JAX_COMPILATION_CACHE_DIR": "gs://b/cache"}


def test_xpk_gets_the_same_job_and_the_names_of_secrets_alone(stage):
    done = stage.run(*SUBMIT, *XPK, "--", *TRAIN, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    (call,) = stage.calls
    assert call[:3] == ["xpk", "workload", "create"]
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in call[3:])
    assert (flags["workload"], flags["cluster"], flags["tpu-type"]) == (
        "my-run",
        "my-cluster",
        "v5litepod-16",
    )
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {flags['command']}"], capture_output=True, text=True, check=True
    )
    assert words.stdout.splitlines() == ["bash", "launch/pod.sh", *TRAIN]
    assert (stage.repository / flags["env-file"]).read_text().splitlines() == [
        "JAX_COMPILATION_CACHE_DIR=/tmp/jax_cache",
        "HF_TOKEN",
    ]
    assert "hf_secret" not in done.stdout + done.stderr


def test_secrets_go_through_pipes_and_are_never_shown(stage):
    stage.plan(kubectl={"reads": True, "stdout": "kind: Secret"})
    done = stage.run("launch/gke.sh", "secrets", HF_TOKEN="hf_secret", OTHER="no")
    assert done.returncode == 0, done.stderr
    assert "hf_secret" not in done.stdout + done.stderr + str(stage.calls)
    assert sorted(call[1] for call in stage.calls) == ["apply", "create"]
    done = stage.run("launch/gke.sh", "secrets")
    assert (done.returncode, "none of HF_TOKEN WANDB_API_KEY" in done.stderr) == (2, True)


@pytest.mark.parametrize("way", [(), XPK])
def test_a_quota_refusal_has_a_status_of_its_own(stage, way):
    refusal = {
        "status": 1,
        "stderr": "Error from server (Forbidden): exceeded quota: tpus, requested: google.com/tpu=16\n",
    }
    stage.plan(kubectl=refusal, xpk=refusal)
    done = stage.run(*SUBMIT, *way, "--", *TRAIN)
    assert done.returncode == 3
    assert "exceeded quota: tpus" in done.stderr
    assert "was refused for want of quota" in done.stderr


def test_a_job_that_is_there_already_is_told_and_left_alone(stage):
    stage.plan(kubectl={"status": 1, "stderr": "Error from server (AlreadyExists): jobsets exists\n"})
    done = stage.run(*SUBMIT, "--", *TRAIN)
    assert (done.returncode, "there is a JobSet my-run" in done.stderr) == (2, True)


def test_wait_asks_again_after_a_moment_without_an_answer_and_ends_where_there_is_no_job(stage):
    wait = ("launch/gke.sh", "wait", "--name=my-run", "--timeout=15")
    pause = stage.stub.parent / "bin" / "sleep"
    pause.write_text("#!/bin/sh\n")
    pause.chmod(0o755)
    later = 'if [ -e "$STUB/asked" ]; then echo TLS handshake timeout >&2; exit 1; fi; touch "$STUB/asked"'
    stage.plan(kubectl={"run": later})
    done = stage.run(*wait)
    assert (done.returncode, "my-run has not ended within 15 s" in done.stderr) == (5, True)
    assert done.stderr.count("TLS handshake timeout") == 1  # told once
    for told, message in (
        ("NotFound", "there is no JobSet my-run"),
        ("Unauthorized", "the reason stands above"),
    ):
        stage.plan(kubectl={"status": 1, "stderr": f"Error from server ({told}): no\n"})
        done = stage.run(*wait)
        assert (done.returncode, message in done.stderr) == (1, True)
        assert f"({told})" in done.stderr or told == "NotFound"


def test_a_secret_of_several_lines_is_refused_and_not_shown(stage):
    done = stage.run("launch/gke.sh", "secrets", HF_TOKEN='{\n"key": "hidden"}')
    assert done.returncode == 2
    assert "HF_TOKEN holds several lines" in done.stderr
    assert "hidden" not in done.stderr + done.stdout
    mounted = stage.run("launch/gke.sh", "secrets", "--dry-run", HF_TOKEN="one line\n")
    assert mounted.returncode == 0, mounted.stderr


def test_wait_ends_as_the_job_does(stage):
    wait = ("launch/gke.sh", "wait", "--name=my-run", "--timeout=5")
    for condition, status in (("StartupPolicyCompleted Completed", 0), ("Failed", 1)):
        stage.plan(kubectl={"stdout": condition})
        assert stage.run(*wait).returncode == status
    for told, status in ((0, 0), (124, 5), (125, 1)):
        stage.plan(xpk={"status": told})
        assert stage.run(*wait, *XPK).returncode == status


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SUBMIT, "--name=my run", "--", *TRAIN), "--name='my run' cannot be a name there"),
        ((*SUBMIT, "--", "python", "--workdir=/tmp/x"), "submit needs --workdir=gs://"),
        ((*SUBMIT, "--chips-per-host=3", "--", *TRAIN), "does not divide the 16 chips"),
        ((*SUBMIT, "--image=an image", "--", *TRAIN), "--image='an image' is no image"),
        ((*SUBMIT, "--with=xpk", "--", *TRAIN), "--with=xpk needs --cluster and --zone"),
        (("launch/gke.sh", "dance", "--name=x"), "unknown action 'dance'"),
    ],
)
def test_wrong_flags_are_told_before_anything_starts(stage, words, message):
    done = stage.run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert stage.calls == []


def test_a_pod_that_is_asked_to_end_is_not_taken_for_finished(stage):
    (stage.repository / "job.py").write_text(STOPPABLE)
    pod = ["bash", "launch/pod.sh", sys.executable, "job.py"]
    with subprocess.Popen(pod, cwd=stage.repository, stdout=subprocess.PIPE, text=True) as run:
        while "ready" not in run.stdout.readline():
            assert run.poll() is None
        run.send_signal(signal.SIGTERM)
    assert run.returncode == 143
    assert [stage.run("bash", "launch/pod.sh", "bash", "-c", f"exit {n}").returncode for n in (0, 4)] == [
        0,
        4,
    ]
