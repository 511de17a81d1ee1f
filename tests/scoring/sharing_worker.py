"""Scores the questions of a file, as one of several processes that begin together, into a file of its own.

    python sharing_worker.py MODEL QUESTIONS FOLDER NUMBER PROCESSES STOP

FOLDER/cache is what they share. FOLDER/NUMBER.npz holds the table, and which batches this process computed. STOP:
batches after which it kills itself; 0: never.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import mesh_of
from consistency_jax.scoring import scorer as scoring
from consistency_jax.scoring import stored
from consistency_jax.scoring.tables import score_trees
from consistency_jax.table import Table

TOKENS = 128  # of a batch: some dozen of them


def main(model_folder: str, questions: str, folder: str, number: str, processes: str, stop: str) -> None:
    stored.EVERY_S, scoring.WAIT_S = 0.0, 0.05
    model, items = load_pretrained(model_folder), load_items("jsonl", path=questions)
    trees = TreeBuilder(model.tokenizer, boundary="joint").build(items)
    scorer, own, add = scoring.Scorer(model.config, mesh_of(model.params)), [], stored.PassResults.add

    def noted(results: stored.PassResults, batch: int, values: dict[str, np.ndarray]) -> None:
        add(results, batch, values)
        own.append(batch)
        if len(own) == int(stop):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.1)  # so that no process does all

    def make(batches: Path) -> Table:
        return score_trees(
            scorer, model.params, items, items.languages, trees, tokens=TOKENS, prompt=False, resume=batches
        )

    stored.PassResults.add = noted
    (Path(folder) / f"{number}.begun").touch()
    latest = time.monotonic() + 300
    while len(list(Path(folder).glob("*.begun"))) < int(processes) and time.monotonic() < latest:
        time.sleep(0.05)
    table = stored.stored("key", Path(folder) / "cache", make)
    np.savez(Path(folder) / number, logp=table.logp, own=np.array(own, int))


if __name__ == "__main__":
    main(*sys.argv[1:])
