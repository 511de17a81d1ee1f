"""consistency_jax: post-training language models towards crosslingual consistency, in JAX.

import consistency_jax as cj

model = cj.load_pretrained("path/or/hub-id")
items = cj.load_items("bmlama17", path="...", languages=["en", "fr"])
table = cj.score(model, items)                       # log-probability of every answer, in every language
cj.metrics.rankc(table.scores()[:, 0], table.scores()[:, 1])
"""

import os

from etils import epy

__version__ = "0.1.0"  # the one place: setup.py reads it
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # "PyTorch was not found": it is not needed

with epy.lazy_api_imports(globals()):  # each when it is first asked for: --help waits for none of them
    from consistency_jax import metrics, objectives
    from consistency_jax.data.items import DataError, Items, ParallelItem
    from consistency_jax.data.sources import load_items
    from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained
    from consistency_jax.scoring.tables import score
    from consistency_jax.table import Table

__all__ = [
    "DataError",
    "Items",
    "Model",
    "ParallelItem",
    "Table",
    "load_items",
    "load_pretrained",
    "metrics",
    "objectives",
    "save_pretrained",
    "score",
]
