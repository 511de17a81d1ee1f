"""How each objective is called from a config, its options, what it needs, and which items it can learn from.

A new objective is one new file and one entry of `OBJECTIVES`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.examples import ANCHOR, Examples, preferable
from consistency_jax.errors import UserError
from consistency_jax.objectives.dco import DCO, dco, steering
from consistency_jax.objectives.dpo import DPO, IPO, ORPO, SIMPO, dpo, ipo, orpo, simpo
from consistency_jax.objectives.mlc import Mlc
from consistency_jax.objectives.mpo import MPO, ONE_FOR_ALL, mpo
from consistency_jax.objectives.pco import pco_exact
from consistency_jax.objectives.pco_rollout import PCO_ROLLOUT, pco_rollout, pco_sampled
from consistency_jax.objectives.sft import SFT, sft, sft_all
from consistency_jax.runtime.keys import ANY, Key


class Outputs(NamedTuple):
    """What the policy says of a batch (B items, L languages, K candidates). Cells of what is absent hold anything."""

    logp: jax.Array  # f32[B, L, K], sums over the answers' tokens, nats
    state: jax.Array  # [B, L, D], hidden state of each prompt's last token; free where nobody reads it


# loss(outputs, examples) -> (a mean, metrics). metrics["weight"] says over how much that mean is taken (items, tokens),
# so that the means of micro-batches combine to that of the whole; it depends on the examples alone.
Loss = Callable[[Outputs, Examples], tuple[jax.Array, dict[str, jax.Array]]]


# (mask bool[n, L, K], gold i32[n], languages) -> bool[n]
Usable = Callable[[np.ndarray, np.ndarray, Sequence[str]], np.ndarray]


class Objective(NamedTuple):
    """A named objective: `make(options, languages)` gives its loss for one config."""

    make: Callable[[Mapping[str, Any], Sequence[str]], Loss]
    needs_reference: bool
    usable: Usable
    needs: str  # what makes an item usable, in words
    options: Mapping[str, Key]  # of the loss, with which `make` is called
    # Options of what it is given: REJECTED where it compares the gold answer with one wrong candidate and reads no
    # other, ALIGNED where it compares candidates and reads no label, so that the gold one may be left out.
    batch_options: Mapping[str, Key] = {}
    gold_alone: bool = False  # reads the gold answer and no other candidate, which are therefore not fed
    crosslingual: bool = False  # compares the languages of an item, which are therefore one example
    needs_state: bool = False  # reads hidden states of the policy, and the reference's in the language ANCHOR

    @property
    def keys(self) -> dict[str, Key]:
        """Every option that may stand in `config.objective`."""
        return {**self.options, **self.batch_options}

    @property
    def labels(self) -> bool:
        """Whether it trains on the gold candidate."""
        return self.gold_alone or "rejected" in self.batch_options


REJECTED = {
    "rejected": Key(
        "random",
        ("random", "hardest"),
        "The wrong candidate; hardest: the likeliest for the stage's reference, which is then scored for it",
    )
}
ALIGNED = {
    "candidates": Key("all", ("all", "pair"), "All of an item's, or two drawn ones"),
    "false_examples": Key(False, ANY, "Leave the gold answers of labelled items out"),
}


def _plain(objective: Callable, given: Callable[[Examples], dict[str, jax.Array]]) -> Callable:
    """`make` of an objective that takes the policy's table, these arrays of the examples, and its options by name."""

    def make(options: Mapping[str, Any], languages: Sequence[str]) -> Loss:
        del languages
        return lambda policy, examples: objective(policy.logp, **given(examples), **options)

    return make


def _answers(examples: Examples) -> dict[str, jax.Array]:
    return {"length": examples.length, "mask": examples.mask}


def _gold(examples: Examples) -> dict[str, jax.Array]:
    return _answers(examples) | {"gold": examples.gold}


def _pairs(examples: Examples) -> dict[str, jax.Array]:
    return _answers(examples) | {"chosen": examples.gold, "rejected": examples.rejected}


def _pairs_and_reference(examples: Examples) -> dict[str, jax.Array]:
    return _pairs(examples) | {"reference": examples.reference}


def _steered(options: Mapping[str, Any], languages: Sequence[str]) -> Callable[[Examples], dict[str, Any]]:
    """What objectives that draw languages to each other take of the examples, and of DCO's options."""
    steer = steering(options["steer"], languages)

    def given(examples: Examples) -> dict[str, Any]:
        partners = examples.partners if options["partners"] == "random" else "all"
        return {"mask": examples.mask, "steer": steer, "partners": partners, "scale": options["scale"]}

    return given


def _consistency(objective: Callable) -> Callable:
    """`make` of dco and pco_exact."""

    def make(options: Mapping[str, Any], languages: Sequence[str]) -> Loss:
        given = _steered(options, languages)
        return lambda policy, examples: objective(policy.logp, examples.reference, **given(examples))

    return make


def _make_pco_rollout(options: Mapping[str, Any], languages: Sequence[str]) -> Loss:
    given = _steered(options, languages)
    samples, kl = options["samples"], options["kl"]

    def loss(policy: Outputs, examples: Examples) -> tuple[jax.Array, dict[str, jax.Array]]:
        tables, length = (policy.logp, examples.reference), examples.length
        if not examples.rewards.size:
            own = given(examples)
            return pco_sampled(*tables, examples.seed, samples=samples, length=length, kl=kl, **own)
        # Drawn by the policy (training/rollouts.py); absent cells have length 0.
        total, metrics = pco_rollout(*tables, examples.rewards, mask=examples.mask, length=length, kl=kl)
        translated = examples.mask.sum() / jnp.maximum((length > 0).sum(), 1)
        return total, metrics | {"translated": translated}

    return loss


def _make_mpo(options: Mapping[str, Any], languages: Sequence[str]) -> Loss:
    if ANCHOR not in languages:
        raise UserError(
            f"objective.name='mpo' needs {ANCHOR!r} among the languages, not {', '.join(languages)}"
        )
    anchor = list(languages).index(ANCHOR)

    def loss(policy: Outputs, examples: Examples) -> tuple[jax.Array, dict[str, jax.Array]]:
        own = _pairs(examples) | options
        return mpo(*policy, examples.reference, examples.state, anchor=anchor, **own)

    return loss


# ------------------------------------------------------------------------------------------------------- usable items
def _comparable(mask: np.ndarray, gold: np.ndarray, languages: Sequence[str]) -> np.ndarray:
    del gold, languages
    present = mask.sum(2) >= 2
    shared = (mask | ~present[:, :, None]).all(1)
    return (present.sum(1) >= 2) & (shared.sum(1) >= 2)


def _labelled(mask: np.ndarray, gold: np.ndarray, languages: Sequence[str]) -> np.ndarray:
    del languages
    return (gold >= 0) & mask.any((1, 2))


def _any(mask: np.ndarray, gold: np.ndarray, languages: Sequence[str]) -> np.ndarray:
    del gold, languages
    return mask.any((1, 2))


def _preferable(mask: np.ndarray, gold: np.ndarray, languages: Sequence[str]) -> np.ndarray:
    del languages
    return preferable(mask, gold).any(1)


def _preferable_anchored(mask: np.ndarray, gold: np.ndarray, languages: Sequence[str]) -> np.ndarray:
    pairs = preferable(mask, gold)
    if ANCHOR not in languages:
        return np.zeros(len(mask), bool)
    return pairs[:, list(languages).index(ANCHOR)] & (pairs.sum(1) >= 2)


_COMPARABLE = "two languages with two candidates in common"
_PREFERABLE = "a gold answer and another candidate"


OBJECTIVES: dict[str, Objective] = {
    "dco": Objective(_consistency(dco), True, _comparable, _COMPARABLE, DCO, ALIGNED, crosslingual=True),
    "pco_exact": Objective(
        _consistency(pco_exact), True, _comparable, _COMPARABLE, DCO, ALIGNED, crosslingual=True
    ),
    "pco_rollout": Objective(
        _make_pco_rollout, True, _comparable, _COMPARABLE, PCO_ROLLOUT, ALIGNED, crosslingual=True
    ),
    "dpo": Objective(_plain(dpo, _pairs_and_reference), True, _preferable, _PREFERABLE, DPO, REJECTED),
    "ipo": Objective(_plain(ipo, _pairs_and_reference), True, _preferable, _PREFERABLE, IPO, REJECTED),
    "mpo": Objective(
        _make_mpo,
        True,
        _preferable_anchored,
        f"{_PREFERABLE} in {ANCHOR!r} and in another language",
        MPO,
        {"rejected": REJECTED["rejected"]._replace(allowed=ONE_FOR_ALL, help="The wrong candidate")},
        crosslingual=True,
        needs_state=True,
    ),
    "orpo": Objective(_plain(orpo, _pairs), False, _preferable, _PREFERABLE, ORPO, REJECTED),
    "sft": Objective(_plain(sft, _gold), False, _labelled, "a gold answer", SFT, gold_alone=True),
    "sft_all": Objective(_plain(sft_all, _answers), False, _any, "a candidate", SFT),
    "simpo": Objective(_plain(simpo, _pairs), False, _preferable, _PREFERABLE, SIMPO, REJECTED),
}


def options_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the objective of a `config.objective` takes: as they are set there, else its own defaults."""
    set_there = {key: value for key, value in section.items() if value is not None}
    return {key: set_there.get(key, row.default) for key, row in OBJECTIVES[section["name"]].keys.items()}


def usable(
    section: Mapping[str, Any], mask: np.ndarray, gold: np.ndarray, languages: Sequence[str]
) -> tuple[np.ndarray, str]:
    """bool[n], which items (mask bool[n, L, K], gold i32[n]) the objective of `config.objective` can learn from, and
    what that takes, in words."""
    objective = OBJECTIVES[section["name"]]
    if not options_of(section).get("false_examples"):
        return objective.usable(mask, gold, languages), objective.needs
    wrong = mask & (np.arange(mask.shape[2]) != gold[:, None, None])
    return objective.usable(wrong, gold, languages), f"{objective.needs}, the gold one aside"


def tells_right_from_wrong(section: Mapping[str, Any]) -> bool:
    """Whether the objective of `config.objective` reads labels: it trains on the gold candidate, or leaves it out."""
    return OBJECTIVES[section["name"]].labels or bool(options_of(section).get("false_examples"))


def make_objective(section: Mapping[str, Any], languages: Sequence[str]) -> tuple[Loss, bool]:
    """The loss that a `config.objective` asks for, and whether a run of it needs reference log-probabilities:
    in the loss, or to tell which wrong candidate is the hardest."""
    objective, options = OBJECTIVES[section["name"]], options_of(section)
    loss = objective.make({key: options[key] for key in objective.options}, tuple(languages))
    return loss, objective.needs_reference or options.get("rejected") == "hardest"


def make_auxiliary(options: Any) -> Mlc | None:
    """The auxiliary loss that `config.auxiliary` asks for; None where its weight is 0."""
    if not options.mlc.weight:
        return None
    return Mlc(*(options.mlc[name] for name in Mlc._fields))
