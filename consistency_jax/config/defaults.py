"""Every config key in one row: its default, what may stand there, what it does.

`default()`, the checks of single keys (checks.py) and --helpfull are made from these rows. The options of an objective
stand in its own module, objectives/NAME.py; what concerns several keys is checked in checks.py.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict, config_dict

from consistency_jax.data.sources import ON_ERROR, SOURCES
from consistency_jax.data.trees.builder import BOUNDARIES, ENDS
from consistency_jax.metrics.generation import MATCHES
from consistency_jax.models.attention import CHOICES
from consistency_jax.models.configured import AUTO
from consistency_jax.models.decoder import REMATS
from consistency_jax.models.lora import DTYPES
from consistency_jax.models.quantised import BASES
from consistency_jax.objectives import OBJECTIVES
from consistency_jax.runtime.keys import (
    ANY,
    DECAY,
    ENGINE,
    LANGUAGES,
    LAYER,
    NAMES,
    NOT_NEGATIVE,
    POSITIVE,
    REGEX,
    SHARE,
    SOME_NAMES,
    TEXT,
    TEXTS,
    Key,
    Rule,
    or_function,
)
from consistency_jax.table import NORMALIZATIONS

# ------------------------------------------------------------------------------------ sections that are like each other
OPTIMIZER = {
    "name": Key("adamw", ("adamw", "adafactor", "lion", "muon"), "The optimizer"),
    "learning_rate": Key(1e-5, POSITIVE, "At the end of the warm-up"),
    "matrix_learning_rate": Key(0.02, POSITIVE, "muon: of the layers' matrices"),
    "schedule": Key("linear", ("linear", "cosine", "constant"), "Of the learning rate, after the warm-up"),
    "warmup_steps": Key(0, NOT_NEGATIVE, "Steps of linear warm-up from 0"),
    "end": Key(0.0, NOT_NEGATIVE, "Share of the learning rate that is left at the last step"),
    "b1": Key(0.9, DECAY, "Decay of the first moment; muon: not of matrices"),
    "b2": Key(0.999, DECAY, "Decay of the second moment; muon: not of matrices"),
    "eps": Key(1e-8, POSITIVE, "Added to the root of the second moment"),
    "weight_decay": Key(0.0, NOT_NEGATIVE, "Decoupled, times the learning rate; muon: of matrices alone"),
    "clip_norm": Key(1.0, NOT_NEGATIVE, "Gradients are scaled down to this global norm; 0: never"),
    "freeze": Key("", REGEX, "Parameters that are not trained, searched in names as layers/mlp/up/kernel"),
    # An update is computed in float32 always; these say how it is kept (training/precision.py).
    "state_dtype": Key("", ("", *DTYPES), "Of moments; empty: as the parameters"),
    "rounding": Key(
        "nearest", ("nearest", "stochastic", "master"), "Of bfloat16 weights; master: a float32 copy"
    ),
}
PROMPTS = {
    "source": Key("", ANY, "As data.source; empty: none"),
    "path": Key("", ANY, "As data.path"),
    "split": Key("", ANY, "Which of the source's; empty: every row"),
    "options": Key({}, ANY, "Passed on to the source"),
}


def drawn_answers(
    max_tokens: int, temperature: float, top_p: float, stop: tuple[str, ...] = (), least: Rule = NOT_NEGATIVE
) -> dict[str, Key]:
    """The rows that say how answers are drawn."""
    return {
        "max_tokens": Key(max_tokens, POSITIVE, "Longest answer"),
        "temperature": Key(temperature, least, "1: from the model itself; 0: the likeliest token always"),
        "top_k": Key(0, NOT_NEGATIVE, "Drawn among the k likeliest tokens; 0: all"),
        "top_p": Key(top_p, SHARE, "Drawn among the likeliest tokens with this share together; 1: all"),
        "stop": Key(stop, TEXTS, "What ends an answer, beside the model's own end"),
    }


# ------------------------------------------------------------------------------------------------------------ every key
KEYS: dict[str, dict[str, Key]] = {
    "": {
        "seed": Key(0, NOT_NEGATIVE, "Of all that is drawn"),
        "total_steps": Key(1000, POSITIVE, "Optimizer steps of the objective, or of each stage"),
        # Each starts from the last one's parameters, which are its reference; "pretrain" may stand first.
        "stages": Key((), ANY, "Objectives, or entries of stage, one by one; empty: objective alone"),
        "stage": Key({}, ANY, "stage.NAME.KEY: what a stage sets otherwise than this config"),
        "compile_cache": Key("", ANY, "Folder that keeps compiled programs for the next start; empty: none"),
    },
    "model": {
        "path": Key("", ANY, "Hugging Face folder or hub id; empty: the base model that pretrain makes"),
        "dtype": Key("float32", DTYPES, "Of the parameters"),
        "compute_dtype": Key("float32", DTYPES, "Of activations and matmul inputs; sums are float32 always"),
        "attention": Key("auto", CHOICES, "Kernel: splash is for TPU, cudnn for NVIDIA GPUs"),
        "remat": Key("none", (*REMATS, AUTO), "Computed again in the backward pass; auto: what memory wants"),
        "scan_layers": Key(True, ANY, "False inlines them: slow to compile, for small models on CPU faster"),
        "architecture": Key({}, ANY, "config.json keys of a model made here (its vocabulary is pretrain's)"),
    },
    "data": {
        "source": Key("jsonl", SOURCES, "The data set"),
        "path": Key("", ANY, "Its folder, file or hub id"),
        "languages": Key((), NAMES, "Which of the source's; empty: all"),
        "options": Key({}, ANY, "Passed on to the source"),
        "test": Key(("test",), SOME_NAMES, "Splits that are measured and reported; every: every row"),
        "test_groups": Key((), NAMES, "Relations or subjects that are measured of them; empty: all"),
        "test_items": Key(0, NOT_NEGATIVE, "So many of each split, evenly spaced over it; 0: all"),
        "on_error": Key("raise", ON_ERROR, "What a bad row does; skip: how many and the first are printed"),
        "max_length": Key(1024, POSITIVE, "Tokens of a prompt with its longest answer; cut from the left"),
        "boundary": Key("separate", BOUNDARIES, "How training tokenizes prompt and answer"),
        # named: also one that the tokenizer only names, as the published recipe says
        "bos": Key(
            "tokenizer", ("tokenizer", "named"), "Before a text: what the tokenizer itself puts there"
        ),
        "chat_template": Key("off", ("off", "tokenizer"), "tokenizer: prompts as turns of its chat"),
        "system_prompt": Key("", ANY, "Of that chat; empty: none"),
    },
    "data.train": {
        "split": Key("train", ANY, "The split that is trained on"),
        "items": Key(0, NOT_NEGATIVE, "So many, evenly spaced over the split; 0: all"),
        "languages": Key((), NAMES, "Those trained on; empty: data.languages, which tests always have"),
        "groups": Key((), NAMES, "Relations or subjects trained on; empty: all"),
        "pairs": Key("", ANY, "JSONL of preference pairs to train on, not on the split (nor by selection)"),
        # The chat template's end of turn, or EOS. Candidates that are ranked are not written, as published.
        "end": Key("written", ENDS, "Behind which answers the model learns to stop"),
    },
    "objective": {"name": Key("dco", OBJECTIVES, "What is optimized; each has options of its own, below")},
    "auxiliary.mlc": {
        "weight": Key(0.0, NOT_NEGATIVE, "Of this loss beside any objective's, the paper's lambda; 0: off"),
        "tau": Key(0.2, POSITIVE, "Temperature"),
        "layer": Key(-1, LAYER, "Whose states: what layer n (from 0) gives; -1: after the final norm"),
        "width": Key(512, POSITIVE, "Of the extractor, which is trained jointly and not exported"),
        "every": Key(2, POSITIVE, "On every n-th optimizer step"),
        "split": Key("", ANY, "Multilingual prompts to feed beside the batch; empty: those of its own items"),
        "items": Key(8, POSITIVE, "How many of them such a step takes; batching.accumulate divides it"),
    },
    # Where the answers of pco_rollout come from: the item's own candidates, or free text that the policy writes at each
    # step, its translation scored by the stage's reference. Temperature 1, top_k 0, top_p 1 draw from the policy
    # itself; others do not, and the gradient is then an approximation.
    "rollout": {
        "source": Key("candidates", ("candidates", "generate"), "pco_rollout: where its answers come from"),
        **drawn_answers(32, temperature=1.0, top_p=1.0, least=POSITIVE),
        # table: the item's aligned candidates, another answer does not count; model: the stage's reference, prompted
        # to translate; a function of (texts, source, target).
        "translator": Key("table", or_function("table", "model"), "Of written answers"),
        "translations": Key(
            1,
            POSITIVE,
            "Of each answer, drawn of a model; averaged in the reward's log, as are all of a function",
        ),
    },
    # Preference pairs made from the training split, by train.py (with the parameters that it starts from; it then
    # trains on them) or by pairs.py. What a model ranks candidates by is evaluation.normalization.
    "selection": {
        "name": Key("", ("", "gold", "random", "calm", "cm_align"), "Makes preference pairs; empty: none"),
        "rejected": Key("random", ("random", "hardest"), "gold: the wrong one; hardest: the model's best"),
        "form": Key("likelihood", ("likelihood", "sampling"), "calm: votes of the table, or of answers"),
        "agreeing": Key("drop", ("drop", "random"), "calm: who agrees is left out, or rejects another"),
        "ties": Key("drop", ("drop", "first"), "calm, sampling: a tied vote; first: as the published code"),
        "positive": Key(
            "random", ("random", "last"), "calm, sampling: of the majority's answers; last: as that code"
        ),
        "task": Key("general", ("mathematics", "code", "general"), "cm_align: how answers are compared"),
        "reference": Key("en", ANY, "cm_align: the language whose answers the others are compared to"),
        "margin": Key(0.0, NOT_NEGATIVE, "cm_align: least difference in consistency of chosen and rejected"),
        "encoder": Key("model", ANY, "cm_align, general: the model, or a sentence-transformers model"),
        "samples": Key(0, NOT_NEGATIVE, "Answers to a question in each language; 0: calm 3, cm_align 8"),
        "engine": Key("sampler", ENGINE, "What samples answers: this model or an OpenAI-compatible server"),
        "engine_model": Key("", ANY, "The model's name at that server"),
        "translator": Key("", or_function("", "model"), "calm, sampling; empty: own answers alone"),
        "instructions": Key({}, TEXT, "language -> what calm tells the model to do with a question"),
        "batch": Key(64, POSITIVE, "Prompts answered before the answers are kept"),
        **drawn_answers(256, temperature=0.9, top_p=0.95),
    },
    # grouped: whole items in all their (train) languages. random: examples in random order; one is what an objective
    # learns from, an item with its languages where it compares them, else a single language. An epoch is the same.
    "batching": {
        "name": Key("random", ("random", "grouped"), "Examples in random order, or whole items together"),
        "items": Key(8, POSITIVE, "Of one optimizer step; of single languages as many as these items have"),
        "languages": Key(0, NOT_NEGATIVE, "Languages drawn for each item; 0: all"),
        "accumulate": Key(1, POSITIVE, "Micro-batches of one optimizer step; divides items"),
        "shapes": Key(4, POSITIVE, "Batch shapes that may be compiled"),
        "row_length": Key(0, NOT_NEGATIVE, "Tokens of a row; 0: planned from the data"),
    },
    "optimizer": OPTIMIZER,
    "mesh": {
        "data": Key(-1, ANY, "Copies of the parameters; -1: the devices that the others leave"),
        "fsdp": Key(1, ANY, "Devices that share the parameters, gathered layer by layer"),
        "tensor": Key(1, ANY, "Devices that share each layer's work"),
    },
    "lora": {
        "rank": Key(0, ANY, "Of the adapters; 0: none, every parameter is trained"),
        "alpha": Key(32.0, ANY, "Adapters count alpha / rank times"),
        "targets": Key("attention|mlp", REGEX, "Projections with adapters, as layers/attention/query"),
        "dtype": Key("float32", DTYPES, "Of the adapters"),
        "base": Key(
            "none", BASES, "Projections beside them, which stay: none: as model.dtype; int8, nf4: quantised"
        ),
    },
    "pretrain": {
        "total_steps": Key(0, NOT_NEGATIVE, "Steps that make the base model where model.path is empty"),
        "options": Key({}, ANY, "Passed on to the source's corpus"),
        "vocabulary": Key(4096, POSITIVE, "Tokens of its tokenizer"),
        "sentences": Key(256, POSITIVE, "Of one step"),
        "log_every": Key(50, POSITIVE, "Steps"),
        "checkpoint_every": Key(500, POSITIVE, "Steps"),
    },
    "pretrain.optimizer": OPTIMIZER,
    "evaluation": {
        "boundary": Key("joint", BOUNDARIES, "How prompt and answer are tokenized"),
        "normalization": Key("mean_full", NORMALIZATIONS, "What candidates are ranked by"),
        "all_normalizations": Key(False, ANY, "Also score what the others need, and report all five"),
        "tokens": Key(8192, POSITIVE, "Fed per scoring batch"),
        "every": Key(0, NOT_NEGATIVE, "Steps between evaluations inside training; 0: none"),
        "split": Key("validation", ANY, "The split of those"),
        "bootstrap": Key(2000, POSITIVE, "Resamples behind each interval"),
        "groups": Key({}, LANGUAGES, "name -> languages whose figures are also reported apart"),
    },
    "evaluation.generation": {
        "splits": Key((), NAMES, "Of data.test, whose questions the model answers in free text; empty: none"),
        "items": Key(0, NOT_NEGATIVE, "The first so many of each; 0: all"),
        "match": Key("normalised", MATCHES, "normalised: case, width, punctuation, spaces do not count"),
        **drawn_answers(32, temperature=0.0, top_p=1.0, stop=("\n",)),
    },
    # Who refuses: bare prompts of harmful requests, and harmless ones (over-refusal).
    "evaluation.safety": {
        "languages": Key((), NAMES, "Which of the sources'; empty: all"),
        "items": Key(0, NOT_NEGATIVE, "The first so many of each; 0: all"),
        # A function of (prompts, responses, languages) gives one verdict from 0 to 1 a response, 1 where it refuses.
        "judge": Key("patterns", or_function("patterns"), "Who tells refusals (patterns: metrics/safety.py)"),
        **drawn_answers(128, temperature=0.0, top_p=1.0),
    },
    "evaluation.safety.harmful": PROMPTS,
    "evaluation.safety.harmless": PROMPTS,
    "checkpoint": {
        "every": Key(100, POSITIVE, "Steps between checkpoints"),
        "keep": Key(2, POSITIVE, "The newest so many"),
    },
    "logging": {
        "every": Key(10, POSITIVE, "Steps between lines of the log"),
        "tensorboard": Key(True, ANY, "Also writes tensorboard/ into the workdir"),
        "wandb": Key("", ANY, "Project of Weights & Biases; empty: none"),
    },
}


class Section(ConfigDict):
    """A section with a key `items`, which ConfigDict would hide behind its method of that name."""

    @property
    def items(self) -> int:
        return self["items"]

    @items.setter
    def items(self, value: int) -> None:
        self["items"] = value


def default() -> ConfigDict:
    """The default of every key. A config may only hold keys that stand here (dicts that are free take any).

    The options of objectives are None here, or an empty dict: unset. The objective's own default then holds.
    """
    config = ConfigDict()
    for section, keys in KEYS.items():
        place = config
        for name in filter(None, section.split(".")):
            if name not in place:
                place[name] = (Section if "items" in keys else ConfigDict)()
            place = place[name]
        for key, row in keys.items():
            place[key] = row.default
    for objective in OBJECTIVES.values():
        for option, row in objective.keys.items():
            kind = type(row.default)
            config.objective[option] = {} if kind is dict else config_dict.placeholder(kind)
    return config


def rows(objective: str) -> dict[str, Key]:
    """ "section.key" -> its row, with the options of this objective."""
    own = {"objective": KEYS["objective"] | OBJECTIVES[objective].keys}
    return {
        f"{section}.{key}".lstrip("."): row
        for section, keys in (KEYS | own).items()
        for key, row in keys.items()
    }


def help_text() -> str:
    """Every key as --helpfull shows it, by section."""
    return "\n".join(("\nconfig keys: --config.SECTION.KEY=VALUE", *_help_lines()))


def _help_lines() -> Iterator[str]:
    for section, keys in KEYS.items():
        first = next(other for other, known in KEYS.items() if known is keys)
        if first != section:
            yield f"\n{section}: the keys of {first}"
            continue
        yield f"\n{section or 'of the run'}"
        for key, row in keys.items():
            yield from row.lines(key)
        for name, objective in OBJECTIVES.items() if section == "objective" else ():
            alike = [other for other, own in OBJECTIVES.items() if own.keys == objective.keys]
            if name == alike[0]:
                yield f"\nobjective, where name is {' or '.join(alike)}"
                for key, row in objective.keys.items():
                    yield from row.lines(key)
