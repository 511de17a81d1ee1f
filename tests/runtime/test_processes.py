"""Several real processes on this machine, over gloo: they compute what one process with as many devices computes."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from simulated import simulated

import consistency_jax
from consistency_jax.errors import ConfigError
from consistency_jax.models.huggingface import load_pretrained, save_pretrained
from consistency_jax.runtime.processes import cluster_of, initialize
from consistency_jax.table import read_tables

ROOT = Path(consistency_jax.__file__).parents[1]
LOCAL = str(ROOT / "launch" / "local.sh")
WORKER = str(Path(__file__).parents[1] / "training" / "parallel_worker.py")
STEPS, EVERY = 16, 6
CONFIG = """
from consistency_jax.config import default, parse_arg


def get_config(arg=None):
    given = parse_arg(arg, steps={steps}, data=-1, fsdp=1, tensor=1, lora=0)
    config = default()
    config.model.path = {model!r}
    config.data.path = {questions!r}
    config.total_steps = given.steps
    config.batching.items = 4
    config.batching.shapes = 1
    config.optimizer.learning_rate = 1e-3
    config.checkpoint.every = {every}
    config.logging.every = 1
    config.evaluation.bootstrap = 50
    config.mesh.update(data=given.data, fsdp=given.fsdp, tensor=given.tensor)
    config.lora.rank = given.lora
    return config
"""


class Place:
    """A config, a cache and workdirs in one folder, and commands started there. Compiled programs are shared."""

    def __init__(self, folder: Path, model: Path, questions: Path, compiled: Path):
        self.folder, self.config = folder, folder / "config.py"
        self.started: list[subprocess.Popen] = []
        self.config.write_text(
            CONFIG.format(model=str(model), questions=str(questions), steps=STEPS, every=EVERY)
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self.environment = kept | {
            "CONSISTENCY_CACHE": str(folder / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def words(self, command: str, *flags: str, options: str = "", workdir: str = "run") -> list[str]:
        """python -m consistency_jax.COMMAND."""
        config = [f"--config={self.config}{options and f':{options}'}"] if command != "export" else []
        return [
            "python",
            "-m",
            f"consistency_jax.{command}",
            *config,
            f"--workdir={self.folder / workdir}",
            *flags,
        ]

    def run(self, words: list[str], processes: int = 1, devices: int = 1, **environment: str) -> str:
        """What it prints, by itself or through launch/local.sh."""
        if processes > 1:
            words = [LOCAL, "-n", str(processes), f"--devices={devices}", "--", *words]
        else:
            environment |= simulated(devices)
        done = subprocess.run(
            words,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    def start(self, words: list[str], processes: int) -> list[subprocess.Popen]:
        """The processes of a run, each to be signalled by itself; what each prints goes to FOLDER/NUMBER.log."""
        address = f"127.0.0.1:{free_port()}"
        started: list[subprocess.Popen] = []
        for number in range(processes):
            own = {"JAX_NUM_PROCESSES": str(processes), "JAX_PROCESS_ID": str(number), "JAX_PLATFORMS": "cpu"}
            with (self.folder / f"{number}.log").open("w") as log:
                environment = self.environment | own | {"JAX_COORDINATOR_ADDRESS": address}
                started.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
        self.started += started
        return started

    def end(self) -> None:
        """Whatever still runs after a test that failed."""
        for process in self.started:
            process.kill()
            process.wait()

    def log(self, number: int) -> str:
        return (self.folder / f"{number}.log").read_text()

    def steps(self, workdir: str = "run") -> list[int]:
        path = self.folder / workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["step"] for line in lines]

    def losses(self, workdir: str = "run") -> list[float]:
        lines = (self.folder / workdir / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, len(lines) + 1))
        return [json.loads(line)["loss"] for line in lines]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def shared(tmp_path_factory, small_model, questions, compiled) -> Place:
    """Where the runs are that several tests look at."""
    return Place(tmp_path_factory.mktemp("shared"), small_model, questions, compiled)


@pytest.fixture
def place(tmp_path, small_model, questions, compiled) -> Iterator[Place]:
    place = Place(tmp_path, small_model, questions, compiled)
    yield place
    place.end()


@pytest.fixture(scope="module")
def two_processes(shared) -> Path:
    """An unbroken run of two processes, through launch/local.sh; process 0 traces two steps of it."""
    told = shared.run(shared.words("train", "--profile=2:3", workdir="two"), processes=2)
    assert len(list((shared.folder / "two" / "profile" / "dco").rglob("*.xplane.pb"))) == 1
    told = [line.removeprefix("[0] ").split()[0] for line in told.splitlines() if line.strip()]
    for word in ("consistency_jax", "devices", "data", "method", "model", "first", "profile:"):
        assert told.count(word) == 1, told
    return shared.folder / "two"


@pytest.fixture(scope="module")
def one_process(shared) -> Path:
    """The same by one process with two devices."""
    shared.run(shared.words("train", workdir="one"), devices=2)
    return shared.folder / "one"


def printed(output: str) -> dict:
    """What process 0 (or the only one) of the worker printed."""
    (line,) = [line for line in output.splitlines() if line.removeprefix("[0] ").startswith('{"')]
    return json.loads(line.removeprefix("[0] "))


def assert_same_steps(many: dict, one: dict) -> None:
    """Loss and gradients of the first step to 1e-5 (of the largest entry): float32 sums in another order. The curve to
    1e-3: rounding grows from step to step."""
    np.testing.assert_allclose(many["losses"][0], one["losses"][0], rtol=1e-5)
    for name, gradient in one["gradients"].items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(
            many["gradients"][name], gradient, rtol=1e-5, atol=1e-5 * scale, err_msg=name
        )
    np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-3)


def assert_rows_are_split(many: dict, devices: int) -> None:
    """Process 0 holds rows for its own devices and no others."""
    assert many["row_bytes_per_device"] == [many["row_bytes"] / devices] * len(many["row_bytes_per_device"])


# --------------------------------------------------------------------------------------------------------- computing
def test_processes_compute_what_one_does(shared):
    """On a mesh that splits parameters and rows over them. (Four processes: among the slow tests.)"""
    processes = 2
    mesh = f"1x{processes}x1"
    one = printed(shared.run([sys.executable, WORKER, mesh], devices=processes))[mesh]
    many = printed(shared.run([sys.executable, WORKER, mesh], processes=processes))[mesh]
    assert_same_steps(many, one)
    assert many["bytes_per_device"] == one["bytes_per_device"][:1]
    assert_rows_are_split(many, processes)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(4, 1), (2, 2), (4, 2)])
def test_processes_compute_what_one_does_on_any_mesh(shared, processes, devices):
    total = processes * devices
    meshes = [f"{total}x1x1", f"1x{total}x1", f"{total // 2}x1x2", f"lora:{total // 2}x2x1"]
    one = printed(shared.run([sys.executable, WORKER, *meshes], devices=total))
    many = printed(shared.run([sys.executable, WORKER, *meshes], processes=processes, devices=devices))
    for mesh in meshes:
        assert_same_steps(many[mesh], one[mesh])
    assert_rows_are_split(many[meshes[0]], total)


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one(shared, one_process, two_processes):
    np.testing.assert_allclose(shared.losses("two"), shared.losses("one"), rtol=1e-3)
    one, two = (json.loads((folder / "report.json").read_text()) for folder in (one_process, two_processes))
    assert one["base"] == two["base"]  # ranks, not rounding
    one, two = ({path.name for path in folder.iterdir()} for folder in (one_process, two_processes))
    assert two == one | {"profile"}


# ----------------------------------------------------------------------------------------------- killed and resumed
def wait_for_step(place: Place, processes: list[subprocess.Popen], step: int) -> None:
    deadline = time.monotonic() + 300
    while step not in place.steps():
        for number, process in enumerate(processes):
            assert process.poll() is None, place.log(number)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def killed(place: Place, victim: int, processes: int, step: int = EVERY + 3) -> None:
    """A run one of whose processes is killed behind that step, between two checkpoints; the others then end."""
    beat = "--heartbeat_timeout_seconds=10"
    running = place.start(place.words("train", beat), processes)
    wait_for_step(place, running, step)
    running[victim].send_signal(signal.SIGKILL)
    for number, process in enumerate(running):
        status = process.wait(timeout=120)
        assert status == -signal.SIGKILL if number == victim else status not in (0, None)
        if number != victim:
            # The last of these is gloo's own, which aborts where another survivor's next message comes before the end.
            assert re.search(
                r"the same command, given to all, goes on from the last checkpoint"
                r"|JAX distributed service detected fatal errors|another task died"
                r"|terminate called after throwing an instance of 'gloo::",
                place.log(number),
            ), place.log(number)


def test_when_one_is_killed_the_others_end_and_the_same_command_goes_on(place):
    killed(place, victim=1, processes=2)
    before = place.losses()
    assert EVERY + 3 <= len(before) < STEPS
    place.run(place.words("train"), processes=2)
    after = place.losses()
    assert len(after) == STEPS
    assert (
        after[: len(before)] == before
    )  # steps behind the checkpoint were computed twice: the same, bit for bit


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one_does(place, shared, two_processes):
    killed(place, victim=1, processes=2)
    killed(place, victim=0, processes=2, step=2 * EVERY + 1)
    place.run(place.words("train"), processes=2)
    assert place.losses() == shared.losses("two")  # bit for bit
    assert (place.folder / "run" / "report.json").read_bytes() == (two_processes / "report.json").read_bytes()


@pytest.mark.slow
def test_when_the_first_is_killed_another_mesh_goes_on(place, shared, one_process):
    killed(place, victim=0, processes=2)
    place.run(place.words("train", options="fsdp=2"), processes=2, devices=2)  # data 2, fsdp 2
    np.testing.assert_allclose(place.losses(), shared.losses("one"), rtol=1e-3)


@pytest.mark.slow
def test_another_number_of_processes_goes_on(place, shared, one_process):
    killed(place, victim=3, processes=4)
    place.run(place.words("train"), devices=1)
    np.testing.assert_allclose(place.losses(), shared.losses("one"), rtol=1e-3)


@pytest.mark.parametrize(
    "told", [(0, 1), pytest.param((0,), marks=pytest.mark.slow), pytest.param((1,), marks=pytest.mark.slow)]
)
def test_sigterm_to_any_stops_all_at_a_common_checkpoint(place, told):
    words = place.words("train", options="steps=3000")
    running = place.start(words, 2)
    wait_for_step(place, running, 2)
    for number in told:
        running[number].send_signal(signal.SIGTERM)
    assert [process.wait(timeout=60) for process in running] == [0, 0], place.log(0) + place.log(1)
    last = place.steps()[-1]
    assert f"stopped at step {last} of 3000, checkpoint written" in place.log(0)
    assert f"stopped at step {last} of 3000, checkpoint written" in place.log(1)
    assert (place.folder / "run" / "checkpoints" / str(last)).is_dir()
    running = place.start(words, 2)
    wait_for_step(place, running, last + 3)
    for process in running:
        process.kill()
        process.wait()
    assert place.steps() == list(range(1, place.steps()[-1] + 1))


# ----------------------------------------------------------------------------------------------- the other commands
@pytest.mark.slow
def test_evaluate_and_export_by_two_processes(shared, two_processes, one_process):
    report = (two_processes / "report.json").read_bytes()
    shared.run(shared.words("evaluate", workdir="two"), processes=2)
    assert json.loads((two_processes / "report.json").read_bytes())["final"] == json.loads(report)["final"]
    ways = {"one": {"devices": 2}, "two": {"processes": 2}}
    for name, how in ways.items():
        shared.run(shared.words("export", f"--out={shared.folder / f'{name}-model'}", workdir="two"), **how)
    one, two = (shared.folder / f"{name}-model" for name in ways)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_adapters_and_pairs_by_two_processes(place):
    place.run(place.words("train", options="lora=4"), processes=2)
    assert len(place.losses()) == STEPS
    pairs = {}
    for name, how in {"one": {"devices": 2}, "two": {"processes": 2}}.items():
        place.run(place.words("export", "--adapter", f"--out={place.folder / f'{name}-adapter'}"), **how)
        for kind, settings in {"calm": [], "cm_align": ["--config.selection.max_tokens=6"]}.items():
            out = place.folder / f"{name}-{kind}.jsonl"
            own = [f"--config.selection.name={kind}", *settings, f"--out={out}"]
            place.run([word for word in place.words("pairs", *own) if "--workdir" not in word], **how)
            pairs[name, kind] = out.read_text()
    assert pairs["one", "calm"] == pairs["two", "calm"]
    assert pairs["one", "cm_align"] == pairs["two", "cm_align"]
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        one, two = (place.folder / f"{name}-adapter" / file for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


TINY = f"--config={ROOT / 'configs' / 'tiny.py'}:pretrain=12,steps=4"


@pytest.mark.slow
def test_the_embedded_base_model_is_made_together_and_copied_to_other_disks(place):
    """The second run's processes have caches of their own: one finds the model, the other is given it."""

    def words(workdir: str) -> list[str]:
        flags = ["--config.pretrain.checkpoint_every=5", "--config.evaluation.every=0"]
        return ["python", "-m", "consistency_jax.train", TINY, f"--workdir={place.folder / workdir}", *flags]

    place.run(words("first"), processes=2)
    caches = [place.folder / "cache", place.folder / "other cache"]
    script = place.folder / "own_cache.sh"
    script.write_text(
        f'if [ "$JAX_PROCESS_ID" = 1 ]; then export CONSISTENCY_CACHE="{caches[1]}"; fi; exec "$@"\n'
    )
    place.run(["bash", str(script), *words("second")], processes=2)
    first, second = (place.folder / name / "tables" / "final.npz" for name in ("first", "second"))
    assert read_tables(first)["test"].logp.tolist() == read_tables(second)["test"].logp.tolist()
    (made,), (copied,) = ([*(cache / "pretrained").iterdir()] for cache in caches)
    assert {path.name for path in copied.iterdir()} == {path.name for path in made.iterdir()} - {".lock"}
    assert (copied / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    assert not (caches[1] / "tables").exists()  # what process 0 finds is enough


# A bucket on this machine. Tensorstore asks for the generation of what it reads, which the emulator does not tell.
BUCKET = """
import sys, time
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import create_server

download = objects.download

def with_generation(request, response, storage, *rest, **more):
    download(request, response, storage, *rest, **more)
    if response.status.value < 300:
        found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
        response["x-goog-generation"] = found["generation"]

objects.download = with_generation
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="bucket").start()
time.sleep(3600)
"""


@pytest.mark.slow
def test_a_workdir_in_a_bucket(place, shared, one_process):
    """Real clients (gcsfs, tensorstore) against an emulator: pip install gcsfs gcp-storage-emulator."""
    pytest.importorskip("gcsfs")
    pytest.importorskip("gcp_storage_emulator")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    place.environment |= {"STORAGE_EMULATOR_HOST": url, "TENSORSTORE_GCS_HTTP_URL": url}
    server = subprocess.Popen([sys.executable, "-c", BUCKET, str(port)], env=place.environment)
    words = [word for word in place.words("train") if "--workdir" not in word] + ["--workdir=gs://bucket/run"]
    try:
        running = place.start(words, 2)
        deadline = time.monotonic() + 200
        while b'"step": 3' not in fetched(f"{url}/bucket/run/metrics.jsonl"):
            assert time.monotonic() < deadline, place.log(0)
            time.sleep(0.1)
        running[1].send_signal(signal.SIGTERM)
        assert [process.wait(timeout=120) for process in running] == [0, 0], place.log(0) + place.log(1)
        place.run(words, devices=2)
        lines = fetched(f"{url}/bucket/run/metrics.jsonl").splitlines()
        np.testing.assert_allclose(
            [json.loads(line)["loss"] for line in lines], shared.losses("one"), rtol=1e-3
        )
        assert json.loads(fetched(f"{url}/bucket/run/report.json"))["final"]
    finally:
        server.kill()
        server.wait()


def fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read()
    except (urllib.error.HTTPError, urllib.error.URLError):
        return b""


# ------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.slow
def test_an_error_of_the_first_is_told_once_and_ends_all(place):
    words = place.words("train", "--config.data.path=/nowhere.jsonl")
    running = place.start(words, 2)
    assert [process.wait(timeout=120) for process in running] == [1, 1]
    assert "error: /nowhere.jsonl" in place.log(0)
    assert "Traceback" not in place.log(0) + place.log(1)


@pytest.mark.slow
def test_a_workdir_that_is_not_shared_is_refused(place):
    """Here the second process names another folder; on hosts it would be the same name on another disk."""
    own = place.folder / "own_workdir.sh"
    own.write_text('exec "${@}-$JAX_PROCESS_ID"\n')  # the last word is the workdir
    running = place.start(["bash", str(own), *place.words("train")], 2)
    assert [process.wait(timeout=120) for process in running] == [1, 1]
    for number in (0, 1):
        assert "is not the same folder on all hosts" in place.log(number)


@pytest.mark.slow
def test_models_that_differ_between_hosts_are_refused(place, small_model):
    folders = [place.folder / f"model-{number}" for number in (0, 1)]
    model = load_pretrained(small_model)
    save_pretrained(model, folders[0])
    save_pretrained(
        dataclasses.replace(model, params=jax.tree.map(lambda p: 2 * p, model.params)), folders[1]
    )
    own = place.folder / "own_model.sh"
    own.write_text(f'exec "$@" --config.model.path={place.folder}/model-$JAX_PROCESS_ID\n')
    running = place.start(["bash", str(own), *place.words("train")], 2)
    assert [process.wait(timeout=200) for process in running] == [1, 1]
    for number in (0, 1):
        assert "process 1 differs from process 0; give all hosts the same model folder" in place.log(number)


def test_processes_that_cannot_be_joined_are_told_what_is_missing(monkeypatch):
    for name in ("SLURM_JOB_ID", "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    initialize()  # nothing says that there are several
    initialize(num_processes=1)
    with pytest.raises(ConfigError, match="coordinator_address=127.0.0.1 should be HOST:PORT"):
        initialize("127.0.0.1", 2, 0)
    with pytest.raises(ConfigError, match="num_processes=2 is not enough.*--coordinator_address=HOST:PORT"):
        initialize(num_processes=2)
    monkeypatch.setenv("JAX_PROCESS_ID", "first")
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID='first' is no number"):
        initialize()


@pytest.mark.parametrize(
    ("environment", "cluster"),
    [
        ({}, ""),
        ({"SLURM_NTASKS": "8"}, ""),  # an allocation, or a batch script
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "3", "SLURM_STEP_NODELIST": "node[1-2]"}, "SLURM"),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "node1"}, ""),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU slice in Kubernetes"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, ""),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, ""),
    ],
)
def test_what_the_environment_says(environment, cluster):
    assert cluster_of({"TPU_SKIP_MDS_QUERY": "1"} | environment) == cluster
