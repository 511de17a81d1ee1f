"""Objectives: pure functions of what a policy says about a batch, and what its reference said.

    objective(policy f32[B, L, K], ...) -> (loss, metrics)

They take and give arrays; `registry` says how each is called from a config.
"""

from consistency_jax.objectives.dco import dco, dco_target
from consistency_jax.objectives.dpo import dpo, ipo, orpo, simpo
from consistency_jax.objectives.mlc import Mlc, mlc
from consistency_jax.objectives.mpo import mpo
from consistency_jax.objectives.pco import pco_exact
from consistency_jax.objectives.pco_rollout import pco_rollout
from consistency_jax.objectives.registry import (
    OBJECTIVES,
    Loss,
    Objective,
    Outputs,
    make_auxiliary,
    make_objective,
    options_of,
    tells_right_from_wrong,
    usable,
)
from consistency_jax.objectives.sft import sft, sft_all

__all__ = [
    "OBJECTIVES",
    "Loss",
    "Mlc",
    "Objective",
    "Outputs",
    "dco",
    "dco_target",
    "dpo",
    "ipo",
    "make_auxiliary",
    "make_objective",
    "mlc",
    "mpo",
    "options_of",
    "orpo",
    "pco_exact",
    "pco_rollout",
    "sft",
    "sft_all",
    "simpo",
    "tells_right_from_wrong",
    "usable",
]
