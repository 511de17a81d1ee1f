"""One question, put to models: its table, and what each of them writes by itself."""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from consistency_jax.data.items import MASK, DataError, ParallelItem, open_prompt, require_answers, validate
from consistency_jax.data.sources.choices import parted
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.splits import chat_of
from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.mesh import make_mesh, mesh_of, mesh_shape
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.tables import neutral_answers, score_trees
from consistency_jax.table import Table
from consistency_jax.training.run_models import base_model, checkpoint_model, latest_step

WHERE = "the question"


class Answered(NamedTuple):
    """What one model says to a question: its table of one item, and by language what it writes (empty: not asked)."""

    name: str
    table: Table
    texts: dict[str, str]


class Asked:
    """A model that is asked one question after another, as `config.data` and `config.evaluation` say.

    Raises:
      ConfigError: a model without a tokenizer.
    """

    def __init__(self, name: str, config: ConfigDict, model: Model):
        if model.tokenizer is None:
            raise ConfigError(f"the model {model.folder} has no tokenizer; put its files beside config.json")
        self.name, self._config, self._params = name, config, model.params
        chat, longest = chat_of(config, model), config.data.max_length
        self._builder = TreeBuilder(
            model.tokenizer, boundary=config.evaluation.boundary, max_length=longest, chat=chat
        )
        self._rows = model.config.vocab_size
        self._scorer = Scorer(model.config, mesh_of(model.params))
        self._sampler = Sampler(model, chat=chat, max_length=longest)
        self._one = threading.Lock()  # a page has several visitors

    def rank(self, item: ParallelItem) -> Answered:
        """How it ranks the answers in every language of the item.

        Raises:
          DataError: a question that no tree can be made of.
        """
        evaluation = self._config.evaluation
        trees = self._builder.build([item], item.languages)
        trees.check_rows(self._rows, WHERE)
        neutral = None
        if evaluation.normalization == "pmi":
            neutral = neutral_answers(self._builder, [item], item.languages)
        with self._one:
            table = score_trees(
                self._scorer,
                self._params,
                [item],
                item.languages,
                trees,
                neutral=neutral,
                tokens=evaluation.tokens,
            )
        return Answered(self.name, table, {})

    def write(self, item: ParallelItem) -> dict[str, str]:
        """What it writes behind the question, the likeliest token each time, by language.

        Raises:
          DataError: a prompt that cannot be read as text.
        """
        sampling = dataclasses.replace(Sampling.of(self._config.evaluation.generation), temperature=0.0)
        prompts = [open_prompt(item, language) for language in item.languages]
        with self._one:
            texts = self._sampler.generate(prompts, n=1, sampling=sampling, seed=self._config.seed)
        return {language: text for language, (text,) in zip(item.languages, texts, strict=True)}


def of_run(config: ConfigDict, workdir: Path, checkpoint: str = "latest") -> list[Asked]:
    """A run's base model and its checkpoint (a step, or the latest), which share what was not trained.

    Raises:
      CheckpointError: a step that is not there.
    """
    base = base_model(config, make_mesh(mesh_shape(config, jax.device_count())), workdir)
    step = latest_step(workdir) if checkpoint == "latest" else int(checkpoint)
    asked = [Asked("before" if step is not None else "the model", config, base)]
    if step is not None:
        asked.append(Asked(f"after {step:,} steps", config, checkpoint_model(config, workdir, step, base)))
    return asked


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
    return [
        [language, open_prompt(item, language), *item.candidates[language]] for language in item.languages
    ]


def from_rows(rows: Sequence[Sequence[str | None]], picked: ParallelItem | None = None) -> ParallelItem:
    """The question that such a table holds, edited or written from nothing.

    A row is as it was in `picked` where nobody changed it; an answer that someone wrote is parted from its question by
    one space, but for languages that write none, the gap of a `<mask>`, and a question that ends with a space. Rows
    that say nothing are left out, as are answers that no row has, at the end. What is right is known while the answers
    are as many as in `picked`.

    Raises:
      DataError: a row without a language, a language twice, or answers that are not as many as in another.
    """
    told = [[str(cell or "") for cell in row] for row in rows]
    if picked is not None and told == as_rows(picked):
        return picked  # with its context apart
    known = {} if picked is None else dict(zip(picked.languages, as_rows(picked), strict=True))
    prompts, candidates = {}, {}
    for language, prompt, *answers in told:
        while answers and not answers[-1].strip():
            answers.pop()
        if not (language.strip() or prompt.strip() or answers):
            continue
        if not (language := language.strip()) or language in prompts:
            wrong = f"{language!r} stands twice" if language else "a row has no language"
            raise DataError.at(WHERE, wrong, "Name each language once: en, sw")
        before = known.get(language, [])
        apart = parted(language) and MASK not in prompt and not prompt[-1:].isspace()
        prompts[language] = prompt
        candidates[language] = tuple(
            answer if [answer] == before[k + 2 : k + 3] else " " * apart + answer.strip()
            for k, answer in enumerate(answers)
        )
    count = len(next(iter(candidates.values()), ()))
    right = picked.right if picked is not None and picked.num_candidates == count else ()
    item = ParallelItem("asked", "", prompts, candidates, gold=next(iter(right), None), also=right[1:])
    validate(item, WHERE)
    require_answers([item], WHERE)
    return item
