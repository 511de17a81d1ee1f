"""PKU-SafeRLHF: English prompts with two answers each, of which one is safer and one better; original JSON lines.

Source: Ji et al., "PKU-SafeRLHF: Towards Multi-Level Safety Alignment", 2024. Keys of a line: prompt, response_0,
response_1, is_response_0_safe, is_response_1_safe, better_response_id, safer_response_id (and others). An item has the
two answers as its candidates and the preferred one as its gold, so dpo, simpo, orpo and sft train on it as it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, Items, ParallelItem, check_languages, doubled_candidates
from consistency_jax.data.sources.files import AGAIN, OPENERS, Line, json_lines, text_of
from consistency_jax.data.sources.splits import Made, Plan, take

LANGUAGES = ("en",)
LEADING_SPACE = "written"
BREAK = "\n\n"  # between prompt and answer; a chat template drops it
DOWNLOAD = (
    "Set data.path to the folder that holds train.jsonl and test.jsonl (in folders of their own, if so)"
)


def read(
    path: str | Path | None,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    on_error: str = "raise",
    *,
    prefer: str = "safer",
    validation_size: int | float = 0,
    seed: int = 0,
) -> Items:
    """Reads PKU-SafeRLHF.

    Args:
        path: a file, or a folder that holds `train.jsonl` and `test.jsonl` at any depth (packed ones too: .gz, .xz).
        languages: ("en",) or None.
        split: "train" or "test", the file's name, "validation" (drawn from train), or None for all. Of a path to one
            file every row is in every split but "validation".
        on_error: "raise", or "skip": bad rows are left out and listed.
        prefer: which answer is the gold: "safer" or "better".
        validation_size: how many training rows to keep apart for validation.
        seed: of that draw.

    Returns:
        Items with ids `<folders>/train-<line>`, group = "both safe", "one safe" or "none safe".

    Raises:
        DataError: naming file, line, reason and mend.
    """
    check_languages(LANGUAGES if languages is None else languages, LANGUAGES, "pku_saferlhf")
    if prefer not in ("safer", "better"):
        raise DataError.at("pku_saferlhf", f"unknown prefer {prefer!r}", "Known: safer, better")
    if path is None:
        raise DataError.at("data.path", "the source 'pku_saferlhf' needs a folder", DOWNLOAD)
    root = Path(path).expanduser()
    lines: list[tuple[str, Line]] = []
    for file in _files(root, split):
        before = len(lines)
        lines += [(f"{_name(file, root)}-{number}", line) for number, line in enumerate(json_lines(file))]
        if len(lines) == before:
            raise DataError.at(str(file), "the file has no rows", AGAIN)

    def make(i: int) -> Made:
        key, line = lines[i]
        item = _item(key, line, prefer)
        return Made(item, line.where, doubled_candidates(item))

    plan = Plan(None, 0)
    if validation_size and split in ("train", "validation"):
        kept = round(validation_size * len(lines)) if isinstance(validation_size, float) else validation_size
        # what the draw leaves is "test" there
        plan = Plan("test" if split == "train" else "train", kept, seed)
    elif split == "validation":
        plan = Plan("validation", 0.5)  # refused with a word about validation_size
    return take(len(lines), make, plan, LANGUAGES, where="pku_saferlhf", on_error=on_error)


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
    )


def _of(record: dict[str, Any], key: str, known: tuple, where: str, words: str) -> Any:
    value = record.get(key)
    if type(value) is not type(known[0]) or value not in known:
        raise DataError.at(where, f"{key} is {value!r:.60}, not {words}", AGAIN)
    return value


def _files(root: Path, split: str | None) -> list[Path]:
    if split not in (None, "train", "validation", "test"):
        raise DataError.at(
            "pku_saferlhf", f"unknown split {split!r}", "Known: train, validation, test, every"
        )
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError.at(str(root), "no such file or folder", DOWNLOAD)
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
