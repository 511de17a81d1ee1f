"""Your own model and your own questions.

    python -m consistency_jax.train --workdir=runs/mine \
        --config=configs/custom.py:path=FOLDER_OR_HUB_ID,data=questions.jsonl

`data` is a JSONL file, one parallel item a line (parted here over three; DCO and PCO use "gold" for the report alone):

    {"id": "q1", "group": "geography", "gold": 0,
     "prompts": {"en": "The capital of France is", "sw": "Mji mkuu wa Ufaransa ni"},
     "candidates": {"en": [" Paris", " Rome"], "sw": [" Paris", " Roma"]}}

or the name of a data set (docs/data.md), whose folder or file is `data_path`: data=mmmlu,data_path=FOLDER; or a CSV,
TSV, Parquet or JSONL file, a folder of such or a data set of the Hugging Face Hub, whose columns are named by `prompt`,
`candidates`, `gold`, `language`, `id`, `group`, `answers` (docs/data.md, "Any table").

A fifth of the items (drawn with `seed`; of a published set its test split) is held out and reported. To watch training
on others, keep some for it: --config.data.options.validation_size=0.1 --config.evaluation.every=100. `method` is the
objective. `anchor` is the language to keep as it is, where languages are drawn to each other (dco, pco_exact,
pco_rollout): it gets the steering weight `weight`, the others 1; auto is English, or none where `languages` has no
"en"; another must be one of the languages; leave it empty to treat all alike. `lora` is the rank of adapters, 0 trains
every weight (adapters want a higher `lr`, 1e-4 say). `dtype` is float32, as a laptop's CPU likes it; bfloat16 on
accelerators: half the memory for weights, and faster there, with stochastic rounding and moments in float32.
Time: `steps` steps of `items` items in all their languages.
"""

from ml_collections import ConfigDict

from consistency_jax.config import ConfigError, default, parse_arg
from consistency_jax.config.recipes import COLUMNS, published, set_source
from consistency_jax.objectives import OBJECTIVES


def get_config(arg: str | None = None) -> ConfigDict:
    given = parse_arg(
        arg,
        path="",
        data="",
        data_path="",
        **COLUMNS,
        languages="",
        method="dco",
        anchor="auto",
        weight=2.0,
        steps=500,
        lr=1e-5,
        items=4,
        lora=0,
        dtype="float32",
        seed=0,
    )
    if given.method not in OBJECTIVES:
        raise ConfigError(f"--config option method={given.method!r}; choose from {', '.join(OBJECTIVES)}")
    config = default()
    published(config)
    config.objective.name = given.method
    config.seed = given.seed
    config.total_steps = given.steps
    config.model.path = given.path
    config.model.dtype = config.model.compute_dtype = given.dtype
    set_source(config, given)
    anchor, steers = given.anchor, "steer" in OBJECTIVES[given.method].keys
    if anchor == "auto":  # where no languages are named, the data tell whether English is among them
        anchor = "en" if "en" in (config.data.languages or ("en",)) else ""
    for key, idle in {"anchor": ("", "auto"), "weight": (2.0,)}.items():
        if given[key] not in idle and not (steers and anchor):
            none = "anchor=" if not given.anchor else "anchor=auto without English"
            why = none if steers else f"method={given.method}"
            raise ConfigError(f"--config option {key}={given[key]!r} does nothing with {why}; leave it out")
    if anchor and steers:
        if "." in anchor:
            mend = "name the language without a dot, in the data too"
            raise ConfigError(f"--config option anchor={anchor!r}: {mend}")
        config.objective.steer = {anchor: given.weight}
    config.batching.items = given["items"]
    config.optimizer.learning_rate = given.lr
    if given.lora:
        config.lora.update(rank=given.lora, alpha=2.0 * given.lora)
    config.optimizer.update(rounding="stochastic", state_dtype="float32")
    return config
