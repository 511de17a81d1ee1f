"""Gemma 3: the experiments of "Post-Training Language Models for Crosslingual Consistency" (arXiv 2603.04678).

    python -m consistency_jax.train --workdir=runs/gemma3 \
        --config=configs/gemma3.py:size=4b,data=bmlama17,data_path=FOLDER,path=FOLDER_OR_HUB_ID
    python -m consistency_jax.train --workdir=runs/toy --config=configs/gemma3.py:runlocal=True

The second is the same command at toy size, random weights and embedded data, in under a minute on a laptop. Without
`path` the published checkpoint is fetched from the Hugging Face Hub (most ask you to agree to a licence first).
Options and the published settings: consistency_jax/config/recipes.py.

Reproduces the Gemma rows (the text part of 4b and 12b; an export keeps the rest of the checkpoint as it was). On XCSQA
the paper trains these at a learning rate of 1e-6. Expected on BMLAMA-17: CLC +12 to +17 over the paper's models.
Slice and time, by the TPU compiler (docs/slices.md), for the published 1,250 steps; loading, compiling and measuring
come on top, and a step is counted with 32 items where the recipe has 4:

    size=4b   full v5e:2x2, 10 to 20 minutes    lora=16 v5e:1x1, 23 to 43 minutes
    size=12b  full v5e:2x4, 14 to 35 minutes    lora=16 v5e:2x2, 19 to 40 minutes

Whether another size or slice fits,
`python -m consistency_jax.aot --config=configs/gemma3.py:lora=16 --topology=v5e:4x4` tells without a TPU.
"""

from ml_collections import ConfigDict

from consistency_jax.config import paper_config

SIZES = {
    "12b": "google/gemma-3-12b-pt",
    "4b": "google/gemma-3-4b-pt",
    "1b": "google/gemma-3-1b-pt",
    "270m": "google/gemma-3-270m",
}


def get_config(arg: str | None = None) -> ConfigDict:
    return paper_config(arg, SIZES, size="4b")
