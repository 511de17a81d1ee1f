"""Details that lighteval writes with --save-details: details_TASK|SHOTS_DATE.parquet in details/MODEL/DATE.

A row is a document; of a task of multiple choice it holds the choices and the log-probability of each.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from consistency_jax.data.items import DataError, Items
from consistency_jax.data.sources.language_files import lines_of
from consistency_jax.data.sources.parallel import counted
from consistency_jax.logs.answers import joined
from consistency_jax.logs.families import Run, newest, read_families
from consistency_jax.logs.matching import Match
from consistency_jax.logs.told import Logged, Scored
from consistency_jax.table import Table

NAME = re.compile(r"details_(?:.+\|)?([^|]+)\|\d+_(\d{4}-\d\d-\d\dT[\d.:-]+)\.parquet")
MEND = "Name the field of `specific` that tells which docs belong together: --join=FIELD"


def read(
    path: Path, files: Sequence[Path], tasks: str = "", join: str = "", match: Match | None = None
) -> Logged:
    """What the details of one model say; the newest ones of each task. As `lm_eval.read`; needs pyarrow."""
    runs = {}
    for file in files:
        task, date = NAME.fullmatch(file.name).groups()
        model = "/".join(file.parent.parts[-3:-1]) if file.parent.name == date else file.parent.name
        runs[file] = task, Run(model, date, file)
    return read_families(path, newest(path, runs), tasks, lambda name, own: _joined(name, own, join))


def _joined(name: str, files: Mapping[str, Path], join: str) -> tuple[Items, Table, list[str]]:
    return joined(name, {language: _answers(file, join) for language, file in files.items()}, MEND)


def _answers(file: Path, join: str) -> dict[str, Scored]:
    found: dict[str, Scored] = {}
    for line in lines_of([file], ("doc", "model_response")):
        record = line.get()
        try:
            doc, scores = record["doc"], record["model_response"]["logprobs"]
            key = str((doc["specific"] or {})[join] if join else doc["id"])
            choices, gold = tuple(doc["choices"]), doc["gold_index"]
            if len(choices) < 2 or len(scores) != len(choices):
                raise ValueError(f"{len(scores)} log-probabilities of {len(choices)} choices")
            right = tuple(dict.fromkeys(gold)) if isinstance(gold, list) else (gold,)
            right = tuple(number for number in right if number >= 0)
            if any(number >= len(choices) for number in right):
                raise ValueError(f"gold_index {gold} of {len(choices)} choices")
            told = Scored(str(doc["query"]), choices, tuple(map(float, scores)), right, "", line.where)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            mend = MEND if join else "Log a task of multiple choice with lighteval 0.13 or later"
            raise DataError.at(
                line.where, f"no choices with their log-probabilities ({error!r})", mend
            ) from error
        if key in found:
            raise DataError.at(line.where, f"{join or 'id'} {key!r} stands twice", MEND)
        found[key] = told
    return {key: found[key] for key in counted(found)}
