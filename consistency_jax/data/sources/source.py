"""What the module of a data set gives: `SOURCE`, facts about the set, and `read`, every row of it in the files' order.

    SOURCE = Source("candidate", download="Set data.path to the file questions.tsv")

    def read(path: Path, languages: Sequence[str] | None) -> Rows:
        return Rows(each(records(path, ("id", "en"), "\\t"), lambda number, line: Row(_item(line.get()), line.where)))

`load_items` does the rest, alike for every set: languages, splits, bad rows, checks. A set that states no further facts
is trained on, audited and planned for with the defaults that stand here.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from consistency_jax.data.items import DataError, Items, ParallelItem

T = TypeVar("T")
U = TypeVar("U")


class Experiment(NamedTuple):
    """How a set is trained on in the papers, or a natural choice where it is not.

    Attributes:
        steps: of the optimizer, with 4 items each.
        languages: in the published order; (): all that the set has.
        instances: of method=dco, drawn as published (`splits.Plan`); 0: pairs are drawn batch by batch.
        options: of the source.
    """

    steps: int = 500
    languages: tuple[str, ...] = ()
    instances: int = 0
    options: Mapping[str, str] = MappingProxyType({})


class Typical(NamedTuple):
    """A typical item: candidates, and tokens of a prompt and of an answer in one language (Qwen 3's tokenizer)."""

    candidates: int = 4
    prompt: int = 100
    answer: int = 8

    @property
    def tokens(self) -> int:
        """Row tokens of one tree; an answer's last token is not fed."""
        return self.prompt + self.candidates * (self.answer - 1)


@dataclass(frozen=True)
class Source:
    """Facts about a data set.

    Attributes:
        leading_space: who decides about the space before an answer, a key of `items.SPACINGS`.
        download: what to do where `data.path` is missing; "": the set needs no files, or its reader looks for them.
        languages: all that it has, in its order; (): the files tell.
        splits: those of the set itself, for which `read` takes `split` (None: every row); (): drawn by seed, as in the
            papers (`splits.Plan`).
        train_size: the default of that option: rows, or their share, in "train"; 0: every row is in "test".
        answers: False for bare prompts, which nothing can be scored or trained by.
        values: option -> those that it takes.
        experiment: how it is trained on.
        languages_at: path -> languages of the experiment, where the path decides.
        typical: an item, which programs are compiled for where there is no data.
    """

    leading_space: str
    download: str = ""
    languages: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    train_size: int | float = 0.8
    answers: bool = True
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    experiment: Experiment = Experiment()
    languages_at: Callable[[str], tuple[str, ...]] | None = None
    typical: Typical = Typical()


class Row(NamedTuple):
    """The item made of one row.

    Attributes:
        item: with its candidates in the order of the file. Languages that were not asked for are dropped later.
        where: its place, `file:line`, for messages.
        warnings: what is odd about it; None: what `doubled_candidates` finds.
        left_out: by a filter, which moves no other row to another split and changes nothing that is drawn.
    """

    item: ParallelItem
    where: str
    warnings: Sequence[str] | None = None
    left_out: bool = False


class Rows(NamedTuple):
    """What a reader returns.

    Attributes:
        rows: every row, in the order of the files; a bad one is its error and keeps its place.
        warnings: what is odd about the files.
        published: rows of the published set, 0 where not known; another number is a warning.
        units: for each row what it must stay together with in a split; None: rows are split one by one.
        shuffle: seeds, with a row's number, the order of its candidates, the same in all languages; "": the file's.
        bare: whether items may have no candidates; `Source.answers=False` says so for all.
        taken: whether these are the rows of the split asked for; otherwise they are split here.
        beside: further languages of the set, which none of these rows has.
    """

    rows: Sequence[Row | DataError]
    warnings: Sequence[str] = ()
    published: int = 0
    units: Sequence[Hashable] | None = None
    shuffle: str = ""
    bare: bool = False
    taken: bool = False
    beside: Sequence[str] = ()

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that some row has, in order of first appearance, and those beside."""
        own = Items(row.item for row in self.rows if isinstance(row, Row)).languages
        return tuple(dict.fromkeys((*own, *self.beside)))


def each(rows: Iterable[T | DataError], make: Callable[[int, T], U]) -> list[U | DataError]:
    """`make` of every row with its number; its error where it raises one, or where the row is one already."""
    made: list[U | DataError] = []
    for number, row in enumerate(rows):
        try:
            made.append(row if isinstance(row, DataError) else make(number, row))
        except DataError as error:
            made.append(error)
    return made


def bare_row(
    id: str,
    group: str,
    texts: Mapping[str, str],
    where: str,
    targets: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Row:
    """The row of a prompt without candidates; `targets` as in `ParallelItem`."""
    prompts = {language: text.strip() for language, text in texts.items()}
    right = {language: tuple(dict.fromkeys(map(str.strip, own))) for language, own in targets.items()}
    return Row(ParallelItem(id, group, prompts, dict.fromkeys(prompts, ()), targets=right), where)
