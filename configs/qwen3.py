"""Qwen 3: the experiments of "Post-Training Language Models for Crosslingual Consistency" (arXiv 2603.04678).

    python -m consistency_jax.train --workdir=runs/qwen3 \
        --config=configs/qwen3.py:size=8b,data=bmlama17,data_path=FOLDER,path=FOLDER_OR_HUB_ID
    python -m consistency_jax.train --workdir=runs/toy --config=configs/qwen3.py:runlocal=True

The second is the same command at toy size, random weights and embedded data, in under a minute on a laptop. Without
`path` the published checkpoint is fetched from the Hugging Face Hub (most ask you to agree to a licence first).
Options and the published settings: consistency_jax/config/recipes.py.

Reproduces the Qwen3 rows. Expected on BMLAMA-17: CLC +12 to +17 over the paper's models; the figures of these rows are
not in what was published beside the paper.
Slice and time, by the TPU compiler (docs/slices.md), for the published 1,250 steps; loading, compiling and measuring
come on top, and a step is counted with 32 items where the recipe has 4:

    size=8b   full v5e:2x4, 8 to 21 minutes    lora=16 v5e:2x2, 12 to 25 minutes
    size=14b  full v5e:4x4, 11 to 27 minutes    lora=16 v5e:2x2, 21 to 41 minutes

Whether another size or slice fits,
`python -m consistency_jax.aot --config=configs/qwen3.py:lora=16 --topology=v5e:4x4` tells without a TPU.
"""

from ml_collections import ConfigDict

from consistency_jax.config import paper_config

SIZES = {
    "14b": "Qwen/Qwen3-14B",
    "8b": "Qwen/Qwen3-8B",
    "0.6b": "Qwen/Qwen3-0.6B",
}


def get_config(arg: str | None = None) -> ConfigDict:
    return paper_config(arg, SIZES, size="8b")
