"""Crosslingual consistency (CLC = 100 x RankC, arXiv 2310.10378) as a metric of lm-evaluation-harness.

A task of multiple choice that the harness has in several languages becomes one task, whose documents are those of all
languages; requests are those of the tasks themselves. Beside accuracy it prints how alike two languages rank the
candidates of a question, over all pairs of languages and over those with one of them. This file needs numpy and the
harness alone.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def in_languages(
    tasks: Mapping[str, str], key: str | Sequence[str], include_path: str | None = None, **_: Any
) -> dict[str, Any]:
    """The documents of several tasks as those of one.

    Args:
      tasks: language -> the harness's task, each of multiple choice, without few-shot examples.
      key: field, or fields, of a document that tell which belong together.
      include_path: a folder with more tasks.

    Raises:
      ValueError: a task of another kind.
    """
    from datasets import Dataset
    from lm_eval.tasks import TaskManager, get_task_dict

    manager, documents = TaskManager(include_path=include_path), []
    keys = [key] if isinstance(key, str) else key
    for language, name in tasks.items():
        task = get_task_dict([name], manager)[name]
        if task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input:
            raise ValueError(f"{name} is no task of multiple choice with one context")
        for document in task.eval_docs:
            choices = task.doc_to_choice(document)
            gold = task.doc_to_target(document)
            documents.append(
                {
                    "id": "/".join(str(document[part]) for part in keys),
                    "language": language,
                    "text": task.doc_to_text(document),
                    "choices": [task.config.target_delimiter + choice for choice in choices],
                    "gold": gold if isinstance(gold, int) else choices.index(gold),
                }
            )
    return {"test": Dataset.from_list(documents)}


def process_results(document: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Accuracy of one document, and what CLC is made of."""
    scores = [score for score, _ in results]
    told = document["id"], document["language"], tuple(scores)
    return {"acc": float(np.argmax(scores) == document["gold"]), "clc": told, "clc_en": told}


def clc(told: Iterable[tuple[str, str, tuple[float, ...]]]) -> float:
    """CLC over all pairs of languages: the mean over questions, then over pairs; 0..100."""
    return _mean(_pairs(told).values())


def clc_en(told: Iterable[tuple[str, str, tuple[float, ...]]]) -> float:
    """The same over the pairs with English; NaN where it is not among the languages."""
    return _mean(values for pair, values in _pairs(told).items() if "en" in pair)


def _pairs(told: Iterable[tuple[str, str, tuple[float, ...]]]) -> dict[tuple[str, str], list[float]]:
    questions: dict[str, dict[str, tuple[float, ...]]] = defaultdict(dict)
    for key, language, scores in told:
        if language in questions[key]:
            raise ValueError(f"{key} stands twice in {language}: name other fields as key")
        questions[key][language] = scores
    found = defaultdict(list)
    for languages in questions.values():
        for one, other in itertools.combinations(sorted(languages), 2):
            if len(languages[one]) != len(languages[other]):
                raise ValueError(f"{one} and {other} have another number of candidates of one question")
            found[one, other].append(rankc(languages[one], languages[other]))
    return found


def rankc(one: Sequence[float], other: Sequence[float]) -> float:
    """sum_j w_j |top_j(one) & top_j(other)| / j, w_j ~ exp(K - j + 1); 1 for the same ranking. Ties: the first stands
    first."""
    orders = [np.argsort(-np.asarray(scores), kind="stable") for scores in (one, other)]
    depth = np.arange(1, len(one) + 1)
    weights = np.exp(-depth.astype(float))
    shared = [len({*orders[0][:j]} & {*orders[1][:j]}) / j for j in depth]
    return float(weights @ shared / weights.sum())


def _mean(pairs: Iterable[Sequence[float]]) -> float:
    means = [np.mean(values) for values in pairs]
    return 100 * float(np.mean(means)) if means else float("nan")
