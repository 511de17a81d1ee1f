"""From items to the table of log-probabilities."""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consistency_jax.data.facts import fact, require_answers
from consistency_jax.data.items import Items, ParallelItem, check_languages, right_answers, validate
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import ANSWER, PROMPT, Forest
from consistency_jax.models.decoder import Params
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.mesh import mesh_of
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.table import Table


def score(
    model: Model,
    items: Sequence[ParallelItem],
    boundary: str = "joint",
    tokenizer: Any = None,
    *,
    languages: Sequence[str] | None = None,
    prompt: bool = True,
    neutral: bool = False,
    state: bool = False,
    max_length: int = 1024,
    tokens: int = 8192,
    progress: str = "",
) -> Table:
    """The table of a model on parallel items.

    In front of a text stands the token that the tokenizer itself puts there, its BOS (`bos_of`; `put_bos` has it put
    one that it only names). Where it puts none the text's first token is not counted, for nothing predicts it; where
    an answer would open the text, EOS stands in front. Nothing is put behind an answer.

    Args:
      model: from `load_pretrained`.
      items: B items.
      boundary: "joint" tokenizes each full string, "separate" prompt and answer apart (data/trees/builder.py).
      tokenizer: instead of the model's own.
      languages: the order of axis L; all that the items have, by default. Items may lack some of them.
      prompt: also the prompt's log-probabilities, which `scores("mean_full")` needs.
      neutral: also the answers' without their prompts, which `scores("pmi")` needs.
      state: also the last hidden state of each trunk.
      max_length: longest prompt + answer in tokens; longer ones lose tokens at the left.
      tokens: row tokens of one batch.
      progress: what a progress bar is called; empty for none.

    Raises:
      ValueError: where neither the model nor the call has a tokenizer, or there are no items.
      DataError: for a language that no item has, an item that has no answers or cannot be made into trees, or tokens
        that have no row in the model's embedding.
    """
    tokenizer = model.tokenizer if tokenizer is None else tokenizer
    if tokenizer is None:
        raise ValueError(f"the model of {model.folder} has no tokenizer: give one, score(..., tokenizer=...)")
    if not items:
        raise ValueError("there are no items to score")
    for item in items:
        validate(item, item.where or "score")
    require_answers(items, "score")
    known = Items(items).languages
    languages = known if languages is None else check_languages(languages, known, "score")
    builder = TreeBuilder(tokenizer, boundary=boundary, max_length=max_length)
    trees = builder.build(items, languages)
    trees.check_rows(model.config.vocab_size, "score")
    if beyond := trees.beyond(model.config.max_length):
        warnings.warn(f"score: {beyond}", stacklevel=2)
    return score_trees(
        Scorer(model.config, mesh_of(model.params)),
        model.params,
        items,
        languages,
        trees,
        prompt=prompt,
        neutral=neutral_answers(builder, items, languages) if neutral else None,
        state=state,
        tokens=tokens,
        progress=progress,
    )


@dataclasses.dataclass(frozen=True)
class NeutralAnswers:
    """The answers of a table without their prompts.

    trees: one for each distinct answer, with one branch.
    place: i64[B, L, K], the tree of each cell; cells that are not there point anywhere.
    """

    trees: Forest
    place: np.ndarray


def neutral_answers(
    builder: TreeBuilder, items: Sequence[ParallelItem], languages: Sequence[str]
) -> NeutralAnswers:
    """Every answer behind an empty prompt, each distinct one once.

    Raises:
      DataError: where the tokenizer has neither BOS nor EOS that could predict the first token.
    """
    numbers: dict[str, int] = {}
    cells = []
    counts = np.array([item.num_candidates for item in items])
    place = np.zeros((len(items), len(languages), counts.max()), np.int64)
    for b, item in enumerate(items):
        for l, language in enumerate(languages):
            for k, answer in enumerate(item.candidates.get(language, ())):
                if answer not in numbers:
                    numbers[answer] = len(numbers)
                    text = answer.removeprefix(" ") if builder.puts_space else answer
                    alone = ParallelItem(item.id, item.group, {language: ""}, {language: (text,)})
                    cells.append((alone, language))
                place[b, l, k] = numbers[answer]
    return NeutralAnswers(builder.of_cells(cells), place)


def score_trees(
    scorer: Scorer,
    params: Params,
    items: Sequence[ParallelItem],
    languages: Sequence[str],
    trees: Forest,
    *,
    prompt: bool = True,
    neutral: NeutralAnswers | None = None,
    state: bool = False,
    tokens: int = 8192,
    progress: str = "",
    resume: Path | None = None,
) -> Table:
    """The table of items whose trees are built already, tree n = item * L + language. Without items their ids and what
    is right are not known.

    `neutral`: the answers alone, which `scores("pmi")` needs; `resume`: as for a `Scorer`, the folder that `stored`
    gives, beside which the table will be; the others as for `score`.
    """
    shape = (len(items) or len(trees) // len(languages), len(languages))
    frame = table_frame(items, languages, trees)
    arrays = scorer(
        params,
        trees,
        candidates=frame.mask.shape[2],
        prompt=prompt,
        state=state,
        tokens=tokens,
        progress=progress,
        resume=resume and resume / "answers",
        finished=resume and resume.with_suffix(".npz"),
    )
    arrays = {name: values.reshape(*shape, -1).astype(np.float32) for name, values in arrays.items()}
    for name in arrays.keys() & {"logp", "prompt_logp"}:
        # what a trunk shares is summed for candidates that are not there too
        arrays[name] = np.where(frame.mask, arrays[name], np.float32(0))
    if neutral is not None:
        alone = scorer(
            params,
            neutral.trees,
            candidates=1,
            tokens=tokens,
            progress=f"{progress} answers alone" if progress else "",
            resume=resume and resume / "alone",
            finished=resume and resume.with_suffix(".npz"),
        )["logp"][:, 0]
        arrays["neutral_logp"] = np.where(frame.mask, alone[neutral.place], np.float32(0)).astype(np.float32)
    if not prompt:
        frame = dataclasses.replace(frame, prompt_length=None)
    return dataclasses.replace(frame, **arrays)


def table_frame(items: Sequence[ParallelItem], languages: Sequence[str], trees: Forest) -> Table:
    """A table of these items with everything but log-probabilities: lengths, bytes, mask and gold."""
    mask = trees.there
    if len(items):  # one with more candidates may be asked in none of these languages
        mask = np.pad(mask, ((0, 0), (0, fact(items, "candidates").max() - mask.shape[1])))
    cells = np.zeros((3, *mask.shape), np.int32)  # answer tokens, prompt tokens, bytes
    for values, kind in ((cells[0], ANSWER), (cells[1], PROMPT)):
        values[mask] = trees.per_branch(trees.kind == kind)
    cells[2][mask] = trees.bytes[trees.branch > 0]
    shape = (len(items) or len(trees) // len(languages), len(languages), -1)
    length, prompt_length, size = (values.reshape(shape) for values in cells)
    mask = mask.reshape(shape)
    return Table(
        ids=tuple(item.id for item in items),
        languages=tuple(languages),
        logp=np.zeros(length.shape, np.float32),
        length=length,
        bytes=size,
        mask=mask,
        gold=right_answers(items, mask.shape[2]),
        prompt_length=prompt_length,
    )
