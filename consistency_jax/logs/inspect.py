"""Logs of Inspect (inspect_ai), DATE_TASK_ID.eval or .json: the answer that was given to each sample of a task.

Inspect asks for an answer and has no log-probability of the others. Epochs are so many answers. A log is read as it
lies on disk (version 2: JSON, or a zip of it), so that nothing but `zipfile-zstd` is needed, and that for .eval alone:
newer ones are packed with Zstandard.
"""

import importlib.util
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, Items
from consistency_jax.logs.answers import joined_answers
from consistency_jax.logs.families import Run, newest, patterns, read_families
from consistency_jax.logs.matching import Match
from consistency_jax.logs.told import Given, Logged
from consistency_jax.table import Table

NAME = re.compile(r"\d{4}-\d\d-\d\dT[\d-]+(?:[+-][\d-]+|Z)_.+\.(?:eval|json)")
MEND = "Name the field of a sample's metadata that tells which belong together: --join=FIELD"


def read(
    path: Path, files: Sequence[Path], tasks: str = "", join: str = "", match: Match | None = None
) -> Logged:
    """What the logs of one model say; the newest one of each task. As `lm_eval.read`.

    Raises:
      DataError: a log that cannot be read, or as `lm_eval.read`.
    """
    runs, ended, damaged = {}, {}, []
    for file in files:
        try:
            head = _header(file)
            about, ended[file] = head["eval"], head.get("status")
            task, language = about["task"].rpartition("/")[2], (about.get("task_args") or {}).get("language")
            run = Run(about["model"], about["created"], file, whole=ended[file] == "success")
            if language and not any(code == language for _, code in patterns(task)):
                task = f"{task}_{language}"  # its name alone does not tell
            runs[file] = task, run
        except DataError as error:
            damaged.append(error)
        except (KeyError, TypeError, AttributeError) as error:
            damaged.append(_damaged(file, error))
    if not runs:
        raise damaged[0]
    try:
        logged = read_families(
            path,
            newest(path, runs),
            tasks,
            lambda name, own: _joined(name, own, join, ended, match),
            one_run=False,
        )
    except DataError as error:
        if not damaged:
            raise
        raise DataError(f"{error} Besides, left out: {damaged[0]}") from error
    return logged._replace(notes=[*logged.notes, *(f"left out: {error}" for error in damaged)])


def _joined(
    name: str, files: Mapping[str, Path], join: str, ended: Mapping[Path, str | None], match: Match | None
) -> tuple[Items, Table, list[str]]:
    answers, failed = {}, {}
    for language, file in files.items():
        answers[language], failed[language] = _answers(file, join)
    items, table, odd = joined_answers(name, answers, MEND, match)
    for language, file in files.items():
        if failed[language]:
            odd.append(f"{name}: {failed[language]:,} samples in {language} ended with an error, left out")
        if ended[file] != "success":
            told = f"the log in {language} did not end well (status {ended[file]!r}): not all may be there"
            odd.append(f"{name}: {told}")
    return items, table, odd


# ------------------------------------------------------------------------------------------------------------ the files
def _header(file: Path) -> dict[str, Any]:
    if file.suffix == ".json":
        found = _json(file, file.read_bytes())
    else:
        with _opened(file) as archive:
            name = "header.json" if "header.json" in archive.namelist() else "_journal/start.json"
            found = _json(file, _member(file, archive, name))
    if not isinstance(found, dict) or found.get("version") != 2 or not isinstance(found.get("eval"), dict):
        raise _damaged(file, f"version {found.get('version') if isinstance(found, dict) else None}")
    return found


def _samples(file: Path) -> Iterator[tuple[str, Any]]:
    """(where, sample)."""
    if file.suffix == ".json":
        samples = _header(file).get("samples") or []
        if not isinstance(samples, list):
            raise _damaged(file, "samples are no list")
        every = ((f"{file}, sample {n}", sample) for n, sample in enumerate(samples, start=1))
    else:
        every = _packed(file)
    for where, sample in every:
        if not isinstance(sample, dict):
            raise DataError.at(where, "no sample of Inspect", MEND)
        yield where, sample


def _packed(file: Path) -> Iterator[tuple[str, Any]]:
    with _opened(file) as archive:
        for name in archive.namelist():
            if name.startswith("samples/"):
                yield f"{file}, {name}", _json(file, _member(file, archive, name))


def _opened(file: Path) -> zipfile.ZipFile:
    if importlib.util.find_spec("zipfile_zstd"):
        import zipfile_zstd  # noqa: F401  (teaches zipfile to read Zstandard)
    try:
        return zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise _damaged(file, error) from error


def _member(file: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except NotImplementedError as error:
        mend = "pip install zipfile-zstd, or: inspect log convert --to json"
        raise DataError.at(str(file), "the log is packed with Zstandard", mend) from error
    except Exception as error:  # whatever one of several packings makes of a damaged file
        raise _damaged(file, error) from error


def _json(file: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: object) -> DataError:
    return DataError.at(str(file), f"no log of Inspect ({error!s:.100})", "Have it written again")


# ---------------------------------------------------------------------------------------------------------- the answers
def _answers(file: Path, join: str) -> tuple[dict[str, Given], int]:
    """Key -> what was logged, and how many samples have no score because they failed."""
    found: dict[str, Given] = {}
    failed = 0
    epochs: set[tuple[str, int]] = set()
    for where, sample in _samples(file):
        if sample.get("error") and not sample.get("scores"):
            failed += 1
            continue
        try:
            metadata = sample.get("metadata") or {}
            if join and join not in metadata:
                raise DataError.at(
                    where, f"no {join}; its metadata has {', '.join(metadata) or 'nothing'}", MEND
                )
            key = str(metadata[join] if join else sample["id"])
            given, epoch = _given(sample, where), sample.get("epoch", 1)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError.at(where, f"no sample of Inspect ({error!r})", "Have it written again") from error
        if (key, epoch) in epochs:
            raise DataError.at(where, f"{join or 'id'} {key!r} stands twice", MEND)
        epochs.add((key, epoch))
        found[key] = given._replace(answers=found[key].answers + given.answers) if key in found else given
    if not found:
        why = f"all {failed:,} samples ended with an error" if failed else "a log without samples"
        raise DataError.at(str(file), why, "Log them: inspect eval ... --log-samples")
    return dict(sorted(found.items())), failed  # in one order, whichever came back first


def _given(sample: Mapping[str, Any], where: str) -> Given:
    score = next(iter((sample.get("scores") or {}).values()), None)
    if score is None:
        raise DataError.at(where, "no score (none was made)", "Have it scored: inspect score")
    targets = sample["target"] if isinstance(sample["target"], list) else [sample["target"]]
    answer = (score.get("answer") or "").strip() or None
    names = [f"{chr(65 + n)}) {text}" for n, text in enumerate(sample.get("choices") or ())]
    if names:  # letters
        if len(targets) > 1:
            mend = "Leave the task out: --tasks=..."
            raise DataError.at(
                where, f"{', '.join(targets)} are right together, which is no single answer", mend
            )
        places = {name[0]: name for name in names}
        right = [places.get(target.strip(), target) for target in targets]
        answer = None if answer is None else places.get(answer.upper().strip(" .()"))
    else:
        right = [target.strip() for target in targets if target.strip()]
    if right and score["value"] in ("C", 1):  # in other words than the target, perhaps
        answer = right[0]
    prompt = sample["input"] if isinstance(sample["input"], str) else sample["input"][-1]["content"]
    return Given((answer,), tuple(dict.fromkeys(right)), tuple(names), str(prompt), "", where)
