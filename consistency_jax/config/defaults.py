"""The default of every config key; `checks.py` says which values may stand there."""

from typing import Any

from ml_collections import ConfigDict

OPTIMIZERS = ("adamw", "adafactor", "lion", "muon")
ROUNDINGS = ("nearest", "stochastic", "master")  # see training/precision.py


class Section(ConfigDict):
    """A section with a key `items`, which ConfigDict would hide behind its method of that name."""

    @property
    def items(self) -> int:
        return self["items"]

    @items.setter
    def items(self, value: int) -> None:
        self["items"] = value


def default() -> ConfigDict:
    """The default of every key. A config may only hold keys that stand here (dicts marked free take any)."""
    return ConfigDict(
        {
            "seed": 0,
            "total_steps": 1000,  # steps of the objective (the embedded pretraining counts its own)
            "model": {
                "path": "",  # Hugging Face folder or hub id; empty: the base model that `pretrain` makes
                "dtype": "float32",  # of the parameters
                "compute_dtype": "float32",  # of activations and matmul inputs; sums are float32 always
                "attention": "auto",  # auto | xla | splash (TPU) | cudnn (NVIDIA GPU)
                "remat": "none",  # none | full | dots
                "scan_layers": True,  # False inlines them: longer to compile, for small models on CPU faster
                "architecture": {},  # free: config.json keys of a model made here; its vocabulary is `pretrain`'s
            },
            "data": {
                "source": "jsonl",
                "path": "",
                "languages": (),  # empty: all that the source has
                "options": {},  # free: passed on to the source
                "train": Section(
                    {
                        "split": "train",
                        "items": 0,  # the first so many; 0: all
                        "languages": (),  # those trained on; empty: all of data.languages, which tests always have
                        "groups": (),  # those trained on (relations, subjects); empty: all
                        "pairs": "",  # JSONL of preference pairs, trained on instead of the split (and of `selection`)
                    }
                ),
                "test": (
                    "test",
                ),  # splits that are measured before and after, and reported; "every": every row
                "test_groups": (),  # what is measured of them; empty: all groups
                "test_items": 0,  # so many of each split, evenly spaced over it; 0: all
                "on_error": "raise",  # raise | skip
                "max_length": 1024,  # tokens of a prompt with its longest answer; cut from the left
                "boundary": "separate",  # how training tokenizes: separate | joint
                "chat_template": "off",  # off | tokenizer: prompts as turns of a chat, by its template
                "system_prompt": "",  # of that chat; empty: none
            },
            "objective": {
                "name": "dco",
                "partners": "all",  # all | random
                "candidates": "all",  # all | pair: two drawn ones, for dco, pco_exact and pco_rollout
                "false_examples": False,  # dco, pco_exact: leave the gold answers of labelled items out
                "scale": "mean",  # mean | product | one
                "steer": {},  # free: language -> weight > 0, larger stays closer to the reference; default 1
                "normalization": "mean",  # sft, sft_all: mean (per token) | sum
                # dpo, simpo, orpo, mpo: the wrong candidate. hardest: the likeliest for the base model, which then
                # scores the training data for simpo and orpo too; not for mpo
                "rejected": "random",  # random | hardest
                # dpo: factor of log-ratios of sums; simpo (2 and more) and mpo (1 to 1.5): of means per token
                "beta": 0.1,
                "label_smoothing": 0.0,  # dpo, simpo: share of labels held to be wrong, below 0.5
                "gamma": 0.0,  # dpo: weight of the gold answer's NLL per token
                "margin": 1.0,  # simpo: what beta * the difference should exceed (the paper's gamma)
                "samples": 8,  # pco_rollout: answers drawn for each item and language, 2 or more
                "kl": "sequence",  # pco_rollout: sequence | token (an answer's divergence divided by its length)
                "odds_weight": 0.1,  # orpo: weight of the odds ratio (the paper's lambda)
            },
            "auxiliary": {  # losses that are added to any objective's
                "mlc": Section(
                    {
                        "weight": 0.0,  # the paper's lambda, 0.8 there; 0: off
                        "tau": 0.2,
                        "layer": -1,  # whose states: -1 after the final norm, else what layer n (from 0) gives
                        "width": 512,  # of the extractor, which is trained jointly and not exported
                        "every": 2,  # on every n-th optimizer step
                        "split": "",  # multilingual prompts to feed beside the batch; empty: those of its own items
                        "items": 8,  # how many of them such a step takes; batching.accumulate divides it
                    }
                )
            },
            # pco_rollout: where the answers come from that the policy draws, objective.samples for each item and
            # language. candidates: among the item's own. generate: free text, drawn from the model at each step, its
            # translation scored by the stage's reference. Temperature 1, top_k 0, top_p 1 draw from the policy itself;
            # others do not, and the gradient is then an approximation
            "rollout": {
                "source": "candidates",  # candidates | generate
                "max_tokens": 32,
                "temperature": 1.0,
                "top_k": 0,
                "top_p": 1.0,
                "stop": (),  # texts that end an answer
                # table (the item's aligned candidates; another answer does not count) | model (the stage's reference,
                # prompted to translate) | package.module:function(texts, source, target)
                "translator": "table",
                "translations": 1,  # of each answer, where they are drawn; averaged inside the reward's log
            },
            # Stages one after the other: each starts from the last one's parameters, which are its reference. Names of
            # objectives, or of entries of `stage`; empty: `objective` alone. "pretrain" may stand first
            "stages": (),
            "stage": {},  # free: stage -> what it sets otherwise than this config (keys: STAGE_KEYS)
            # Preference pairs made from the training split, by train.py (with the parameters it starts from; it then
            # trains on them) or by pairs.py. What a model ranks candidates by is evaluation.normalization.
            "selection": {
                "name": "",  # gold | random | calm | cm_align (selection/); empty: none, the items are trained on
                "rejected": "random",  # gold: the wrong candidate, random | hardest (the best for the model)
                "form": "likelihood",  # calm: likelihood (votes by the table) | sampling (votes by sampled answers)
                "agreeing": "drop",  # calm, likelihood: drop | random: languages that agree reject another one
                "task": "general",  # cm_align: mathematics | code | general
                "reference": "en",  # cm_align: the language whose answers the others are compared to
                "margin": 0.0,  # cm_align: by how much chosen and rejected must differ in consistency
                "encoder": "model",  # cm_align, general: model (its own states), or a sentence-transformers model
                "samples": 0,  # sampled forms: answers to a question in each language; 0: 3 for calm, 8 for cm_align
                "engine": "sampler",  # sampled forms: sampler (this model, here) | URL of an OpenAI-compatible server
                "engine_model": "",  # the model's name at that server
                "translator": "",  # calm, sampling: model | package.module:function; empty: own answers alone
                "instructions": {},  # free: language -> what calm tells the model to do with a question
                "batch": 64,  # prompts answered before the answers are kept
                "max_tokens": 256,
                "temperature": 0.9,
                "top_k": 0,
                "top_p": 0.95,
                "stop": (),
            },
            "batching": Section(
                {
                    # grouped: whole items in all their (train) languages. random: examples in random order; one is
                    # what an objective learns from, an item with its languages (dco, pco_exact, mpo: these
                    # compare them) or a single language of it (sft, dpo, simpo, orpo). An epoch is the same in both
                    "name": "random",
                    "items": 8,  # of one optimizer step; examples of single languages: as many as these items have
                    "languages": 0,  # languages drawn per item; 0: all
                    "accumulate": 1,  # micro-batches of one optimizer step; divides items
                    "shapes": 4,  # batch shapes that may be compiled
                    "row_length": 0,  # tokens of a row; 0: planned from the data
                }
            ),
            "optimizer": optimizer_defaults(),
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},  # -1: the devices that the others leave
            "lora": {
                "rank": 0,  # 0: no adapters, every parameter is trained
                "alpha": 32.0,  # adapters count alpha / rank times
                "targets": "attention|mlp",  # regular expression: projections ("layers/attention/query") with adapters
                "dtype": "float32",  # of the adapters
            },
            "pretrain": {
                "total_steps": 0,
                "options": {},  # free: passed on to the source's corpus
                "vocabulary": 4096,
                "sentences": 256,  # of one step
                "log_every": 50,
                "checkpoint_every": 500,
                "optimizer": optimizer_defaults(),
            },
            "evaluation": {
                "boundary": "joint",
                "normalization": "mean_full",  # sum | mean | mean_full | bytes | pmi
                # also score what the others need (prompts, answers alone), to report all five side by side
                "all_normalizations": False,
                "tokens": 8192,  # fed per scoring batch
                "every": 0,  # steps between evaluations inside training; 0: none
                "split": "validation",  # the split of those
                "bootstrap": 2000,  # resamples behind each interval
                "groups": {},  # free: name -> languages whose figures are also reported apart
                # Answers that the model writes, looked up among the item's candidates in its own language
                "generation": Section(
                    {
                        "splits": (),  # of data.test, whose questions it answers; empty: none
                        "items": 0,  # the first so many of each; 0: all
                        "match": "normalised",  # normalised (case, width, punctuation, spaces do not count) | exact
                        "max_tokens": 32,
                        "temperature": 0.0,  # 0: the likeliest token always
                        "top_k": 0,
                        "top_p": 1.0,
                        "stop": ("\n",),  # texts that end an answer
                    }
                ),
                # Who refuses: bare prompts of harmful requests, and harmless ones (over-refusal); empty source: none
                "safety": Section(
                    {
                        "harmful": prompt_defaults(),
                        "harmless": prompt_defaults(),
                        "languages": (),  # empty: all that the source has
                        "items": 0,  # the first so many of each; 0: all
                        # patterns (metrics/safety.py) | package.module:function(prompts, responses, languages), one
                        # verdict from 0 to 1 a response, 1 where it refuses
                        "judge": "patterns",
                        "max_tokens": 128,
                        "temperature": 0.0,
                        "top_k": 0,
                        "top_p": 1.0,
                        "stop": (),
                    }
                ),
            },
            "checkpoint": {"every": 100, "keep": 2},
            "compile_cache": "",  # folder that keeps compiled programs for the next start; empty: none
            "logging": {"every": 10, "tensorboard": True, "wandb": ""},  # wandb: a project name
        }
    )


def prompt_defaults() -> dict[str, Any]:
    return {"source": "", "path": "", "split": "", "options": {}}  # as of `data`; split empty: every row


def optimizer_defaults() -> dict[str, Any]:
    return {
        "name": "adamw",  # adamw | adafactor | lion | muon
        "learning_rate": 1e-5,
        "matrix_learning_rate": 0.02,  # muon: of the layers' matrices
        "schedule": "linear",  # linear | cosine | constant, after the warm-up
        "warmup_steps": 0,
        "end": 0.0,  # share of the learning rate that is left at the last step
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "clip_norm": 1.0,  # 0: no clipping
        "freeze": "",  # regular expression: parameters that are not trained
        # An update is computed in float32 always; these say how it is kept (see training/precision.py).
        "state_dtype": "",  # of moments: float32 | bfloat16; empty: as the parameters
        "rounding": "nearest",  # of bfloat16 parameters: nearest | stochastic | master (a float32 copy beside them)
    }
