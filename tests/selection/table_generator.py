"""A generator that answers from a table: what an engine is, without a model."""

from collections.abc import Callable, Sequence

from consistency_jax.generation import Sampling, before_stop


class TableGenerator:
    """Answer s to a prompt is `answer(prompt, s)`; counts what it was asked.

    Args:
      answer: (prompt, number of the answer) -> text.
      fail_after: calls after which it raises KeyboardInterrupt, as a kill would; None: never.
    """

    def __init__(self, answer: Callable[[str, int], str], fail_after: int | None = None):
        self.answer, self.fail_after = answer, fail_after
        self.asked: list[tuple[str, ...]] = []
        self.seeds: list[int] = []

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[str]]:
        """See `Generator`."""
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        self.asked.append(tuple(prompts))
        self.seeds.append(seed)
        return [[before_stop(self.answer(prompt, s), sampling.stop) for s in range(n)] for prompt in prompts]
