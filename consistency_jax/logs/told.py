"""What logs tell, whatever wrote them: of a question in a language, and of a model."""

from typing import NamedTuple

from consistency_jax.data.items import Items
from consistency_jax.table import Table


class Scored(NamedTuple):
    """One question in one language, as it was logged.

    scores: of each candidate, higher is better: log-probabilities, nats; None of one that the language does not have.
    right: indices of those that are right; () where that is not told.
    where: file:line.
    """

    prompt: str
    candidates: tuple[str, ...]
    scores: tuple[float | None, ...]
    right: tuple[int, ...]
    group: str
    where: str


class Given(NamedTuple):
    """One question in one language, of which the answer that was given is all that was logged.

    answers: their texts, several where several were drawn; None: there was none.
    right: those that are right, or, where candidates are not told, words for what is right; () where that is not told.
    candidates: in one order in all languages; () where they are not told.
    where: file:line.
    """

    answers: tuple[str | None, ...]
    right: tuple[str, ...]
    candidates: tuple[str, ...]
    prompt: str
    group: str
    where: str


class Logged(NamedTuple):
    """What was logged of one model, by task.

    model: its name, as the log tells it.
    notes: what was left out.
    """

    model: str
    items: dict[str, Items]
    tables: dict[str, Table]
    notes: list[str]
