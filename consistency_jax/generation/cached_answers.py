"""Sampled answers that outlive a kill: an engine whose answers are cached in a file, batch by batch."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from consistency_jax.errors import UserError
from consistency_jax.generation import Cut, Generator, Sampling
from consistency_jax.generation.endpoint import Endpoint
from consistency_jax.runtime.files import named, parse_json, write_text
from consistency_jax.runtime.processes import on_main
from consistency_jax.runtime.progress import Progress


class CachedAnswers:
    """A `Generator` that asks another one in batches, and remembers in a file what each batch was answered.

    A batch has a seed of its own and holds the same prompts whether or not the one before was read from the file: a run
    that was killed ends with the answers of an unbroken one.

    Args:
      generator: makes the engine; called when an answer is first missing.
      path: the file, JSONL; what does not belong to `settings` in it is left alone and unread.
      settings: a key of all that answers depend on beside the arguments of `generate` (the engine, its parameters).
      batch: prompts asked at once.
    """

    def __init__(self, generator: Callable[[], Generator], path: Path, settings: str, batch: int):
        self._make, self._path, self._settings, self._batch = generator, path, settings, batch
        self._engine: Generator | None = None
        self._cached: dict[str, list[list[str]]] | None = None  # what the file holds, once it was read

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[str]]:
        """See `Generator`."""
        cached = self._known()
        answers: list[list[str]] = []
        batches = self._batches(prompts, n, sampling, seed)
        bar: Progress | None = None
        for number, (key, part) in enumerate(batches):
            if asks := key not in cached:
                self._engine = self._engine or self._begun(cached[key] for key, _ in batches if key in cached)
                bar = bar or Progress("answers", len(batches), first=number)
                cached[key] = self._engine.generate(
                    part, n=n, sampling=sampling, seed=seed + number * 1_000_003
                )
                on_main(functools.partial(self._store, key, cached[key]))
            if bar:
                bar.advance(prompts=len(part) if asks else 0)
            answers += cached[key]
        if bar:
            bar.close()
        return answers

    def _begun(self, answers: Iterable[list[list[str]]]) -> Generator:
        """The engine; one that asks a server is told where it answered before a kill."""
        engine = self._make()
        if isinstance(engine, Endpoint) and any(text for batch in answers for own in batch for text in own):
            engine.has_answered()
        return engine

    def holds(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> bool:
        """Whether the file has all answers that `generate` would give."""
        return all(key in self._known() for key, _ in self._batches(prompts, n, sampling, seed))

    def _batches(
        self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int
    ) -> list[tuple[str, list[str]]]:
        """(key, prompts) of each batch."""
        parts = [list(prompts[start : start + self._batch]) for start in range(0, len(prompts), self._batch)]
        asked = [[self._settings, part, n, repr(sampling), seed, number] for number, part in enumerate(parts)]
        return [
            (hashlib.sha256(json.dumps(own).encode()).hexdigest(), part) for own, part in zip(asked, parts)
        ]

    def _known(self) -> dict[str, list[list[str]]]:
        if self._cached is None:
            self._cached = on_main(self._read)
        return self._cached

    def _store(self, key: str, answers: list[list[str]]) -> None:
        kept = [[{"cut": text} if isinstance(text, Cut) else text for text in own] for own in answers]
        with named(self._path), self._path.open("a", encoding="utf8") as file:
            file.write(json.dumps({"key": key, "answers": kept, "digest": _digest(key, kept)}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> dict[str, list[list[str]]]:
        """What the file holds. A last line that a kill cut short is taken out of it; one that was edited stays unread.

        Raises:
          UserError: a file of something else.
        """
        cached: dict[str, list[list[str]]] = {}
        if not self._path.exists():
            return cached
        lines = self._path.read_text(encoding="ascii", errors="replace").splitlines(keepends=True)
        whole, ours = [line for line in lines if line.endswith("\n")], 0
        for line in whole:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = parse_json(line)
                key, answers = record["key"], record["answers"]
                ours += 1
                if record["digest"] == _digest(key, answers):
                    cached[key] = [
                        [Cut(text["cut"]) if isinstance(text, dict) else text for text in own]
                        for own in answers
                    ]
        if whole and not ours:
            raise UserError(f"{self._path} is there, and holds no answers: move it, or name another output")
        if whole != lines:
            write_text(self._path, "".join(whole))
        return cached


def _digest(key: str, answers: list[list[str | dict[str, str]]]) -> str:
    return hashlib.sha256(json.dumps([key, answers]).encode()).hexdigest()[:16]
