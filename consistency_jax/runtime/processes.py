"""Several processes in one run: how they start, and how they never disagree.

Every process runs the same program on its own devices, and JAX joins them wherever an array spans all devices. What is
decided outside of JAX (is there a checkpoint? what does the file say?) is decided by process 0, and `on_main` gives all
of them what it found, its errors too. With one process everything here does nothing.
"""

import contextlib
import hashlib
import importlib.util
import itertools
import os
import pickle
import re
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.files import complete_file

T = TypeVar("T")

TPU_MACHINE = "TPU machine"  # whose metadata say whether it is part of a slice

MEND = (
    "give --coordinator_address=HOST:PORT (of process 0), --num_processes and --process_id (0, 1, ...) to each, or "
    "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in its environment; --num_processes=1 runs one alone"
)
LONGEST_WAIT_S = 24 * 3600  # for process 0, which may read or write for long; where it dies, waiting ends
PIECE = 2**26  # bytes that are sent at once
_numbers = itertools.count()  # all processes count alike, since all come by the same places


# ------------------------------------------------------------------------------------------------------------- starting
def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    heartbeat_timeout_seconds: int = 100,
) -> None:
    """Joins the processes of a run; to be called before anything else of JAX.

    They are what the arguments say, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID of the
    environment, or what JAX's own cluster detection finds on TPU slices, under SLURM and under Open MPI. Without any of
    these, and with num_processes=1, there is one process and nothing is done.

    All processes but 0 print nothing from then on (errors excepted).

    Args:
      coordinator_address: host:port of process 0.
      heartbeat_timeout_seconds: after so long without a sign from one process, all others end.

    Raises:
      ConfigError: where the three do not go together, or no processes are found to join.
    """
    given = {
        "coordinator_address": coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS") or None,
        "num_processes": _number(num_processes, "JAX_NUM_PROCESSES"),
        "process_id": _number(process_id, "JAX_PROCESS_ID"),
    }
    address = given["coordinator_address"]
    if address and not re.fullmatch(r".+:[0-9]{1,5}", address):
        raise ConfigError(f"coordinator_address={address} should be HOST:PORT")
    named = {name: value for name, value in given.items() if value is not None}
    cluster = cluster_of(os.environ)
    if given["num_processes"] == 1 or not (named or cluster):
        return
    told = ", ".join(f"{name}={value}" for name, value in named.items())
    if len(named) < len(given) and not cluster:
        raise ConfigError(f"{told} is not enough to join several processes: {MEND}")
    # SIGTERM is for training/loop.py, which asks for a checkpoint, and ends a process anywhere else, as it does alone.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(**named, heartbeat_timeout_seconds=heartbeat_timeout_seconds)
    except (ValueError, OSError, jax.errors.JaxRuntimeError) as error:
        if cluster == TPU_MACHINE and not named:
            return  # it does not tell of a slice
        raise ConfigError(f"cannot join several processes ({told or cluster}): {error} {MEND}") from None
    if not is_main():
        sys.stdout = open(os.devnull, "w", encoding="utf8")  # noqa: SIM115 (to the end of the process)


def _number(given: int | None, variable: str) -> int | None:
    text = os.environ.get(variable, "")
    if given is not None or not text:
        return given
    if not text.isdecimal():
        raise ConfigError(f"{variable}={text!r} is no number")
    return int(text)


def cluster_of(environment: Mapping[str, str]) -> str:
    """What the environment says of several processes, "" for nothing; JAX's own detection finds out the rest.

    A single process is left alone: to join itself it would need a port, which another run on the host may have.
    """
    if int(environment.get("OMPI_COMM_WORLD_SIZE") or 1) > 1:
        return "Open MPI"
    in_step = {"SLURM_PROCID", "SLURM_STEP_NODELIST"} <= set(environment)  # not so in a batch script itself
    if in_step and int(environment.get("SLURM_NTASKS") or 1) > 1:
        return "SLURM"
    if "tpu" not in (environment.get("JAX_PLATFORMS") or "tpu"):
        return ""
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") + environment.get("TPU_PROCESS_ADDRESSES", ""):
        return "TPU slice in Kubernetes"
    if importlib.util.find_spec("libtpu") is not None and "TPU_SKIP_MDS_QUERY" not in environment:
        return TPU_MACHINE  # JAX sets that variable where it finds no chips
    return ""


def several() -> bool:
    """Whether this run has more than one process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_main() -> bool:
    """Whether this is process 0, which alone prints and writes files."""
    return jax.process_index() == 0


def leave(status: int) -> None:
    """Ends this process after an error that the others may not know of. A usual exit would wait for them, and they,
    in the middle of a common computation, for this one; so they are told by its silence."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # who reads it has gone, or its disk is full
            stream.flush()
    os._exit(status)


# ------------------------------------------------------------------------------------------------------------- agreeing
def on_main(make: Callable[[], T]) -> T:
    """What make() gives on process 0, on all of them; what it raises there, all raise.

    All have to come here. `make` is called on process 0 alone, so that it must not compute with arrays that span
    processes. When this returns, what it wrote is there.
    """
    if not several():
        return make()
    data = b""
    if is_main():
        try:
            data = _packed((make(), None))
        except Exception as error:
            data = _packed((None, error))
    from orbax.checkpoint import multihost  # only where it is needed: it takes a second

    # Waited for outside of the devices, where waiting long is no error.
    multihost.get_barrier_sync_fn()(key=f"on_main {next(_numbers)}", timeout_ms=LONGEST_WAIT_S * 1000)
    value, error = pickle.loads(_broadcast(data))
    if error is not None:
        raise error
    return value


def _packed(outcome: tuple[Any, Exception | None]) -> bytes:
    try:
        data = pickle.dumps(outcome)
        pickle.loads(data)  # an exception may refuse that
        return data
    except Exception:
        value, error = outcome
        return pickle.dumps((value, RuntimeError(f"{type(error).__name__} on process 0: {error}")))


def _broadcast(data: bytes) -> bytes:
    """The bytes of process 0, on all."""
    with jax.transfer_guard("allow"):
        return _broadcast_pieces(data)


def _broadcast_pieces(data: bytes) -> bytes:
    halves = multihost_utils.broadcast_one_to_all(np.array([len(data)], np.int64).view(np.uint32))
    size = int(np.asarray(halves).view(np.int64)[0])
    pieces = []
    for start in range(0, size, PIECE):
        length = min(PIECE, size - start)
        room = max(4096, 1 << (length - 1).bit_length())  # of few sizes: each is a program
        piece = np.zeros(room, np.uint8)
        own = np.frombuffer(data[start : start + length], np.uint8)
        piece[: len(own)] = own
        pieces.append(np.asarray(multihost_utils.broadcast_one_to_all(piece))[:length].tobytes())
    return b"".join(pieces)


def check_same(what: str, value: str, mend: str) -> None:
    """Refuses to go on where processes have different values of what must be one.

    Raises:
      ConfigError: on all processes, naming those that differ from process 0.
    """
    if not several():
        return
    own = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    found = multihost_utils.process_allgather(own)
    others = np.flatnonzero((found != found[0]).any(1)).tolist()
    if others:
        raise ConfigError(f"{what}: process {', '.join(map(str, others))} differs from process 0; {mend}")


def check_shared(folder: Path, key: str) -> None:
    """Refuses a folder that is not one and the same for all processes.

    Raises:
      ConfigError: on all processes, naming the folder and `key`, the setting that names it.
    """
    if not several():
        return

    def write() -> str:
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / f".shared.{os.urandom(4).hex()}"
        token.write_text("")
        return token.name

    token = folder / on_main(write)
    seen = multihost_utils.process_allgather(np.array(token.exists()))
    on_main(token.unlink)
    if not seen.all():
        raise ConfigError(
            f"{folder} is not the same folder on all hosts (process {int(np.argmin(seen))} does not see what process 0 "
            f"wrote there); name one that they share, or a bucket, with {key}"
        )


def share_folder(folder: Path, last: str) -> None:
    """Copies the files of a small folder of process 0 to the hosts that lack its file `last`, which is written last."""
    if not several():
        return
    lacking = multihost_utils.process_allgather(np.array(not (folder / last).is_file()))
    if not lacking.any():
        return

    def read() -> dict[str, bytes]:
        shown = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        return {path.name: path.read_bytes() for path in shown}

    files = on_main(read)
    if lacking[jax.process_index()]:
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == last):
            with complete_file(folder / name) as file:  # other processes of the host may do the same
                file.write(files[name])


def place(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """A host array that every process has -> a device array; each process copies the parts of its own devices. Explicit
    transfers, which a guard lets pass.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    parts = [
        jax.device_put(array[index], device)
        for device, index in sharding.addressable_devices_indices_map(array.shape).items()
    ]
    return jax.make_array_from_single_device_arrays(array.shape, sharding, parts)


class Vote:
    """Whether any process has said yes, known to all at the same call.

    The answer of a call comes `LAG` calls later: by then the devices have it, and nobody waits for it.
    """

    LAG = 2

    def __init__(self, mesh: Mesh):
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._any = jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._asked: deque[jax.Array] = deque()

    def __call__(self, mine: bool) -> bool:
        """With one process, `mine`."""
        if not several():
            return mine
        # one of each device, ours of ours
        votes = place(np.full(self._sharding.mesh.size, mine), self._sharding)
        self._asked.append(self._any(votes))
        if len(self._asked) <= self.LAG:
            return False
        return bool(jax.device_get(self._asked.popleft()))
