"""Answers that the policy draws itself, as batches: batch = f(seed, step, parameters). PCO's expectation, by sampling.

At every step n answers to the prompts of the step's items are drawn from the policy of that moment, in each language;
each is translated into its partner's language (all others, for partners "all") and scored by the reference there:

    reward_i(y) = target_i(y) - log q_i(y)        of objectives/dco.py, with log q_j(tau_ij y) in the place of r_j
                = beta_i * log q_p(tau_ip y)      for a single partner p

`pco_rollout` takes it from there: the step computes the policy's log-probabilities of these very tokens anew, with
gradients. What is decided here, all this project's derivation:

* The end-of-sequence token is scored where the policy drew it: an answer's log-probability, policy's and reference's,
  is that of all that was drawn (end token, or the tokens in which a stop text stands, included), since only of whole
  draws the score function has mean 0. Its translation then ends with that token too; behind a stop text or
  `max_tokens`, what is scored is that the translation is said, whatever follows (as candidates are scored).
* An answer without a translation into every language it needs is left out. Among the others, T, baseline and policy
  gradient are those of the distributions given T: covariances do not see the constant log pi(T). So PCO is optimized
  given T, and `translated`, the share of answers in T, is moved by nothing but that. (With `table`, an answer is in T
  where it is a candidate, and the optimum is that of `pco_exact`.)
* The translator and the rewards are fixed: "model" is the reference, prompted to translate, not the moving policy.

A temperature other than 1, top-k and top-p draw from another distribution than the policy's: an approximation.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import jax
import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.parsing import named_function
from consistency_jax.config.stages import generates, selects
from consistency_jax.data.examples import Examples, StepInput
from consistency_jax.data.items import DataError, ParallelItem, answer_in_gap
from consistency_jax.data.packing.plan import choose_shape, plan
from consistency_jax.data.packing.rows import Shape, pack, tree_sizes
from consistency_jax.data.pipeline import Draw, Pipeline, split_trees, step_input
from consistency_jax.data.trees.builder import BadCells, TreeBuilder
from consistency_jax.data.trees.forest import Forest, Tree
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.splits import Split, chat_of
from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Answer, Sampler
from consistency_jax.generation.translators import Translations, by_function, by_model, by_table
from consistency_jax.models.decoder import Params
from consistency_jax.models.flops import mask_cost
from consistency_jax.models.huggingface import Model
from consistency_jax.objectives import options_of
from consistency_jax.objectives.dco import steering, target_table
from consistency_jax.runtime.mesh import mesh_of, on_mesh, put, row_groups
from consistency_jax.scoring.logps import batch_shardings
from consistency_jax.scoring.scorer import Scorer

PLANNED_STEPS = 32  # steps whose prompts are looked at, spread over the run, to plan shapes
BUCKETS = (1.0, 0.5, 0.25)  # shares of `max_tokens` that a shape may be planned for
Place = tuple[int, int]  # (item b of the step, language i)
Ended = tuple[str, int | None]  # (text of an answer, the end token behind it)


def check_translators(config: ConfigDict) -> None:
    """Imports the functions that a stage's `rollout.translator` and `selection.translator` name, where it uses them.

    Raises:
      ConfigError: naming the key.
    """
    for room, used in (("rollout", generates(config)), ("selection", selects(config))):
        if used and ":" in config[room].translator:
            named_function(f"{room}.translator", config[room].translator)


def _is_readable(sampler: Sampler, text: str) -> bool:
    """Whether it spells no special token."""
    try:
        sampler.encode([text])
    except BadCells:
        return False
    return True


class Rollouts:
    """batch(step, params), on policy; the items of a step, their languages and partners are the pipeline's.

    Every array depends on (seed, step, params) alone. All that is scored is packed in the shapes planned for a step's
    prompts with `samples` answers each, of `max_tokens` or a bucket below, so that there are few compilations.

    Args:
      config: of the stage.
      pipeline: draws items; an example must be an item with its languages.
      split: the items, with their trees.
      policy: the model that is trained; its parameters are given anew at each step.
      scorer, reference: the fixed reference, which scores and, for translator "model", translates.

    Raises:
      ConfigError: where the rows asked for are too short, or a translator cannot be imported.
    """

    on_policy = True

    def __init__(
        self,
        config: ConfigDict,
        pipeline: Pipeline,
        split: Split,
        policy: Model,
        scorer: Scorer,
        reference: Model,
    ):
        self.items = pipeline.items
        self._options, self._objective, self._seed = config.rollout, options_of(config.objective), config.seed
        self._pipeline, self._split = pipeline, split
        self._scorer, self._reference = scorer, reference
        self._mesh = mesh_of(reference.params)
        self._groups, self._accumulate = row_groups(self._mesh), config.batching.accumulate
        self._mask_cost = mask_cost(policy.config)
        chat, longest = chat_of(config, policy), config.data.max_length
        self._sampler = Sampler(policy, chat=chat)
        self._sampling = Sampling.of(self._options)
        # A prompt leaves room for the longest answer, beside the one token of the tree that it is taken from here; a
        # translation leaves room for an end token.
        self._prompts = TreeBuilder(
            policy.tokenizer, max_length=longest - self._options.max_tokens + 1, chat=chat
        )
        self._translations = TreeBuilder(policy.tokenizer, max_length=longest - 1, chat=chat)
        self._translate = self._translator(Sampler(reference, chat=chat, max_length=longest))
        self._steer = steering(self._objective["steer"], split.languages)
        self.shapes = self._planned(config)

    def _translator(self, reference: Sampler) -> Callable[..., list[Translations]]:
        """What `config.rollout.translator` names: (items of the texts, texts, source, target, seed) -> translations."""
        name, n = self._options.translator, self._options.translations
        if name == "table":
            return lambda items, texts, source, target, seed: by_table(items, texts, source, target)
        if name == "model":
            temperature = 0.0 if n == 1 else 1.0
            sampling = Sampling(max_tokens=self._options.max_tokens, temperature=temperature, stop=("\n",))

            def written(
                items: Sequence[ParallelItem], texts: Sequence[str], source: str, target: str, seed: int
            ) -> list[Translations]:
                try:
                    return by_model(reference, texts, source, target, n=n, sampling=sampling, seed=seed)
                except BadCells:  # an answer spells a special token, and has no translation
                    kept = [text if _is_readable(reference, text) else "" for text in texts]
                return by_model(reference, kept, source, target, n=n, sampling=sampling, seed=seed)

            return written
        function = named_function("rollout.translator", name)
        return lambda items, texts, source, target, seed: by_function(function, texts, source, target)

    def _planned(self, config: ConfigDict) -> tuple[Shape, ...]:
        """Shapes for prompts of this data, with answers of each bucket's length."""
        wide, n = len(self._split.languages), self._objective["samples"]
        trees = self._split.trees
        trunks = trees.per_tree(np.where(trees.branch == 0, trees.length, 0)).reshape(-1, wide)
        lengths = sorted({math.ceil(self._options.max_tokens * share) for share in BUCKETS})
        total = config.total_steps
        sizes = []
        for step in np.unique(np.linspace(0, total - 1, min(total, PLANNED_STEPS)).astype(int)).tolist():
            draw = self._pipeline.draw(step)
            own = np.where(draw.languages, trunks[draw.items[:, None], draw.columns], 0)
            for part in np.split(own.reshape(-1), self._accumulate):
                for length in lengths:
                    # Fed and predicting; the trunk's last state predicts all first tokens.
                    states = n * (length - 1)
                    size = np.stack([part + states, 0 * part + states + 1, 0 * part + n * length], axis=1)
                    sizes.append(np.where(part[:, None] > 0, size, 0))
        batching = config.batching
        try:
            return plan(
                sizes,
                mask_cost=self._mask_cost,
                limit=batching.shapes,
                groups=self._groups,
                row_length=batching.row_length,
            )
        except ValueError as error:
            raise ConfigError(
                f"batching.row_length={batching.row_length} is too short for {n} answers of rollout.max_tokens="
                f"{self._options.max_tokens} behind one prompt: {error}; set it to 0"
            ) from error

    # ------------------------------------------------------------------------------------------------- a step's batch
    def __call__(self, step: int, params: Params) -> StepInput:
        """The packed batch of step number `step` for these parameters of the policy, as numpy arrays: B items of L
        languages with n answers each, and their rewards."""
        draw = self._pipeline.draw(step)
        n, (count, wide) = self._objective["samples"], draw.languages.shape
        items = [self._split.items[i] for i in draw.items]
        there = draw.languages & (draw.languages.sum(1, keepdims=True) >= 2)
        seed, translation_seed = np.random.default_rng((self._seed, 5, step)).integers(0, 2**32, 2).tolist()
        drawn, trees = self._drawn(items, there, params, seed)

        own = self._scored(trees, n).reshape(count, wide, n)
        said = np.zeros((wide, count, wide, n), np.float32)  # log q_j of what i has drawn, [i, B, j, n]
        said[np.arange(wide), :, np.arange(wide)] = own.swapaxes(0, 1)
        known = np.repeat(there[:, :, None], n, axis=2)
        for others in self._rounds(draw, there):
            logp = self._translated(items, drawn, others, translation_seed)
            b, i = np.nonzero(others >= 0)
            said[i, b, others[b, i]] = np.where(np.isfinite(logp[b, i]), logp[b, i], 0.0)
            known[b, i] &= np.isfinite(logp[b, i])

        length = np.zeros((count, wide, n), np.int32)
        for (b, i), answers in drawn.items():
            length[b, i] = [len(answer.tokens) for answer in answers]
        nothing = np.full((count, wide), -1, np.int32)
        examples = Examples(
            mask=known,
            length=length,
            gold=nothing[:, 0],
            partners=draw.partners,
            rejected=nothing,
            reference=own,
            state=np.zeros((count, 0), np.float32),
            prompts=np.zeros((0, 0), bool),
            seed=draw.seed,
            rewards=np.where(known, self._rewards(said, there, draw.partners), np.float32(0)),
        )
        parts = split_trees(trees, self._accumulate)
        return step_input(parts, examples, self._shape_of(parts), n)

    def _drawn(
        self, items: Sequence[ParallelItem], there: np.ndarray, params: Params, seed: int
    ) -> tuple[dict[Place, list[Answer]], Forest]:
        """The policy's answers at each place (b, i) that is there, and trees of them, n = b * L + i."""
        wide, languages = there.shape[1], self._split.languages
        places = [(int(b), int(i)) for b, i in np.argwhere(there)]
        bare = [replace(items[b], candidates=dict.fromkeys(items[b].prompts, ("a",))) for b, _ in places]
        cells = [(item, languages[i]) for item, (_, i) in zip(bare, places, strict=True)]
        prompts = self._prompts.of_cells(cells)
        self._sampler.params = params
        answers = self._sampler.sample(
            [prompt.trunk for prompt in prompts],
            n=self._objective["samples"],
            sampling=self._sampling,
            seed=seed,
        )
        trees: list[Tree | None] = [None] * there.size
        for (b, i), prompt, own in zip(places, prompts, answers, strict=True):
            trees[b * wide + i] = Tree.of_tokens(prompt.trunk, [answer.tokens for answer in own])
        return dict(zip(places, answers, strict=True)), Forest.of(trees)

    def _rounds(self, draw: Draw, there: np.ndarray) -> Iterator[np.ndarray]:
        """i[B, L]s: to which language each one's answers go, -1 where to none. One for partners, else all L - 1."""
        if self._objective["partners"] == "random":
            yield np.where(there, draw.partners, -1)
            return
        wide = there.shape[1]
        for away in range(1, wide):
            others = (np.arange(wide) + away) % wide
            yield np.where(there & there[:, others], others, -1)

    def _translated(
        self,
        items: Sequence[ParallelItem],
        drawn: dict[Place, list[Answer]],
        others: np.ndarray,
        seed: int,
    ) -> np.ndarray:
        """f64[B, L, n]: what the reference says of the answers' translations into `others`, averaged over them inside
        the log; -inf where there is none."""
        (count, wide), n = others.shape, self._objective["samples"]
        languages = self._split.languages
        found: dict[Place, list[Translations]] = {}
        for i, j in sorted({(i, int(others[b, i])) for b, i in drawn if others[b, i] >= 0}):
            rows = np.flatnonzero(others[:, i] == j).tolist()
            cells = [(items[b], answer.text) for b in rows for answer in drawn[b, i]]
            texts = [answer_in_gap(item, languages[i], text) for item, text in cells]
            own = self._translate([item for item, _ in cells], texts, languages[i], languages[j], seed)
            found |= {(b, i): own[k * n : (k + 1) * n] for k, b in enumerate(rows)}

        most = max((len(ways) for own in found.values() for ways in own), default=1)
        # As many as a model draws; beyond it, of a function, a power of 2, so that few programs are compiled.
        few = self._options.translations
        most = few if most <= few else 1 << (most - 1).bit_length()
        trees: list[Tree | None] = [None] * (count * wide)
        column: dict[Place, dict[Ended, int]] = {}
        for (b, i), own in found.items():
            ends = [answer.end for answer in drawn[b, i]]
            asked = dict.fromkeys((text, end) for ways, end in zip(own, ends, strict=True) for text in ways)
            trees[b * wide + i], column[b, i] = self._tree(items[b], languages[others[b, i]], asked)
        logp = self._scored(Forest.of(trees), n * most).reshape(count, wide, -1)

        result = np.full((count, wide, n), -np.inf)
        for (b, i), own in found.items():
            for s, (ways, answer) in enumerate(zip(own, drawn[b, i], strict=True)):
                places = [(column[b, i].get((text, answer.end)), weight) for text, weight in ways.items()]
                known = [logp[b, i, k] + weight for k, weight in places if k is not None]
                if known:
                    result[b, i, s] = np.logaddexp.reduce(known)
        return result

    def _tree(
        self, item: ParallelItem, language: str, answers: Iterable[Ended]
    ) -> tuple[Tree | None, dict[Ended, int]]:
        """The tree of distinct answers in a language, and the branch of each that it holds: what the tokenizer cannot
        say, or what does not fit, has no translation."""
        like = item.candidates[language][0]
        space = like[: len(like) - len(like.lstrip())]  # that a translator without the table cannot know of

        def build(texts: Sequence[str]) -> Tree | None:
            said = tuple(
                text if text in item.candidates[language] else space + text.strip() for text in texts
            )
            try:
                return self._translations.build([replace(item, candidates={language: said})], [language])[0]
            except DataError:
                return None

        kept = [answer for answer in answers if answer[0].strip()]
        tree = build([text for text, _ in kept]) if kept else None
        if kept and tree is None:
            kept = [answer for answer in kept if build([answer[0]])]
            tree = build([text for text, _ in kept]) if kept else None
        if tree is None:
            return None, {}
        ends = [[] if end is None else [end] for _, end in kept]
        branches = [[*own, *end] for own, end in zip(tree.branches, ends, strict=True)]
        return Tree.of_tokens(tree.trunk, branches), {answer: k for k, answer in enumerate(kept)}

    def _rewards(self, said: np.ndarray, there: np.ndarray, partners: np.ndarray) -> np.ndarray:
        """f32[B, L, n]: target_i - log q_i, where `said` [i, B, j, n] takes the place of the reference's table."""
        mask = np.repeat(there[:, :, None], said.shape[3], axis=2)
        drawn_to = partners if self._objective["partners"] == "random" else "all"
        rewards = [
            np.asarray(target_table(own, mask, self._steer, drawn_to, self._objective["scale"]))[:, i]
            - own[:, i]
            for i, own in enumerate(said)
        ]
        return np.stack(rewards, axis=1)

    # -------------------------------------------------------------------------------------------------------- scoring
    def _shape_of(self, parts: Sequence[Forest]) -> Shape:
        sizes = [tree_sizes(part) for part in parts]
        return choose_shape(self.shapes, sizes, mask_cost=self._mask_cost, groups=self._groups)

    def _scored(self, trees: Forest, candidates: int) -> np.ndarray:
        """f32[B * L, candidates]: the reference's log-probabilities, a micro-batch at a time."""
        found = []
        for part in split_trees(trees, self._accumulate):
            packed = pack(part, self._shape_of([part]), candidates=candidates)
            batch = put(packed, batch_shardings(self._mesh))
            with on_mesh(self._mesh):
                out = self._scorer.run(self._reference.params, batch, candidates=candidates)
            found.append(out["logp"])
        return np.concatenate(jax.device_get(found))
