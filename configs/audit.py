"""How consistent is a model? Any Hugging Face folder or GGUF file, measured as it is, without training.

    python -m consistency_jax.evaluate --workdir=runs/audit \
        --config=configs/audit.py:path=FOLDER_OR_HUB_ID,data=bmlama17,data_path=FOLDER

`data` is any data set with answers (docs/data.md): bmlama17, mmmlu, xcsqa ..., or cldr, facts that come with the
package and need no `data_path`; or a file, a folder or a data set of the Hugging Face Hub, whose columns are named.
Further options, in the same list:

    prompt=question,candidates=a+b+c+d,gold=answer,language=lang,id=id,group=subject,answers=letters
                        columns of a CSV, TSV, Parquet or JSONL file (docs/data.md, "Any table")
    languages=en+sw     which of the data's; by default the published ones, else all
    items=500           so many questions, evenly spaced over the data; 0: all
    split=every         every row, or test: what the published experiments hold out, by seed=0
    boundary=joint      joint: full strings are tokenized, as published; separate: prompt and answer apart
    normalization=mean_full     what candidates are ranked by: mean_full (as published), sum, mean, bytes or pmi
    dtype=float32       of weights and computation: float32 or bfloat16
    chat=False          ask in the model's chat format
    tokens=4096         fed at once; more for an accelerator

Writes report.json ("base" and the "confidence" of each of its figures), report.html and tables/base.npz. A killed run
goes on with the same command from what it scored, to the same bits. Reproduces the "base" row of the published
evaluation: on MMMLU in 15 languages CLC 68.6 for Qwen2.5-14B, 60.9 for Llama-3.1-8B and 72.2 for Aya-Expanse-8B.
For a real checkpoint of 260 thousand parameters that was trained on English stories (hf_stories260K), all of BMLAMA-17
in 17 languages gives CLC 22.5 [22.4, 22.7] and 12.9 % right in English, both little above chance, in 7 minutes on 2
cores.
"""

from ml_collections import ConfigDict

from consistency_jax.config import ConfigError, default, parse_arg
from consistency_jax.config.recipes import COLUMNS, set_source


def get_config(arg: str | None = None) -> ConfigDict:
    given = parse_arg(
        arg,
        path="",
        data="",
        data_path="",
        **COLUMNS,
        languages="",
        items=0,
        split="every",
        boundary="joint",
        normalization="mean_full",
        dtype="float32",
        chat=False,
        tokens=4096,
        seed=0,
    )
    if not given.path:
        raise ConfigError("--config option path is missing: a Hugging Face folder or hub id, path=...")
    if not given.data and not given.data_path:
        mend = "a file (data=questions.jsonl), cldr (facts that come along), or a data set and its data_path"
        raise ConfigError(f"--config option data is missing: {mend}")
    given.data = given.data or "bmlama17"
    config = default()
    config.seed = given.seed
    config.model.path = given.path
    config.model.dtype = config.model.compute_dtype = given.dtype
    set_source(config, given)
    config.data.test, config.data.test_items = (given.split,), given["items"]
    config.data.chat_template = "tokenizer" if given.chat else "off"
    config.evaluation.update(boundary=given.boundary, normalization=given.normalization, tokens=given.tokens)
    return config
