"""Compiling for TPU slices: what needs no compiler, then (marker aot) what the TPU compiler makes of small models."""

import dataclasses
import importlib.util
import math

import jax
import numpy as np
import pytest
from flax import traverse_util
from small_models import GEMMA, LLAMA, SMALL, needs_compiler, small_config

from consistency_jax.aot import prove as proving
from consistency_jax.aot.hlo import Program
from consistency_jax.aot.shapes import score_load, train_load
from consistency_jax.errors import ConfigError
from consistency_jax.models.configured import abstract_model
from consistency_jax.models.decoder import abstract_params
from consistency_jax.runtime.chips import GIB
from consistency_jax.runtime.mesh import make_mesh


# ------------------------------------------------------------------------------------------------- without a compiler
@pytest.mark.parametrize("architecture", [LLAMA, GEMMA], ids=["llama", "gemma"])
def test_hand_counted_flops_are_those_of_the_compiled_step(architecture):
    # On one CPU device, every loop counted: nothing but recompute is done beside what the hand counts.
    config = small_config(architecture)
    decoder, mesh = abstract_model(config), make_mesh((1, 1, 1), jax.devices()[:1])
    for lowered, _, useful in (
        proving.lower_train(config, decoder, mesh, train_load(config, 1, rows=2, length=128)),
        proving.lower_score(decoder, mesh, score_load(config, 1, length=128)),
    ):
        program = Program(lowered.compile().as_text())
        assert not program.unknown_loops
        assert (program.flops() - program.flops(proving.RECOMPUTE)) / useful == pytest.approx(1.0, abs=0.02)


def test_without_the_compiler_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"consistency_jax\[aot\].*make aot"):
        proving.topology_devices("v5e:2x2")


def test_advice_names_what_is_not_done_yet():
    config = small_config(LLAMA)
    hbm = {"fits": False, "arguments": 30 * GIB, "capacity": 15.75 * GIB, "total": 33 * GIB}
    report = {"topology": "v5e:2x2", "mesh": {"data": 4, "fsdp": 1, "tensor": 1}, "remat": "none"}
    report["programs"] = {"train": {"hbm": hbm}}
    said = proving.advice(report, config)
    for part in ("33.00 GiB", "15.75 GiB", "larger slice", "mesh.fsdp", "lora.rank", "remat=full", "items"):
        assert part in said
    report |= {"remat": "full", "mesh": {"data": 1, "fsdp": 4, "tensor": 1}}
    assert "remat=full" not in proving.advice(report, config)
    assert "mesh.fsdp" not in proving.advice(report, config)
    hbm["fits"] = True
    assert proving.advice(report, config) == ""


@dataclasses.dataclass
class Proof:
    report: dict
    programs: dict[str, Program]


def prove(folder, config, programs=("train", "score")) -> Proof:
    report = proving.prove(config, "v5e:2x2", length=256, programs=programs, hlo=folder)
    return Proof(report, {name: Program((folder / f"{name}.hlo").read_text()) for name in programs})


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return prove(tmp_path_factory.mktemp("llama"), small_config(LLAMA, data=1, fsdp=4))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    return prove(tmp_path_factory.mktemp("gemma"), small_config(GEMMA, data=1, fsdp=4), ("train",))


@pytest.fixture(params=["llama", "gemma"])
def proof(request):
    return request.getfixturevalue(request.param)


@pytest.mark.aot
@needs_compiler
def test_a_small_model_fits_and_its_numbers_are_there(proof):
    assert proof.report["fits"]
    for program in proof.report["programs"].values():
        hbm = program["hbm"]
        assert min(hbm["arguments"], hbm["program"]) > 0
        assert hbm["temporaries"] >= 0  # a model as small as this has room for them in vector memory
        assert hbm["total"] == sum(hbm[n] for n in ("arguments", "output", "temporaries", "program"))
        assert hbm["total"] < hbm["capacity"] == 15.75 * GIB
        assert not program["unknown_loops"]
        assert 0 < program["mfu"]["serial"] <= program["mfu"]["overlapped"] < 1
        embedding = 2 * SMALL["vocab_size"] * SMALL["hidden_size"] / 4  # of which only rows are read
        assert program["traffic"] > hbm["arguments"] - embedding


@pytest.mark.aot
@needs_compiler
def test_arguments_are_what_the_shardings_imply(llama):
    # Parameters and two moments, all in bfloat16; matrices are split over 4 devices, norms are whole.
    decoder = abstract_model(small_config(LLAMA))
    leaves = jax.tree.leaves(abstract_params(decoder))
    held = sum(
        2 * math.prod(leaf.shape) // (1 if min(leaf.shape) < 64 and leaf.ndim < 3 else 4) for leaf in leaves
    )
    norm = 2 * decoder.hidden
    held += norm - norm // 4  # the final norm
    programs = llama.report["programs"]
    assert programs["train"]["hbm"]["arguments"] == pytest.approx(3 * held, rel=0.02)  # the batch, and tiling
    assert programs["score"]["hbm"]["arguments"] == pytest.approx(held, rel=0.04)


@pytest.mark.aot
@needs_compiler
def test_half_the_devices_along_fsdp_hold_twice_the_parameters(llama, tmp_path):
    config = small_config(LLAMA, data=2, fsdp=2)
    wide = prove(tmp_path, config, ("score",)).report["programs"]["score"]["hbm"]["arguments"]
    assert wide / llama.report["programs"]["score"]["hbm"]["arguments"] == pytest.approx(2, rel=0.04)


@pytest.mark.aot
@needs_compiler
def test_adapters_beside_four_bits_and_no_more_computed_again_than_needed(llama, tmp_path):
    config = small_config(LLAMA, data=1, fsdp=4)
    config.lora.rank, config.model.remat = 4, "auto"
    held = {}
    for config.lora.base in ("none", "nf4"):
        report = prove(tmp_path, config, ("train",)).report
        program = report["programs"]["train"]
        assert report["remat"] == "none"  # there is room for all
        assert program["flops"]["recompute"] == 0
        assert 0.98 < program["flops"]["ratio"] <= 1.10
        held[config.lora.base] = program["hbm"]["arguments"]
    decoder = abstract_model(small_config(LLAMA))
    flat = traverse_util.flatten_dict(abstract_params(decoder), sep="/")
    kernels = sum(math.prod(leaf.shape) for name, leaf in flat.items() if name.endswith("kernel"))
    # Of 16 bits 4 are left, and a scale for 64 weights; each device has a quarter.
    assert held["none"] - held["nf4"] == pytest.approx(kernels * (16 - 4 - 0.5) / 8 / 4, rel=0.05)
    config.lora.rank = 0
    with pytest.raises(ConfigError, match="lora.base=nf4 leaves nothing to train but adapters"):
        prove(tmp_path, config, ("train",))


@pytest.mark.aot
@needs_compiler
def test_compiled_flops_are_the_useful_ones(proof):
    for name, program in proof.report["programs"].items():
        assert 0.98 < program["flops"]["ratio"] <= 1.10
        assert (program["flops"]["recompute"] > 0) == (name == "train")


@pytest.mark.aot
@needs_compiler
def test_no_logits_of_all_tokens(proof):
    # Logits are [states that predict, a quarter of the vocabulary]; nothing else has an axis of the vocabulary but the
    # embedding and the head, and no device has a whole one of these.
    vocabulary, hidden = SMALL["vocab_size"], SMALL["hidden_size"]
    for name, program in proof.programs.items():
        load = proof.report["programs"][name]["load"]
        shape = load["shape"]
        tokens = shape["rows"] * shape["length"]
        states = 4 * shape["sources"]
        assert states < tokens / 4 or name == "score"  # which predicts prompts too: all tokens, but the last
        found = [dims for dims in program.shapes() if {vocabulary, vocabulary // 4} & set(dims)]
        assert any(math.prod(dims) == states * vocabulary // 4 for dims in found)
        for dims in found:
            assert math.prod(dims) <= max(states, hidden) * vocabulary // 4, dims
            if name == "train":
                assert not {tokens, tokens // 4} & set(dims), dims


@pytest.mark.aot
@needs_compiler
def test_only_kernels_and_states_that_predict_are_gathered(proof):
    # What a device receives whole: a layer's kernels, and the few states that the head runs on; never row tokens.
    kernels = {
        tuple(sorted(leaf.shape[-2:]))
        for leaf in jax.tree.leaves(abstract_params(abstract_model(small_config(LLAMA))))
    }
    for name, program in proof.programs.items():
        states = 4 * proof.report["programs"][name]["load"]["shape"]["sources"]
        allowed = kernels | {tuple(sorted((states, SMALL["hidden_size"])))}
        gathered = set()
        for run in program.executed:
            array = run.instruction.arrays[-1] if run.instruction.arrays else None
            if run.instruction.opcode in ("all-gather", "all-gather-start") and array.dtype in (
                "bf16",
                "f32",
            ):
                dims = tuple(sorted(size for size in array.dims if size != 1))
                gathered |= {dims} if math.prod(dims) > 2**12 else set()
        assert kernels & gathered
        assert gathered <= allowed
        assert (SMALL["vocab_size"], SMALL["hidden_size"]) not in program.shapes()


@pytest.mark.aot
@needs_compiler
def test_a_slice_that_cannot_be_is_told():
    with pytest.raises(ConfigError, match="v5e:3x5"):
        proving.topology_devices("v5e:3x5")
    assert np.size(proving.topology_devices("v5e:1x1")) == 1
