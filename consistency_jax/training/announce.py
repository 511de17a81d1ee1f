"""What a run tells of itself at its start: devices, data, method, model. The command's first line is the version's."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from consistency_jax.config.stages import Stage
from consistency_jax.data.items import Items
from consistency_jax.evaluation.splits import languages_of
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.watch import Watch

LARGE = 50e6  # parameters, from which on a model's precision is worth a word


def tell_run(
    watch: Watch, config: ConfigDict, mesh: Mesh, items: Sequence[Mapping[str, Items]], method: str
) -> None:
    """The lines that need no model.

    Args:
      items: all that the run reads, by split; apart what it trains on and what it measures.
      method: what is done with them.
    """
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    watch.tell("devices", f"{mesh.size} x {mesh.devices.flat[0].device_kind}, mesh {sizes}{processes}")
    read = [own for part in items for own in part.values()]
    known = dict.fromkeys(language for own in read for language in languages_of(config, own))
    parts = (", ".join(f"{split} {len(own):,}" for split, own in part.items()) for part in items)
    counts = "; ".join(filter(None, parts))
    languages = f"{len(known)} language{'s' * (len(known) != 1)} ({' '.join(known)})"
    watch.tell("data", f"{config.data.source}, {languages}, items: {counts}")
    watch.tell("method", method)


def training_items(
    stages: Sequence[Stage], loaded: Sequence[tuple[Items, tuple[str, ...]]]
) -> dict[str, Items]:
    """What stages are trained on (of `load_training`), by split or by file of preference pairs; with the stage's name
    where another one takes other items of it."""
    found: dict[str, Items] = {}
    for stage, (items, _) in zip(stages, loaded, strict=True):
        name = stage.config.data.train.pairs or stage.config.data.train.split
        found[name if found.get(name, items) == items else f"{name} ({stage.name})"] = items
    return found


def tell_model(watch: Watch, config: ConfigDict, model: Model) -> None:
    """Its name, size and precision, with a word on a precision that this device is slow in."""
    decoder = model.config
    size = f"{decoder.num_params / 1e6:,.2f} M parameters"
    stored = f", projections in {decoder.base}" if decoder.base != "none" else ""
    adapters = f", adapters of rank {decoder.lora.rank}" if decoder.lora else ""
    computed = "" if decoder.dtype == decoder.param_dtype else f", computed in {decoder.dtype}"
    name = config.model.path or "embedded base model"
    watch.tell("model", f"{name}, {size}, {decoder.param_dtype}{computed}{stored}{adapters}")
    platform = jax.default_backend()
    if decoder.num_params > LARGE and (better := better_dtype(decoder.dtype, platform, _features(platform))):
        keys = f"--config.model.dtype={better} --config.model.compute_dtype={better}"
        told = f"dtype={better} (configs that have this option) or {keys}"
        print(f"note: this {platform.upper()} is faster in {better}: {told}")


def _features(platform: str) -> str:
    """What tells `better_dtype` of this device; "" where it is not known."""
    cpu = Path("/proc/cpuinfo")
    if platform == "cpu":
        return cpu.read_text(errors="replace") if cpu.exists() else ""
    return str(getattr(jax.local_devices()[0], "compute_capability", ""))


def better_dtype(dtype: str, platform: str, features: str) -> str:
    """The precision in which a device computes faster than in `dtype`; "" where none is known to be.

    Args:
      platform: cpu, gpu or tpu.
      features: of a CPU, as /proc/cpuinfo has them; of a GPU its compute capability, "8.0"; "": unknown.
    """
    if platform != "cpu":
        known = platform == "tpu" or re.match(r"[89]\.|\d\d", features)  # from Ampere on
        return "bfloat16" if dtype == "float32" and known else ""
    x86 = re.search(r"\bavx2\b", features)
    return (
        "float32" if dtype == "bfloat16" and x86 and not re.search(r"\b(avx512|amx)_bf16\b", features) else ""
    )
