"""A stage for the launchers: a copy of launch/ as a repository of its own, and stubs of outside commands on PATH."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
STUBS = (
    "gcloud",
    "kubectl",
    "xpk",
    "sbatch",
    "srun",
    "scancel",
    "scontrol",
    "docker",
    "nvidia-smi",
    "python3",
)

# A job that counts to 15 (or --steps=N) in tenths of a second, and behaves as train.py does: it keeps its step in its
# workdir and resumes there, ends with 0 and a checkpoint at SIGTERM, and has report.json when it is done.
JOB = """\
stopped=0
trap stopped=1 TERM
steps=15
for word in "$@"; do
  case $word in
    --workdir=*) folder=$STUB/bucket/${word#--workdir=gs://} ;;
    --steps=*) steps=${word#--steps=} ;;
  esac
done
mkdir -p "$folder"
worker=${STUB_WORKER:-0}
step=$(cat "$folder/step-$worker" 2>/dev/null || echo 0)
echo "worker $worker starts at step $step with HF_TOKEN=${HF_TOKEN:-}" >>"$folder/history"
if [ -e "$folder/fail" ]; then echo "the loss is nan"; exit 3; fi
while [ "$step" -lt "$steps" ]; do
  if [ "$stopped" = 1 ]; then exit 0; fi
  sleep 0.1
  step=$((step + 1))
  echo "$step" >"$folder/.step-$worker"
  mv "$folder/.step-$worker" "$folder/step-$worker"  # a job that is killed leaves no empty file
done
echo '{}' >"$folder/report.json"
"""


class Stage:
    """Where a launcher runs: `bucket` is gs://, `calls` what it did outside."""

    def __init__(self, folder: Path, name: str = "a repository"):
        self.repository, self.stub = folder / name, folder / "stub"
        self.bucket, commands = self.stub / "bucket", folder / "bin"
        shutil.copytree(ROOT / "launch", self.repository / "launch")
        for name in ("setup.py", "constraints.txt", ".gitignore"):
            shutil.copy(ROOT / name, self.repository)
        (self.repository / "job.sh").write_text(JOB)
        self.bucket.mkdir(parents=True)
        commands.mkdir()
        for name in STUBS:
            stub = commands / name
            stub.write_text(f"#!{sys.executable} -IS\n" + Path(__file__).with_name("stub.py").read_text())
            stub.chmod(0o755)
        (self.stub / "calls.jsonl").touch()
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SLURM", "XLA", "JAX", "CONSISTENCY"))
        }
        self.environment = kept | {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "STUB": str(self.stub),
            "HOME": str(folder),
        }
        for name in ("HF_TOKEN", "WANDB_API_KEY", "LIBTPU_INIT_ARGS", "XDG_CACHE_HOME"):
            self.environment.pop(name, None)
        git = [
            "git",
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@localhost",
            "-c",
            "init.defaultBranch=main",
        ]
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "launch"]):
            subprocess.run([*git, *words], cwd=self.repository, check=True, env=self.environment)

    def plan(self, **plan) -> None:
        """What the stubs shall do; see stub.py."""
        (self.stub / "plan.json").write_text(json.dumps(plan))

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            words,
            cwd=self.repository,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.stub / "calls.jsonl").read_text().splitlines()]


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def plain_stage(tmp_path) -> Stage:
    """A stage whose folder needs no quotes."""
    return Stage(tmp_path, "consistency_jax")
