"""The table: how likely each answer is, in each language, for each question. Everything else is a function of it."""

import dataclasses
import importlib.util
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from consistency_jax.runtime.files import location, read_arrays, write_arrays

if TYPE_CHECKING:
    import pandas

# What candidates may be ranked by: log-probabilities, of what.
RANKED = {
    "sum": "the sum over the answer’s tokens",
    "mean": "the mean over the answer’s tokens",
    "mean_full": "the mean over all tokens of question and answer",
    "bytes": "per UTF-8 byte of the answer",
    "pmi": "log p(answer | question) − log p(answer): how much likelier the question makes it",
}
NORMALIZATIONS = tuple(RANKED)


# What may be known of a language's answer to a question; each tells less than the one before.
KNOWN = {
    "scores": "how likely each candidate is",
    "answers": "which candidate was answered",
    "texts": "what was answered, of which the candidates are made: there is no telling what else could have been",
}


NEVER = -100.0  # in the place of log 0


@dataclasses.dataclass(frozen=True, repr=False)
class Table:
    """Log-probabilities of B items in L languages with K candidates (numpy arrays).

    Attributes:
      ids: the B item ids; languages: the L languages, in the order asked for.
      logp: f32[B, L, K] sums over the answer's tokens, nats. Cells outside the mask hold 0.
      length: i32[B, L, K] answer tokens behind each sum.
      bytes: i32[B, L, K] UTF-8 bytes of the answer.
      mask: bool[B, L, K] the cells that exist.
      gold: i32[B] index of the true candidate, -1 unknown; where some item has several, bool[B, K], which are right.
      prompt_logp, prompt_length: [B, L, K] the same for the prompt's tokens, where asked for.
      neutral_logp: f32[B, L, K] log-probability of the answer alone, without its question (after BOS, or the chat
        template's opening), where asked for.
      state: f32[B, L, D] hidden state of each prompt's last token (of those that come before every answer), where
        asked for.
      chrf: f32[B, L] of answers in words: how near each is to what is right, 0..1, NaN where that is unknown.
      vectors: f32[B, L, D] of answers in words, where an encoder was at hand; NaN where there is none.
      known: what of a language's answer, of KNOWN. Of other tables than of scores `logp` is the log of a candidate's
        share of the answers, 0 where there is one answer, and NEVER where it has none.
    """

    ids: tuple[str, ...]
    languages: tuple[str, ...]
    logp: np.ndarray
    length: np.ndarray
    bytes: np.ndarray
    mask: np.ndarray
    gold: np.ndarray
    prompt_logp: np.ndarray | None = None
    prompt_length: np.ndarray | None = None
    neutral_logp: np.ndarray | None = None
    state: np.ndarray | None = None
    chrf: np.ndarray | None = None
    vectors: np.ndarray | None = None
    known: str = "scores"

    def scores(self, normalization: str = "mean_full") -> np.ndarray:
        """f64[B, L, K] to rank candidates by, higher is better; -inf outside the mask.

        Args:
          normalization: "sum"; "mean" per answer token; "mean_full" per token of prompt and answer (what the published
            evaluation ranks by); "bytes" per UTF-8 byte of the answer; "pmi", log p(answer | prompt) - log p(answer):
            how much likelier the question makes it (with a rest of the sentence after a mask, that rest is part of
            the question: it is in the first term alone).

        Raises:
          ValueError: for another name, "mean_full" on a table without prompt log-probabilities, or "pmi" on one without
            neutral ones.
        """
        logp = self.logp.astype(np.float64)
        if normalization == "sum":
            values = logp
        elif normalization == "mean":
            if not self.length.any():
                raise ValueError("mean needs the number of tokens of each answer, which a log does not tell")
            values = logp / np.maximum(self.length, 1)
        elif normalization == "bytes":
            values = logp / np.maximum(self.bytes, 1)
        elif normalization == "mean_full":
            if self.prompt_logp is None:
                raise ValueError("mean_full needs the prompt's log-probabilities: score with prompt=True")
            values = (logp + self.prompt_logp) / np.maximum(self.length + self.prompt_length, 1)
        elif normalization == "pmi":
            if self.neutral_logp is None:
                raise ValueError("pmi needs the answers' log-probabilities alone: score with neutral=True")
            values = logp - self.neutral_logp
        else:
            raise ValueError(
                f"unknown normalization {normalization!r}; choose from {', '.join(NORMALIZATIONS)}"
            )
        return np.where(self.mask, values, -np.inf)

    def __repr__(self) -> str:
        """In one line: its shape and what it can be ranked by."""
        languages = f"{len(self.languages)} languages ({', '.join(self.languages)})"
        shape = f"{len(self.ids):,} items x {languages} x {self.mask.shape[2]} candidates"
        if self.known != "scores":
            return f"Table({shape}; of {self.known} alone)"
        return f"Table({shape}; {int(self.mask.sum()):,} answers, ranked by {', '.join(self.normalizations)})"

    def _repr_html_(self) -> str:
        """The first items' answers as a table, in notebooks."""
        told = f"<p>{escape(repr(self))}</p>"
        return told + self.to_pandas(5).to_html(index=False) if importlib.util.find_spec("pandas") else told

    def to_pandas(self, items: int | None = None) -> "pandas.DataFrame":
        """A row an answer: id, language, candidate (its number), logp (nats), length (tokens), bytes, right (None where
        it is unknown), and score_NAME for each way to rank, of which higher is better.

        Args:
          items: the first ones alone; None for all.

        Raises:
          ImportError: pandas is not installed.
        """
        import pandas

        n, l, k = np.nonzero(self.mask[:items])
        known = self.gold >= 0 if self.gold.ndim == 1 else self.gold.any(1)
        right = self.gold[n] == k if self.gold.ndim == 1 else self.gold[n, k]
        columns = {
            "id": np.array(self.ids, object)[n],
            "language": np.array(self.languages, object)[l],
            "candidate": k,
        }
        columns |= {name: getattr(self, name)[n, l, k] for name in ("logp", "length", "bytes")}
        columns["right"] = np.where(known[n], right, None)
        return pandas.DataFrame(
            columns | {f"score_{name}": self.scores(name)[n, l, k] for name in self.normalizations}
        )

    @property
    def normalizations(self) -> tuple[str, ...]:
        """Those that this table has what it takes for."""
        absent = {
            "bytes": self.known != "scores",
            "mean": not self.length.any(),
            "mean_full": self.prompt_logp is None,
            "pmi": self.neutral_logp is None,
        }
        return tuple(name for name in NORMALIZATIONS if not absent.get(name))

    def save(self, path: str | Path) -> None:
        """Writes an .npz file."""
        write_tables(path, {"": self})

    @classmethod
    def load(cls, path: str | Path) -> "Table":
        """A table that `save` wrote.

        Raises:
          ValueError: the file is damaged, or of a run, which has one of each split (`read_tables`).
        """
        tables = read_tables(path)
        if "" not in tables:
            raise ValueError(
                f"{path} holds the tables {', '.join(tables)}: consistency_jax.table.read_tables(path)[NAME]"
            )
        return tables[""]

    def _arrays(self) -> dict[str, np.ndarray | None]:
        names = [f.name for f in dataclasses.fields(self) if f.name not in ("ids", "languages", "known")]
        own = {name: getattr(self, name) for name in names}
        return own if self.known == "scores" else own | {"known": np.array(self.known)}


def write_tables(path: str | Path, tables: dict[str, Table]) -> None:
    """One .npz with a table per split; it appears under its name only when it is complete."""
    path = location(path) if isinstance(path, str) else path
    arrays: dict[str, np.ndarray] = {"splits": np.array(list(tables))}
    for split, table in tables.items():
        arrays[f"{split}/ids"] = np.array(table.ids)
        arrays[f"{split}/languages"] = np.array(table.languages)
        arrays |= {f"{split}/{name}": value for name, value in table._arrays().items() if value is not None}
    write_arrays(path, arrays)


def read_tables(path: str | Path) -> dict[str, Table]:
    """The tables of an .npz written by `write_tables`.

    Raises:
      ValueError: for a file that is damaged or holds no tables.
    """
    path = location(path) if isinstance(path, str) else path
    try:
        arrays, tables = read_arrays(path), {}
        for split in arrays["splits"].tolist():
            own = {
                name.removeprefix(f"{split}/"): value
                for name, value in arrays.items()
                if name != "splits" and name.rpartition("/")[0] == split
            }
            own["ids"], own["languages"] = tuple(own["ids"].tolist()), tuple(own["languages"].tolist())
            own["known"] = str(own.get("known", "scores"))
            tables[split] = Table(**own)
        return tables
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be read as tables ({error}); delete it and run again") from error
