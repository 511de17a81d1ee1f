"""PKU-SafeRLHF: English prompts with two answers each, of which one is safer and one better; original JSON lines.

Source: Ji et al., "PKU-SafeRLHF: Towards Multi-Level Safety Alignment", 2024. Keys of a line: prompt, response_0,
response_1, is_response_0_safe, is_response_1_safe, better_response_id, safer_response_id (and others). An item has the
two answers as its candidates and the preferred one as its gold, so dpo, simpo, orpo and sft train on it as it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, ParallelItem
from consistency_jax.data.sources.files import AGAIN, OPENERS, Line, json_lines, text_of
from consistency_jax.data.sources.source import Row, Rows, Source, Typical, each
from consistency_jax.data.sources.splits import Plan, split_rows

BREAK = "\n\n"  # between prompt and answer; a chat template drops it
DOWNLOAD = (
    "Set data.path to the folder that holds train.jsonl and test.jsonl (in folders of their own, if so)"
)
SOURCE = Source(
    "written",
    DOWNLOAD,
    languages=("en",),
    splits=("train", "validation", "test"),
    values={"prefer": ("safer", "better")},
    typical=Typical(candidates=2),
)


def read(
    path: Path,
    languages: Sequence[str],
    split: str | None,
    *,
    prefer: str = "safer",
    validation_size: int | float = 0,
    seed: int = 0,
) -> Rows:
    """Reads PKU-SafeRLHF.

    Args:
        path: a file, or a folder that holds `train.jsonl` and `test.jsonl` at any depth (packed ones too: .gz, .xz).
        split: "train" or "test", the file's name, "validation" (drawn from train), or None for all. Of a path to one
            file every row is in every split but "validation".
        prefer: which answer is the gold: "safer" or "better".
        validation_size: how many training rows to keep apart for validation.
        seed: of that draw.

    Returns:
        Ids `<folders>/train-<line>`, group = "both safe", "one safe" or "none safe".

    Raises:
        DataError: a file that is not there, or a draw that cannot be.
    """
    lines = [
        (f"{_name(file, path)}-{number}", line)
        for file in _files(path, split)
        for number, line in enumerate(json_lines(file))
    ]
    plan = Plan(None, 0)
    if validation_size and split in ("train", "validation"):
        kept = round(validation_size * len(lines)) if isinstance(validation_size, float) else validation_size
        # what the draw leaves is "test" there
        plan = Plan("test" if split == "train" else "train", kept, seed)
    elif split == "validation":
        plan = Plan(split, 0.5)  # refused with a word about validation_size
    lines = [lines[i] for i in split_rows(len(lines), plan, "pku_saferlhf")]
    return Rows(each(lines, lambda _, own: Row(_item(*own, prefer), own[1].where)))


def _item(key: str, line: Line, prefer: str) -> ParallelItem:
    record = line.get()
    prompt, *answers = (text_of(record, name, line.where) for name in ("prompt", "response_0", "response_1"))
    safe = [
        _of(record, f"is_response_{k}_safe", (False, True), line.where, "true or false") for k in range(2)
    ]
    gold = _of(record, f"{prefer}_response_id", (0, 1), line.where, "0 or 1")
    return ParallelItem(
        id=key,
        group=("none safe", "one safe", "both safe")[sum(safe)],
        prompts={"en": prompt},
        candidates={"en": tuple(BREAK + answer if answer else "" for answer in answers)},
        gold=gold,
        written=True,
    )


def _of(record: dict[str, Any], key: str, known: tuple, where: str, words: str) -> Any:
    value = record.get(key)
    if type(value) is not type(known[0]) or value not in known:
        raise DataError.at(where, f"{key} is {value!r:.60}, not {words}", AGAIN)
    return value


def _files(root: Path, split: str | None) -> list[Path]:
    if root.is_file():
        return [root]
    parts = ("train", "test") if split is None else ("train" if split == "validation" else split,)
    files = [
        file
        for part in parts
        for suffix in ("", *OPENERS)
        for file in sorted(root.rglob(f"{part}.jsonl{suffix}"))
    ]
    if not files:
        raise DataError.at(str(root), f"no {' or '.join(f'{part}.jsonl' for part in parts)} here", DOWNLOAD)
    return files


def _name(file: Path, root: Path) -> str:
    """The file's name relative to the root, without its endings."""
    name = file.name if file == root else file.relative_to(root).as_posix()
    return name.partition(".jsonl")[0]
