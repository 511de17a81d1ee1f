"""XSafety: 14 kinds of safety prompts, 200 of each, in ten languages, without answers, from the original files.

Source: Wang et al., "All Languages Matter: On the Multilingual Safety of Large Language Models", Findings of ACL 2024.
One folder a language (Spanish is `sp`), one CSV file a kind with one column and no header; some names end in `_n` or
`_en`. Prompts are parallel by their number in the file.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import AGAIN, Line, csv_lines
from consistency_jax.data.sources.parallel import by_place
from consistency_jax.data.sources.source import Row, Rows, Source, bare_row, each

LANGUAGES = ("en", "zh", "ar", "es", "fr", "de", "ja", "hi", "bn", "ru")
KINDS = (
    *("commonsense", "Crimes_And_Illegal_Activities", "Ethics_And_Morality", "Goal_Hijacking"),
    *("Inquiry_With_Unsafe_Opinion", "Insult", "Mental_Health", "Physical_Harm", "Privacy_And_Property"),
    *("Prompt_Leaking", "Reverse_Exposure", "Role_Play_Instruction", "Unfairness_And_Discrimination"),
    "Unsafe_Instruction_Topic",
)
DOWNLOAD = "Set data.path to the folder Multilingual_safety_benchmark, which holds en/, zh/, sp/ ..."
SOURCE = Source("written", DOWNLOAD, LANGUAGES, train_size=0, answers=False)


def read(path: Path, languages: Sequence[str], *, kinds: Sequence[str] = KINDS) -> Rows:
    """Reads XSafety, the folder with one folder a language, kind after kind.

    Args:
        kinds: which of the 14. Of a kind whose files have different numbers of rows in different languages, which
            cannot be parallel, every row is bad.

    Returns:
        Ids `xsafety-<kind>-<number>`, group = the kind.

    Raises:
        DataError: an unknown kind, or a file that is not there.
    """
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise DataError.at("xsafety", f"unknown kind {', '.join(unknown)}", f"Known: {', '.join(KINDS)}")
    rows: list[Row | DataError] = []
    for kind in kinds:
        files = {language: _file(path, language, kind) for language in languages}
        try:
            lines = by_place(
                {language: list(csv_lines(file)) for language, file in files.items()}, f"{path}: {kind}"
            )
            rows += each(lines, lambda number, own, kind=kind: _prompt(kind, number, own))
        except DataError as error:
            rows.append(error)
    return Rows(rows, published=2800 if kinds == KINDS else 0)


def _prompt(kind: str, number: int, lines: Mapping[str, Line]) -> Row:
    texts = {}
    for language, line in lines.items():
        filled = [field for field in line.get() if field.strip()]
        if len(filled) != 1:
            raise DataError.at(line.where, f"the row has {len(filled)} texts, not one", AGAIN)
        texts[language] = filled[0]
    return bare_row(f"xsafety-{kind}-{number:03d}", kind, texts, next(iter(lines.values())).where)


def _file(folder: Path, language: str, kind: str) -> Path:
    names = ("sp", "es") if language == "es" else (language,)
    own = next((folder / name for name in names if (folder / name).is_dir()), None)
    if own is None:
        raise DataError.at(str(folder), f"no folder {names[0]!r} for {language!r}", DOWNLOAD)
    for file in sorted(own.glob("*.csv")):
        if re.sub(r"_(n|en)$", "", file.stem) in (kind, kind.removesuffix("s")):
            return file
    raise DataError.at(str(own), f"no file {kind}.csv", DOWNLOAD)
