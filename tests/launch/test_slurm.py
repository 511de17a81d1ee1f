"""launch/slurm.sbatch as SLURM would run it, with stubs of srun, scancel and scontrol."""

import re
import signal
import subprocess
import time

import pytest

COMMAND = ("python", "-m", "consistency_jax.train", "--config=configs/x.py", "--workdir=runs/my run")
NODE = {
    "SLURM_JOB_ID": "17",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_JOB_NUM_NODES": "2",
}


def run(stage, *words: str, **environment: str) -> subprocess.CompletedProcess:
    return stage.run("bash", "launch/slurm.sbatch", *words, **(NODE | environment))


def test_one_process_per_gpu_or_per_node_and_containers(stage):
    stage.plan(
        srun={"run": 'echo "devices ${JAX_LOCAL_DEVICE_IDS:-one} $XLA_FLAGS $XLA_PYTHON_CLIENT_MEM_FRACTION"'}
    )
    done = run(stage, *COMMAND)
    assert "devices one --xla_gpu_enable_latency_hiding_scheduler=true 0.9" in done.stdout
    assert stage.calls[0] == ["srun", "--ntasks-per-node=8", "--kill-on-bad-exit=1", *COMMAND]
    done = run(stage, *COMMAND, SLURM_NTASKS_PER_NODE="1", SLURM_CPUS_PER_TASK="64")
    assert stage.calls[1][1:4] == ["--ntasks-per-node=1", "--cpus-per-task=64", "--kill-on-bad-exit=1"]
    assert "devices 0,1,2,3,4,5,6,7" in done.stdout
    assert "2 nodes x 1 processes" in done.stderr
    folder = str(stage.repository)
    run(stage, *COMMAND, CONSISTENCY_IMAGE="registry/image:gpu")
    mounts = [f"--container-mounts={folder}:{folder}", f"--container-workdir={folder}"]
    assert stage.calls[-1][3:] == ["--container-image=registry/image:gpu", *mounts, *COMMAND]
    run(stage, *COMMAND, CONSISTENCY_IMAGE="my image.sif")
    apptainer = ["apptainer", "exec", "--nv", "--bind", folder, "--pwd", folder, "my image.sif"]
    assert stage.calls[-1][3:] == [*apptainer, *COMMAND]
    done = run(stage, *COMMAND, SLURM_NTASKS_PER_NODE="3")
    assert done.returncode == 2
    assert "3 processes for 8 GPUs a node" in done.stderr


def test_the_status_of_a_job_that_fails_is_kept_and_it_is_not_requeued(stage):
    stage.plan(srun={"status": 9, "stderr": "the loss is nan\n"})
    done = run(stage, *COMMAND)
    assert done.returncode == 9
    assert [call[0] for call in stage.calls] == ["srun"]


def near_the_limit(stage, srun: str, **environment: str) -> subprocess.CompletedProcess:
    """SLURM's signal before the time limit, sent to the script while srun runs; srun ends before scancel does."""
    stage.plan(srun={"run": srun}, scancel={"run": "touch $STUB/terminated; sleep 0.5"})
    words = ["bash", "launch/slurm.sbatch", *COMMAND]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen(words, cwd=stage.repository, env=stage.environment | NODE | environment, **pipes)
    while not (stage.stub / "up").exists():
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    out, errors = job.communicate(timeout=60)
    return subprocess.CompletedProcess(words, job.returncode, out, errors)


CHECKPOINTING = "touch $STUB/up; until [ -e $STUB/terminated ]; do sleep 0.05; done; "


def test_before_the_time_limit_the_processes_checkpoint_and_the_job_is_requeued(stage):
    done = near_the_limit(stage, CHECKPOINTING)
    assert done.returncode == 0, done.stderr
    assert stage.calls[1:] == [["scancel", "--signal=TERM", "17"], ["scontrol", "requeue", "17"]]
    # The flags that this rests on stand in the script: the signal goes to the script, early enough, and logs go on.
    script = (stage.repository / "launch" / "slurm.sbatch").read_text()
    for flag in ("--signal=B:USR1@300", "--requeue", "--open-mode=append"):
        assert re.search(rf"^#SBATCH {re.escape(flag)}$", script, re.M)


@pytest.mark.parametrize(
    "status", [1, 134, 137]
)  # 134, 137: of those that JAX or SLURM ends where one failed
def test_a_job_that_fails_at_its_checkpoint_has_failed(stage, status):
    done = near_the_limit(stage, CHECKPOINTING + f"exit {status}")
    assert done.returncode == status
    assert "scontrol" not in {call[0] for call in stage.calls}


def test_processes_that_the_signal_ended_before_they_knew_it_come_again(stage):
    done = near_the_limit(stage, CHECKPOINTING + "exit 143")
    assert done.returncode == 0
    assert stage.calls[-1] == ["scontrol", "requeue", "17"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_finished_job_and_one_requeued_often_enough_are_not_requeued(stage, finished):
    report = 'mkdir -p "runs/my run"; touch "runs/my run/report.json"' if finished else ""
    done = near_the_limit(stage, CHECKPOINTING + report, SLURM_RESTART_COUNT="3", CONSISTENCY_RESTARTS="3")
    assert "scontrol" not in {call[0] for call in stage.calls}
    assert done.returncode == (0 if finished else 5)
