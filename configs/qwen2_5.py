"""Qwen 2.5: the experiments of "Post-Training Language Models for Crosslingual Consistency" (arXiv 2603.04678).

    python -m consistency_jax.train --workdir=runs/qwen2_5 \
        --config=configs/qwen2_5.py:size=7b,data=bmlama17,data_path=FOLDER,path=FOLDER_OR_HUB_ID
    python -m consistency_jax.train --workdir=runs/toy --config=configs/qwen2_5.py:runlocal=True

The second is the same command at toy size, random weights and embedded data, in under a minute on a laptop. Without
`path` the published checkpoint is fetched from the Hugging Face Hub (most ask you to agree to a licence first).
Options and the published settings: consistency_jax/config/recipes.py.

Reproduces the Qwen2.5 rows. Expected for 14b: on MMMLU, joint over 15 languages, CLC 68.6 before and +10.6 points with
DCO; BMLAMA-17 gains most, +12 to +17 over the paper's models.
Slice and time, by the TPU compiler (docs/slices.md), for the published 1,250 steps; loading, compiling and measuring
come on top, and a step is counted with 32 items where the recipe has 4:

    size=7b   full v5e:2x4, 7 to 19 minutes    lora=16 v5e:2x2, 10 to 19 minutes
    size=14b  full v5e:4x4, 11 to 25 minutes    lora=16 v5e:2x2, 21 to 44 minutes

Whether another size or slice fits,
`python -m consistency_jax.aot --config=configs/qwen2_5.py:lora=16 --topology=v5e:4x4` tells without a TPU.
"""

from ml_collections import ConfigDict

from consistency_jax.config import paper_config

SIZES = {
    "14b": "Qwen/Qwen2.5-14B",
    "7b": "Qwen/Qwen2.5-7B",
    "0.5b": "Qwen/Qwen2.5-0.5B",
}


def get_config(arg: str | None = None) -> ConfigDict:
    return paper_config(arg, SIZES, size="7b")
