"""How a model is measured: on the test splits of a config, by what it scores and by what it writes.

evaluation = load_evaluation(config).prepared(model)
base = evaluation.measure("base", model, scorer, workdir)
evaluation.report(workdir, base)
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from consistency_jax.data.items import Items
from consistency_jax.evaluation.free_text import GenerationTask, Responses, load_tasks, respond
from consistency_jax.evaluation.measuring import headline, score_splits
from consistency_jax.evaluation.reports import write_report
from consistency_jax.evaluation.splits import Split, askable, load_split, load_tests, split_of
from consistency_jax.models.decoder import Params
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.processes import on_main
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.table import Table, write_tables


class Measured(NamedTuple):
    """One model, measured."""

    tables: dict[str, Table]  # of each split
    responses: list[Responses]  # to each task


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What models of a run are measured on.

    Attributes:
      items: of each split, checked.
      tasks: what is answered in free text.
      splits: the items as trees; none before `prepared`.
    """

    config: ConfigDict
    items: dict[str, Items]
    tasks: Sequence[GenerationTask] = ()
    splits: Sequence[Split] = ()

    @property
    def read(self) -> list[tuple[str, Items]]:
        """Splits and prompts by name, with what was left out of each."""
        return [(own.name, own.items) for own in (*self.splits, *self.tasks)]

    def prepared(self, model: Model) -> "Evaluation":
        """With trees, as the model's tokenizer makes them. Errors are those of `split_of`."""
        boundary = self.config.evaluation.boundary
        splits = [split_of(self.config, name, items, model, boundary) for name, items in self.items.items()]
        # What is written is asked of the same questions: without those that no tree can be made of.
        known = {split.name: {item.id for item in split.items} for split in splits}

        def asked(task: GenerationTask) -> Items:
            if task.safety:
                return askable(self.config, f"{task.name} prompts", task.items, model, task.languages)
            return task.items.only(item for item in task.items if item.id in known[task.name])

        tasks = [task._replace(items=asked(task)) for task in self.tasks]
        return dataclasses.replace(self, splits=splits, tasks=tasks)

    def measure(
        self, name: str, model: Model, scorer: Scorer, workdir: Path, params_key: str = ""
    ) -> Measured:
        """Scores every split and answers every task; tables/NAME.npz of the workdir holds the tables. With those of the
        base model those of a trained one go, which may be of other questions or of another step.

        Args:
          params_key: `fingerprint` of the parameters: tables are then kept under it, and found again.
        """
        tables = score_splits(self.config, scorer, model.params, self.splits, name, params_key)
        folder = workdir / "tables"
        if name == "base":
            on_main(lambda: (folder / "final.npz").unlink(missing_ok=True))
        on_main(lambda: write_tables(folder / f"{name}.npz", tables))
        return Measured(tables, respond(self.config, model, self.tasks, workdir))

    def headlines(self, scorer: Scorer, params: Params) -> dict[str, float]:
        """The few numbers of each split that are printed and logged inside training, percentages."""
        found = {}
        for split, table in score_splits(self.config, scorer, params, self.splits).items():
            values = headline(self.config, table)
            print(f"  {split}: " + ", ".join(f"{name} {value:.1f}" for name, value in values.items()))
            found |= {f"{split}/{name}": value for name, value in values.items()}
        return found

    def report(
        self,
        workdir: Path,
        base: Measured,
        final: Measured | None = None,
        checkpoint: tuple[str, int] | None = None,
    ) -> dict[str, Any]:
        """Writes down what was measured, before and after or of a model alone; returns what report.json holds.

        Args:
          checkpoint: stage and step that `final` is of.
        """
        after = final and final.tables
        responses = [side.responses for side in (base, final) if side]
        items = {split.name: split.items for split in self.splits}
        return on_main(
            lambda: write_report(
                self.config, workdir, items, base.tables, after, self.tasks, responses, checkpoint=checkpoint
            )
        )


def load_evaluation(config: ConfigDict) -> Evaluation:
    """The test splits of a config and what is asked in free text. Errors are those of `load_split` and `load_tasks`."""
    tests = load_tests(config)
    return Evaluation(config, tests, load_tasks(config, tests))


def load_validation(config: ConfigDict) -> Evaluation:
    """The split that is measured inside training; none where `evaluation.every` is 0."""
    names = [config.evaluation.split] if config.evaluation.every else []
    return Evaluation(config, {name: load_split(config, name, config.data.test_groups) for name in names})
