"""Answers of a real checkpoint on two meshes of simulated devices; prints one JSON object."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import make_mesh

if __name__ == "__main__":
    folder = Path(sys.argv[1]) / "checkpoints" / "hf_stories260K"
    texts = {}
    for name in ("1x1x1", "2x2x2"):
        sizes = tuple(map(int, name.split("x")))
        mesh = make_mesh(sizes, jax.devices()[: int(np.prod(sizes))])
        sampler = Sampler(load_pretrained(folder, mesh=mesh))
        texts[name] = sampler.generate(
            ["Once", "The dog", "Lily went to", "One day,", "A"],
            n=3,
            sampling=Sampling(
                max_tokens=30, temperature=0.8, top_p=0.95, repetition_penalty=1.1, stop=(". Th",)
            ),
            seed=3,
        )
    print(json.dumps(texts))
