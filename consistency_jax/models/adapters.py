"""A model's adapters: made, merged into its weights, and written as the folder that `peft` loads; and the quantised
base that they may stand beside."""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from consistency_jax.models.decoder import Params, init_params
from consistency_jax.models.families import FAMILIES
from consistency_jax.models.huggingface import Model
from consistency_jax.models.lora import LoraConfig, is_adapter
from consistency_jax.models.quantised import is_kernel, quantised_kernel
from consistency_jax.models.shardings import param_shardings
from consistency_jax.models.tensor_files import write_tensors
from consistency_jax.runtime.files import local, write_text
from consistency_jax.runtime.mesh import fetch, mesh_of
from consistency_jax.runtime.processes import on_main

PEFT_NAMES = {"lora_a": "lora_A", "lora_b": "lora_B"}


def add_adapters(model: Model, lora: LoraConfig, seed: int) -> Model:
    """The model with new adapters: the same arrays and, B being zero, exactly the same outputs."""
    config = dataclasses.replace(model.config, lora=lora)
    whole = config.unquantised  # whose adapters are the same, whatever they stand beside

    def adapters(tree: Params) -> dict[str, Any]:
        return {name: leaf for name, leaf in _flat(tree).items() if is_adapter(name)}

    # What is not returned is not computed: no second base model, not even for a moment.
    make = jax.jit(
        lambda key: adapters(init_params(whole, key)),
        out_shardings=adapters(param_shardings(whole, mesh_of(model.params))),
    )
    params = _flat(model.params) | make(jax.random.key(seed))
    return dataclasses.replace(model, config=config, params=traverse_util.unflatten_dict(params, sep="/"))


def quantise(model: Model, base: str) -> Model:
    """The model with its kernels quantised, as `load_pretrained` does; itself where it is that already.

    Raises: ValueError for one that is quantised in another way.
    """
    if base == model.config.base:
        return model
    if model.config.base != "none":
        raise ValueError(
            f"kernels in {model.config.base} cannot be had in {base}: take the model that they were made of"
        )
    config = dataclasses.replace(model.config, base=base)
    places, params = _flat(param_shardings(config, mesh_of(model.params))), {}
    for name, array in _flat(model.params).items():
        if is_kernel(name):
            layers = (jax.lax.dynamic_slice_in_dim(array, layer, 1) for layer in range(config.layers))
            params |= quantised_kernel(name, config.layers, layers, base, places)
        else:
            params[name] = array
    return dataclasses.replace(model, config=config, params=traverse_util.unflatten_dict(params, sep="/"))


def merge_adapters(model: Model) -> Model:
    """The model without adapters whose kernels are W + (alpha / rank) A B, computed in float32 and rounded once.

    Raises: ValueError for quantised kernels, which are not W.
    """
    if model.config.lora is None:
        return model
    if model.config.base != "none":
        raise ValueError(f"adapters are merged into the original kernels, not into their {model.config.base}")
    flat = _flat(model.params)
    merged = {name: leaf for name, leaf in flat.items() if not is_adapter(name)}
    for name in [name for name in flat if name.endswith("/lora_a")]:
        projection = name.removesuffix("/lora_a")
        kernel = flat[f"{projection}/kernel"]
        merge = jax.jit(
            functools.partial(_merged, scale=model.config.lora.scale), out_shardings=kernel.sharding
        )
        merged[f"{projection}/kernel"] = merge(kernel, flat[name], flat[f"{projection}/lora_b"])
    config = dataclasses.replace(model.config, lora=None)
    return dataclasses.replace(model, config=config, params=traverse_util.unflatten_dict(merged, sep="/"))


def _merged(kernel: jax.Array, a: jax.Array, b: jax.Array, *, scale: float) -> jax.Array:
    """kernel [L, in, out], a [L, in, rank], b [L, rank, out] -> [L, in, out], a layer at a time."""

    def layer(parts: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        w, a, b = (part.astype(jnp.float32) for part in parts)
        return (w + scale * jnp.matmul(a, b, precision="highest")).astype(kernel.dtype)

    return jax.lax.map(layer, (kernel, a, b))


def save_adapter(model: Model, folder: str | Path, base: str) -> None:
    """Writes adapter_config.json and adapter_model.safetensors, as PEFT has them.

    Args:
      base: name or folder of the base model, for those who load the adapter.

    Raises: OSError.
    """
    lora = model.config.lora
    assert lora is not None
    folder = local(folder, "folder")
    family = FAMILIES[model.architecture]
    flat, mapping = _flat(model.params), family.names(model.config)
    modules, tensors = set(), {}
    for name in sorted(filter(is_adapter, flat)):
        projection, _, part = name.rpartition("/")
        stem = mapping[f"{projection}/kernel"].name.removesuffix(".weight")
        stem = family.text_modules + stem.removeprefix("model.")
        modules.add(stem.rpartition(".")[2])
        values = np.asarray(fetch(flat[name]))
        for layer, value in enumerate(values):  # torch's linear layers hold [out, in]
            tensors[f"{stem.format(layer=layer)}.{PEFT_NAMES[part]}.weight"] = np.ascontiguousarray(value.T)
    tensors = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}  # PEFT's two wrappers
    targets: str | list[str] = sorted(modules)
    if family.other_parts:  # whose projections may have the same names: a pattern says where ours are
        targets = rf"{re.escape(family.text_modules)}.*\.({'|'.join(targets)})"
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / "adapter_model.safetensors", tensors)
        write_text(folder / "adapter_config.json", json.dumps(settings, indent=2) + "\n")

    on_main(write)


def _flat(tree: Params) -> dict[str, Any]:
    return traverse_util.flatten_dict(tree, sep="/")
