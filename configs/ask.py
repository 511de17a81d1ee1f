"""What does a model answer, in its own words, in every language? Questions of any data set, or a table of your own.

    consistency-jax ask --path=MODEL --data=mgsm --data_path=FOLDER --chat=True --max_tokens=512 --out=answers.jsonl

    consistency-jax ask --path=NAME --server=http://localhost:8000/v1 --chat=True --data=mine.jsonl --out=answers.jsonl

`path` is a Hugging Face folder, a GGUF file, or the name that a server knows the model by (its key in OPENAI_API_KEY).
`data` is any data set (docs/data.md): mgsm, multiloko ..., or one with candidates, whose names are then not shown; or a
file, a folder or a data set of the Hugging Face Hub. What is written is read by consistency-jax audit --from=FILE.
Beside --out it keeps FILE.drawn, from which the same command goes on when it was killed. Further options:

    prompt=question,targets=answer,language=lang,id=id,group=subject
                        columns of a CSV, TSV, Parquet or JSONL file (docs/data.md, "Any table"); targets: what is right
    languages=en+sw     which of the data's; by default the published ones, else all
    items=500           so many questions, evenly spaced over the data; 0: all
    split=every         every row, or test
    chat=False          ask in the model's chat format (/v1/chat/completions, else /v1/completions); system_prompt=...
    max_tokens=32       longest answer
    temperature=0       0: the likeliest token always; 1: from the model itself (with --samples=10)
    dtype=float32       of weights and computation: float32 or bfloat16
    seed=0              of what is drawn

Without chat an answer ends with its line.
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
        targets="",
        languages="",
        items=0,
        split="every",
        chat=False,
        system_prompt="",
        max_tokens=32,
        temperature=0.0,
        dtype="float32",
        seed=0,
    )
    if not given.path:
        raise ConfigError(
            "--path is missing: a Hugging Face folder or hub id, or a server's name of the model"
        )
    if not given.data:
        raise ConfigError("--data is missing: a data set (docs/data.md), or a file with questions")
    config = default()
    config.seed = given.seed
    config.model.path = given.path
    config.model.dtype = config.model.compute_dtype = given.dtype
    set_source(config, given, bare=True)
    if config.data.source == "jsonl":
        config.data.options.bare = True
    config.data.test, config.data.test_items = (given.split,), given["items"]
    config.data.chat_template = "tokenizer" if given.chat else "off"
    config.data.system_prompt = given.system_prompt
    stop = () if given.chat else ("\n",)
    config.evaluation.generation.update(max_tokens=given.max_tokens, temperature=given.temperature, stop=stop)
    return config
