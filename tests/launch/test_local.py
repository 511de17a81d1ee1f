"""launch/local.sh: real processes on this machine."""

import os
import signal
import subprocess
import sys
import time

WAITING = """
import os, signal, sys, time
number = os.environ["JAX_PROCESS_ID"]
def stop(*_):
    os.write(1, b"checkpoint\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
os.write(1, b"ready\\n")  # whole: a signal may come at any moment
if number == "1" and len(sys.argv) > 1:
    sys.exit(int(sys.argv[1]))
time.sleep(50)
"""

TELLING = """
import os
names = ("PROCESS_ID", "NUM_PROCESSES", "COORDINATOR_ADDRESS")
print(*(os.environ[f"JAX_{name}"] for name in names), os.environ["JAX_PLATFORMS"], os.environ["XLA_FLAGS"])
"""
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(1)
if os.environ["JAX_PROCESS_ID"] == "0":
    sys.exit(5)
time.sleep(50)
"""


def python(stage, code: str) -> tuple[str, str]:
    """The words that run it."""
    (stage.repository / "job.py").write_text(code)
    return sys.executable, "job.py"


def test_each_process_learns_its_number_and_lines_are_told_apart(stage):
    command = ("--port=20123", "--devices=2", "--", *python(stage, TELLING))
    done = stage.run("launch/local.sh", "-n", "3", *command, XLA_FLAGS="--xla_dump_to=x")
    flags = "--xla_dump_to=x --xla_force_host_platform_device_count=2"
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert sorted(lines) == [f"[{n}] {n} 3 127.0.0.1:20123 cpu {flags}" for n in range(3)]
    assert done.returncode == 0


def test_when_one_fails_the_others_are_ended_and_its_status_is_told(stage):
    done = stage.run("launch/local.sh", "-n3", "--", *python(stage, WAITING), "7")
    assert done.returncode == 7
    lines = done.stdout.splitlines()
    # A process that is not ready yet when the other fails ends without a word.
    assert {line for line in lines if "checkpoint" in line} <= {"[0] checkpoint", "[2] checkpoint"}
    assert "ended with status 7: ending the other 2" in done.stderr


def test_all_may_end_at_one_moment(stage):
    done = stage.run("launch/local.sh", "-n6", "--", "sh", "-c", "sleep 0.3; exit 7")
    assert done.returncode == 7
    assert "no such job" not in done.stderr
    assert stage.run("launch/local.sh", "-n6", "--", "sh", "-c", "sleep 0.3").returncode == 0


def test_a_signal_reaches_all_processes_and_they_may_end_well(stage):
    words = ["launch/local.sh", "-n", "2", "--", *python(stage, WAITING)]
    environment = {**stage.environment, "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        words, cwd=stage.repository, env=environment, stdout=subprocess.PIPE, text=True
    ) as run:
        ready = 0
        while ready < 2:
            ready += "ready" in run.stdout.readline()
            assert run.poll() is None
        run.send_signal(signal.SIGTERM)
        rest = run.stdout.read().splitlines()
    assert sorted(rest) == ["[0] checkpoint", "[1] checkpoint"]
    assert run.returncode == 0


def test_what_does_not_end_by_itself_is_killed_after_the_grace(stage):
    start = time.monotonic()
    done = stage.run("launch/local.sh", "-n2", "--grace=1", "--", *python(stage, STUBBORN))
    assert done.returncode == 5
    assert time.monotonic() - start < 40  # it would sleep for 50


def test_wrong_flags_and_dry_runs(stage):
    assert stage.run("launch/local.sh", "-n", "two", "--", "true").returncode == 2
    done = stage.run("launch/local.sh", "-n")
    assert (done.returncode, "-n takes a number" in done.stderr) == (2, True)
    assert "no command" in stage.run("launch/local.sh", "-n", "2").stderr
    done = stage.run("launch/local.sh", "--dry-run", "-n1", "--port=20001", "--", "python", "a b")
    assert done.stdout == (
        "+ env JAX_COORDINATOR_ADDRESS=127.0.0.1:20001 JAX_NUM_PROCESSES=1 JAX_PROCESS_ID=0 "
        "JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=1 python 'a b'\n"
    )
