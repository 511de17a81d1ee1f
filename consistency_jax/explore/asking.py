"""One question, put to models: its table, and what each of them writes by itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.stages import stages_of
from consistency_jax.data.facts import require_answers
from consistency_jax.data.items import MASK, DataError, ParallelItem, open_prompt, validate
from consistency_jax.data.sources.choices import parted
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.errors import CheckpointError, ConfigError, UserError
from consistency_jax.evaluation.splits import chat_of, needs, odd_trees
from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.mesh import make_mesh, mesh_of, mesh_shape
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.tables import neutral_answers, score_trees
from consistency_jax.table import NORMALIZATIONS, Table
from consistency_jax.training.run_models import base_model, checkpoint_model, latest_stage, latest_step

WHERE = "the question"
MOST = 50  # languages of a question that someone writes, and answers of each: a page may be public


class Answered(NamedTuple):
    """What one model says to a question.

    table: of one item, in the languages of the question.
    notes: what is odd about how the model reads it.
    texts: language -> what the model writes; empty where it was not asked to.
    """

    name: str
    table: Table
    notes: tuple[str, ...]
    texts: Mapping[str, str] = MappingProxyType({})


class Asked:
    """A model that is asked one question after another, as `config.data` and `config.evaluation` say.

    Attributes:
      name: what it is called.
      rankings: what its candidates can be ranked by.

    Raises:
      ConfigError: a model without a tokenizer.
    """

    def __init__(self, name: str, config: ConfigDict, model: Model):
        if model.tokenizer is None:
            raise ConfigError(f"the model {model.folder} has no tokenizer; put its files beside config.json")
        self.name, self._config, self._model = name, config, model
        self._pmi = needs(config, "pmi")
        self.rankings = tuple(way for way in NORMALIZATIONS if way != "pmi" or self._pmi)
        chat, longest = chat_of(config, model), config.data.max_length
        self._builder = TreeBuilder(
            model.tokenizer, boundary=config.evaluation.boundary, max_length=longest, chat=chat
        )
        self._scorer = Scorer(model.config, mesh_of(model.params))
        self._sampler = Sampler(model, chat=chat, max_length=longest)

    def rank(self, item: ParallelItem) -> Answered:
        """How it ranks the answers in every language of the item.

        Raises:
          DataError: a question that no tree can be made of.
          UserError: a model that gives no finite number.
        """
        trees = self._builder.build([item], item.languages)
        trees.check_rows(self._model.config.vocab_size, WHERE)
        neutral = neutral_answers(self._builder, [item], item.languages) if self._pmi else None
        table = score_trees(
            self._scorer,
            self._model.params,
            [item],
            item.languages,
            trees,
            neutral=neutral,
            tokens=self._config.evaluation.tokens,
        )
        if not np.isfinite(table.logp).all():
            raise UserError(f"{self.name} gives a log-probability that is no finite number")
        return Answered(self.name, table, tuple(odd_trees(trees, self._config, self._model)))

    def write(self, item: ParallelItem) -> dict[str, str]:
        """What it writes behind the question, the likeliest token each time, by language.

        Raises:
          DataError: a prompt that cannot be read as text.
        """
        sampling = dataclasses.replace(Sampling.of(self._config.evaluation.generation), temperature=0.0)
        prompts = [open_prompt(item, language) for language in item.languages]
        texts = self._sampler.generate(prompts, n=1, sampling=sampling, seed=self._config.seed)
        return {language: text for language, (text,) in zip(item.languages, texts, strict=True)}


def of_run(config: ConfigDict, workdir: Path, checkpoint: str = "latest") -> list[Asked]:
    """A run's base model and its checkpoint (a step, or the latest), which share what was not trained.

    Raises:
      CheckpointError: a step that is not there.
    """
    newest = latest_step(workdir)
    if newest is None and checkpoint != "latest":
        raise CheckpointError(f"{workdir} has no checkpoint, and none of step {checkpoint}")
    base = base_model(config, make_mesh(mesh_shape(config, jax.device_count())), workdir)
    if newest is None:
        return [Asked("the model", config, base)]
    step = newest if checkpoint == "latest" else int(checkpoint)
    stage = f" of {latest_stage(config, workdir).name}" if len(stages_of(config)) > 1 else ""
    after = f"after {step:,} step{'s' * (step != 1)}{stage}"
    trained = checkpoint_model(config, workdir, step, base)
    return [Asked("before", config, base), Asked(after, config, trained)]


def of_models(config: ConfigDict, paths: Sequence[str]) -> list[Asked]:
    """Models by their folders, GGUF files or hub ids, each named by as much of the end of its path as tells it from the
    others."""
    mesh = make_mesh(mesh_shape(config, jax.device_count()))
    asked = []
    for path, name in zip(paths, _names(paths), strict=True):
        own = config.copy_and_resolve_references()
        own.model.path = path
        asked.append(Asked(name, own, base_model(own, mesh)))
    return asked


def _names(paths: Sequence[str]) -> list[str]:
    parts = [Path(path).parts for path in paths]
    for count in range(1, max(map(len, parts))):
        names = ["/".join(own[-count:]) for own in parts]
        if len({*names}) == len(names):
            return names
    return [*paths]


# -------------------------------------------------------------------------------------------------- questions by hand
def as_rows(item: ParallelItem) -> list[list[str]]:
    """A question as a table of texts, [language, question, answer, answer, ...], a row a language."""
    return [[code, item.prompts[code], *item.candidates[code]] for code in item.languages]


def from_rows(rows: Sequence[Sequence[str | None]], picked: ParallelItem) -> ParallelItem:
    """The question that such a table holds, which was `picked`'s before someone edited it.

    A text that nobody changed is as it was. An answer that someone wrote is parted from its question by one space, but
    for languages that write none, the gap of a `<mask>`, a question that ends with a space, and answers that had none.
    Rows that say nothing are left out, as are empty answers at the end of a row. A right answer is known to be right
    while it and its question are unchanged in some language.

    Raises:
      DataError: what is no question, or a very large one.
    """
    known = {row[0]: row for row in as_rows(picked)}
    prompts, candidates = {}, {}
    for language, prompt, *answers in [[str(cell or "") for cell in row] for row in rows]:
        while answers and not answers[-1].strip():
            answers.pop()
        if not (language.strip() or prompt.strip() or answers):
            continue
        if not (language := language.strip()) or language in prompts:
            wrong = f"{language!r} stands twice" if language else "a row has no language"
            raise DataError.at(WHERE, wrong, "Name each language once: en, sw")
        # A question of the data may be as large as it is.
        languages_left = len(prompts) < max(MOST, len(picked.prompts))
        if not languages_left or len(answers) > max(MOST, picked.num_candidates):
            raise DataError.at(WHERE, f"more than {MOST} languages or answers", "Ask for fewer")
        before = known.get(language, ())[2:]
        joined = before and not any(text[:1].isspace() for text in before)
        apart = not (joined or MASK in prompt or prompt[-1:].isspace()) and parted(language)
        prompts[language] = prompt
        candidates[language] = tuple(
            text if (text,) == (*before[k : k + 1],) else " " * apart + text.strip()
            for k, text in enumerate(answers)
        )
    same = [code for code in prompts if code in known and prompts[code] == picked.prompts[code]]
    right = [
        k
        for k in picked.right
        if any(candidates[code][k : k + 1] == picked.candidates[code][k : k + 1] for code in same)
    ]
    context = {code: text for code, text in (picked.context or {}).items() if code in prompts}
    item = ParallelItem(
        picked.id,
        picked.group,
        prompts,
        candidates,
        gold=right[0] if right else None,
        context=context or None,
        also=tuple(right[1:]),
    )
    validate(item, WHERE)
    require_answers([item], WHERE)
    return item
