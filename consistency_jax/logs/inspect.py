"""Logs of Inspect (inspect_ai), DATE_TASK_ID.eval or .json: the answer that was given to each sample of a task.

Inspect asks for an answer and has no log-probability of the others. Its own reader is used, which `pip install
inspect_ai` has. Of several epochs the first one counts.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, Items
from consistency_jax.logs.answers import Given, Logged, joined, scored
from consistency_jax.logs.families import Run, newest, read_families
from consistency_jax.table import Table

NAME = re.compile(r"\d{4}-\d\d-\d\dT[\d-]+(?:[+-][\d-]+|Z)_.+\.(?:eval|json)")
MEND = "Name the field of a sample's metadata that tells which belong together: --join=FIELD"


def read(path: Path, files: Sequence[Path], tasks: str = "", join: str = "") -> Logged:
    """What the logs of one model say; the newest one of each task. As `lm_eval.read`.

    Raises:
      DataError: inspect_ai is not installed, a log that it cannot read, or as `lm_eval.read`.
    """
    runs = {}
    for file in files:
        about = _log(file, header_only=True).eval
        runs[file] = about.task.rpartition("/")[2], Run(about.model, about.created, file)
    logged = read_families(path, newest(path, runs), tasks, lambda name, own: _joined(name, own, join))
    # each task is a run of its own, always
    return logged._replace(notes=[note for note in logged.notes if "runs of the harness" not in note])


def _joined(name: str, files: Mapping[str, Path], join: str) -> tuple[Items, Table, list[str]]:
    answers = {language: _answers(file, join) for language, file in files.items()}
    return joined(name, scored(answers), MEND, ranked=False)


def _log(file: Path, header_only: bool = False) -> Any:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise DataError.at(
            str(file), "reading it needs inspect_ai", "pip install inspect_ai (the extra [inspect])"
        ) from None
    try:
        return read_eval_log(str(file), header_only=header_only)
    except Exception as error:  # whatever a damaged file makes of it
        raise DataError.at(
            str(file), f"no log of Inspect ({error!r:.100})", "Have it written again"
        ) from error


def _answers(file: Path, join: str) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for sample in _log(file).samples or ():
        where = f"{file}, sample {sample.id}"
        if sample.epoch != 1:
            continue
        if join and join not in sample.metadata:
            raise DataError.at(
                where, f"no {join}; its metadata has {', '.join(sample.metadata) or 'nothing'}", MEND
            )
        key = str(sample.metadata[join] if join else sample.id)
        if key in found:
            raise DataError.at(where, f"{join or 'id'} {key!r} stands twice", MEND)
        found[key] = _given(sample, where)
    if not found:
        raise DataError.at(str(file), "a log without samples", "Log them: inspect eval ... --log-samples")
    return found


def _given(sample: Any, where: str) -> Given:
    score = next(iter((sample.scores or {}).values()), None)
    if score is None:
        raise DataError.at(
            where, f"no score ({sample.error and sample.error.message})", "Score it: inspect score"
        )
    targets = sample.target if isinstance(sample.target, list) else [sample.target]
    answer = (score.answer or "").strip() or None
    names = [f"{chr(65 + n)}) {text}" for n, text in enumerate(sample.choices or ())]
    if names:  # letters
        places = {name[0]: name for name in names}
        right = [places.get(target.strip(), target) for target in targets]
        answer = None if answer is None else places.get(answer)
    else:
        right = [target.strip() for target in targets]
        if score.value == "C":  # in other words than the target, perhaps
            answer = right[0]
    prompt = sample.input if isinstance(sample.input, str) else sample.input[-1].text
    return Given(answer, tuple(dict.fromkeys(right)), tuple(names), prompt, "", where)
