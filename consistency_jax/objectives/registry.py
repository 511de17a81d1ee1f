"""How each objective is called from a config, what it needs, and which items it can learn from.

A new objective is one new file and one entry of `OBJECTIVES`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.examples import ANCHOR, Examples, preferable
from consistency_jax.errors import UserError
from consistency_jax.objectives.dco import dco
from consistency_jax.objectives.dpo import dpo, orpo, simpo
from consistency_jax.objectives.mlc import Mlc
from consistency_jax.objectives.mpo import mpo
from consistency_jax.objectives.pco import pco_exact
from consistency_jax.objectives.pco_rollout import pco_rollout, pco_sampled
from consistency_jax.objectives.sft import sft, sft_all


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

    make: Callable[[Any, Sequence[str]], Loss]
    needs_reference: bool
    usable: Usable
    needs: str  # what makes an item usable, in words
    preference: bool = False  # compares the gold answer with one wrong candidate, and reads no other
    crosslingual: bool = False  # compares the languages of an item, which are therefore one example
    needs_state: bool = False  # reads hidden states of the policy, and the reference's in the language ANCHOR

    @property
    def unlabelled(self) -> bool:
        """Whether it compares aligned candidates and reads no label, so that the gold one may be left out."""
        return self.crosslingual and not self.preference


def _consistency(objective: Callable) -> Callable:
    """`make` of an objective that draws languages to each other: dco, pco_exact."""

    def make(options: Any, languages: Sequence[str]) -> Loss:
        steer = np.array([options.steer.get(language, 1.0) for language in languages])

        def loss(policy: Outputs, examples: Examples) -> tuple[jax.Array, dict[str, jax.Array]]:
            partners = examples.partners if options.partners == "random" else "all"
            return objective(
                policy.logp,
                examples.reference,
                mask=examples.mask,
                steer=steer,
                partners=partners,
                scale=options.scale,
            )

        return loss

    return make


def _make_pco_rollout(options: Any, languages: Sequence[str]) -> Loss:
    steer = np.array([options.steer.get(language, 1.0) for language in languages])

    def loss(policy: Outputs, examples: Examples) -> tuple[jax.Array, dict[str, jax.Array]]:
        if examples.rewards.size:  # drawn by the policy (rollouts.py); absent cells have length 0
            own = (policy.logp, examples.reference, examples.rewards)
            total, metrics = pco_rollout(*own, mask=examples.mask, length=examples.length, kl=options.kl)
            translated = examples.mask.sum() / jnp.maximum((examples.length > 0).sum(), 1)
            return total, metrics | {"translated": translated}
        return pco_sampled(
            policy.logp,
            examples.reference,
            examples.seed,
            samples=options.samples,
            mask=examples.mask,
            length=examples.length,
            steer=steer,
            partners=examples.partners if options.partners == "random" else "all",
            scale=options.scale,
            kl=options.kl,
        )

    return loss


def _make_sft(options: Any, languages: Sequence[str]) -> Loss:
    del languages

    def loss(policy: Outputs, examples: Examples) -> tuple[jax.Array, dict[str, jax.Array]]:
        return sft(
            policy.logp,
            gold=examples.gold,
            length=examples.length,
            mask=examples.mask,
            normalization=options.normalization,
        )

    return loss


def _make_sft_all(options: Any, languages: Sequence[str]) -> Loss:
    del languages

    def loss(policy: Outputs, examples: Examples) -> tuple[jax.Array, dict[str, jax.Array]]:
        return sft_all(
            policy.logp, length=examples.length, mask=examples.mask, normalization=options.normalization
        )

    return loss


def _make_mpo(options: Any, languages: Sequence[str]) -> Loss:
    if ANCHOR not in languages:
        raise UserError(
            f"objective.name='mpo' needs {ANCHOR!r} among the languages, not {', '.join(languages)}"
        )
    anchor = list(languages).index(ANCHOR)

    def loss(policy: Outputs, examples: Examples) -> tuple[jax.Array, dict[str, jax.Array]]:
        return mpo(
            *policy,
            examples.reference,
            examples.state,
            anchor=anchor,
            chosen=examples.gold,
            rejected=examples.rejected,
            length=examples.length,
            mask=examples.mask,
            beta=options.beta,
        )

    return loss


def _preference(objective: Callable, options: tuple[str, ...], *, reference: bool = False) -> Callable:
    """`make` of a preference objective that takes these of the config's options."""

    def make(config: Any, languages: Sequence[str]) -> Loss:
        del languages
        given = {name: config[name] for name in options}

        def loss(policy: Outputs, examples: Examples) -> tuple[jax.Array, dict[str, jax.Array]]:
            return objective(
                *(policy.logp, examples.reference) if reference else (policy.logp,),
                chosen=examples.gold,
                rejected=examples.rejected,
                length=examples.length,
                mask=examples.mask,
                **given,
            )

        return loss

    return make


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
    "dco": Objective(_consistency(dco), True, _comparable, _COMPARABLE, crosslingual=True),
    "pco_exact": Objective(_consistency(pco_exact), True, _comparable, _COMPARABLE, crosslingual=True),
    "pco_rollout": Objective(_make_pco_rollout, True, _comparable, _COMPARABLE, crosslingual=True),
    "dpo": Objective(
        _preference(dpo, ("beta", "label_smoothing", "gamma"), reference=True),
        True,
        _preferable,
        _PREFERABLE,
        preference=True,
    ),
    "mpo": Objective(
        _make_mpo,
        True,
        _preferable_anchored,
        f"{_PREFERABLE} in {ANCHOR!r} and in another language",
        preference=True,
        crosslingual=True,
        needs_state=True,
    ),
    "orpo": Objective(_preference(orpo, ("odds_weight",)), False, _preferable, _PREFERABLE, preference=True),
    "sft": Objective(_make_sft, False, _labelled, "a gold answer"),
    "sft_all": Objective(_make_sft_all, False, _any, "a candidate"),
    "simpo": Objective(
        _preference(simpo, ("beta", "label_smoothing", "margin")),
        False,
        _preferable,
        _PREFERABLE,
        preference=True,
    ),
}


def usable(
    options: Any, mask: np.ndarray, gold: np.ndarray, languages: Sequence[str]
) -> tuple[np.ndarray, str]:
    """bool[n], which items (mask bool[n, L, K], gold i32[n]) the objective of `config.objective` can learn from, and
    what that takes, in words."""
    objective = OBJECTIVES[options.name]
    if not options.false_examples:
        return objective.usable(mask, gold, languages), objective.needs
    wrong = mask & (np.arange(mask.shape[2]) != gold[:, None, None])
    return objective.usable(wrong, gold, languages), f"{objective.needs}, the gold one aside"


def make_objective(options: Any, languages: Sequence[str]) -> tuple[Loss, bool]:
    """The loss that `config.objective` asks for, and whether a run of it needs reference log-probabilities:
    in the loss, or to tell which wrong candidate is the hardest."""
    objective = OBJECTIVES[options.name]
    hardest = objective.preference and options.rejected == "hardest"
    return objective.make(options, tuple(languages)), objective.needs_reference or hardest


def make_auxiliary(options: Any) -> Mlc | None:
    """The auxiliary loss that `config.auxiliary` asks for; None where its weight is 0."""
    if not options.mlc.weight:
        return None
    return Mlc(*(options.mlc[name] for name in Mlc._fields))
