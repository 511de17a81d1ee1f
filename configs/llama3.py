"""Llama 3.1 and 3.2: experiments of "Post-Training Language Models for Crosslingual Consistency" (arXiv 2603.04678).

    python -m consistency_jax.train --workdir=runs/llama3 \
        --config=configs/llama3.py:size=8b,data=bmlama17,data_path=FOLDER,path=FOLDER_OR_HUB_ID
    python -m consistency_jax.train --workdir=runs/toy --config=configs/llama3.py:runlocal=True

The second is the same command at toy size, random weights and embedded data, in under a minute on a laptop. Without
`path` the published checkpoint is fetched from the Hugging Face Hub (most ask you to agree to a licence first).
Options and the published settings: consistency_jax/config/recipes.py.

Reproduces the Llama rows. Expected for 8b: on MMMLU, joint over 15 languages, CLC 60.9 before and +9.4 points with DCO;
BMLAMA-17 gains most, +12 to +17 over the paper's models.
Slice and time, by the TPU compiler (docs/slices.md), for the published 1,250 steps; loading, compiling and measuring
come on top, and a step is counted with 32 items where the recipe has 4:

    size=8b   full v5e:2x4, 8 to 21 minutes    lora=16 v5e:2x2, 11 to 22 minutes
    size=3b   full v5e:2x2, 8 to 16 minutes    lora=16 v5e:1x1, 19 to 35 minutes

Whether another size or slice fits,
`python -m consistency_jax.aot --config=configs/llama3.py:lora=16 --topology=v5e:4x4` tells without a TPU.
"""

from ml_collections import ConfigDict

from consistency_jax.config import paper_config

SIZES = {
    "8b": "meta-llama/Llama-3.1-8B",
    "3b": "meta-llama/Llama-3.2-3B",
    "1b": "meta-llama/Llama-3.2-1B",
}


def get_config(arg: str | None = None) -> ConfigDict:
    return paper_config(arg, SIZES, size="8b")
