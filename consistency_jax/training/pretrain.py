"""The embedded base model: a small decoder, pretrained here on a source's own text, for runs without a checkpoint.

It is made once for its settings, as a Hugging Face folder in the user's cache folder, and shared by all workdirs: from
there on a run does not know that its base model was not downloaded. Progress is kept in that folder too, so a killed
run goes on where it was.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import jax
import numpy as np
import sentencepiece
from etils import epy
from jax.sharding import Mesh
from ml_collections import ConfigDict

from consistency_jax.config.stages import Stage
from consistency_jax.data.examples import TrainingSet
from consistency_jax.data.sources import load_corpus
from consistency_jax.data.trees.forest import Forest, Tree
from consistency_jax.data.trees.tokenization import bos_of
from consistency_jax.errors import ConfigError
from consistency_jax.models.configured import made_here
from consistency_jax.models.decoder import init_params
from consistency_jax.models.huggingface import Model, save_pretrained
from consistency_jax.models.shardings import param_shardings
from consistency_jax.models.tokenizers import load_tokenizer
from consistency_jax.objectives import make_objective
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.runtime.files import locked
from consistency_jax.runtime.mesh import row_groups
from consistency_jax.runtime.processes import check_shared, on_main, share_folder
from consistency_jax.training.loop import fit
from consistency_jax.training.stages import make_pipeline

with epy.lazy_imports():  # when it is used: a command's first line need not wait for it
    import transformers

FORMAT = 3  # raise it when the same settings would give another model


def base_folder(config: ConfigDict, sentences: Sequence[str]) -> Path:
    """The folder of the base model that these settings and this text give (made or not)."""
    settings = {
        "format": FORMAT,
        "seed": config.seed,
        "model": {name: config.model[name] for name in ("dtype", "compute_dtype")},
        "architecture": config.model.architecture.to_dict(),
        "text": hashlib.sha256("\n".join(sentences).encode()).hexdigest(),
        "max_length": config.data.max_length,
        # How often it is logged and checkpointed changes no model: the defaults stand for all.
        "pretrain": config.pretrain.to_dict() | {"log_every": 50, "checkpoint_every": 500},
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode()).hexdigest()[:16]
    return cache_folder() / "pretrained" / key


def pretrained_base(config: ConfigDict, mesh: Mesh, workdir: Path) -> Path:
    """The folder of the embedded base model; trains it first where it is not there yet, and logs that in the workdir.

    Raises:
      ConfigError: where the architecture's settings are not a decoder's.
    """
    sentences = on_main(
        lambda: load_corpus(
            config.data.source,
            languages=tuple(config.data.languages),
            seed=config.seed,
            **config.pretrain.options,
        )
    )
    folder = base_folder(config, sentences)
    made = folder / "config.json"
    if not on_main(made.is_file):
        with _one_run(folder):
            if not on_main(made.is_file):
                _pretrain(config, mesh, workdir, sentences, folder)
    share_folder(folder, last=made.name)
    return folder


@contextlib.contextmanager
def _one_run(folder: Path) -> Iterator[None]:
    """The folder, for one run alone; of its processes the first holds the lock."""
    locks: list[filelock.BaseFileLock] = []

    def acquire() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder / ".lock")
        if lock is None:
            print("pretrain: another run is making the same base model; waiting for it")
            lock = locked(folder / ".lock", wait=True)
        locks.append(lock)

    on_main(acquire)
    try:
        yield
    finally:
        for lock in locks:
            lock.release()


def _pretrain(config: ConfigDict, mesh: Mesh, workdir: Path, sentences: Sequence[str], folder: Path) -> None:
    """Makes the base model in its folder; config.json appears last."""
    stage, work = _stage(config), folder / "work"
    on_main(lambda: work.mkdir(parents=True, exist_ok=True))
    check_shared(work, "CONSISTENCY_CACHE")  # checkpoints need that; what is finished does not
    tokenizer = train_tokenizer(sentences, config.pretrain.vocabulary, work)
    architecture, decoder = made_here(config, len(tokenizer))
    params = jax.jit(lambda key: init_params(decoder, key), out_shardings=param_shardings(decoder, mesh))(
        jax.random.key(config.seed)
    )
    total = stage.config.total_steps
    print(f"pretrain: {len(sentences):,} sentences, vocabulary {len(tokenizer):,}, {total:,} steps")
    data = sentence_set(sentences, tokenizer, config.data.max_length)
    batches = make_pipeline(stage.config, data, decoder, row_groups(mesh))
    objective, _ = make_objective(stage.config.objective, ("text",))
    base = Model(decoder, params, tokenizer, architecture=architecture)
    base = fit(stage, base, objective, batches, workdir, checkpoints=work / "checkpoints")
    save_pretrained(base, work / "model")

    def move() -> None:
        shutil.copyfile(work / "tokenizer.model", work / "model" / "tokenizer.model")
        for path in sorted((work / "model").iterdir(), key=lambda path: path.name == "config.json"):
            path.replace(folder / path.name)  # config.json last: it marks the folder as complete
        shutil.rmtree(work)

    on_main(move)


def _stage(config: ConfigDict) -> Stage:
    """Pretraining as a stage of its own: `config.pretrain` where a run has its settings."""
    own, settings = config.copy_and_resolve_references(), config.pretrain
    own.total_steps, own.optimizer = settings.total_steps, settings.optimizer
    own.logging.every = settings.log_every
    own.checkpoint.update(every=settings.checkpoint_every, keep=1)
    own.objective = ConfigDict({"name": "sft", "normalization": "mean"})
    own.batching.update(name="grouped", items=settings.sentences, languages=0, accumulate=1)
    own.auxiliary.mlc.weight = 0.0
    return Stage("pretrain", folder="", pairs="", config=own)


def train_tokenizer(
    sentences: Sequence[str], size: int, folder: Path
) -> "transformers.PreTrainedTokenizerFast":
    """A sentencepiece BPE model with byte fallback, as folder/tokenizer.model.

    Raises:
      ConfigError: where the text cannot fill the vocabulary.
    """
    try:
        on_main(
            lambda: sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sorted(set(sentences))),
                model_prefix=str(folder / "tokenizer"),
                model_type="bpe",
                vocab_size=size,
                character_coverage=0.9995,
                byte_fallback=True,
                split_by_unicode_script=False,  # so that a word and its colon may be one piece
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                normalization_rule_name="identity",
                max_sentence_length=8192,
                hard_vocab_limit=False,
                num_threads=1,  # so that the same text gives the same pieces
                minloglevel=2,
            )
        )
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"pretrain.vocabulary={size} does not work for this text: {error}") from error
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    return tokenizer


def sentence_set(
    sentences: Sequence[str], tokenizer: "transformers.PreTrainedTokenizerFast", max_length: int
) -> TrainingSet:
    """Sentences as trees: the BOS that the tokenizer puts is the trunk and the sentence its one branch, so that every
    token is a target."""
    numbers = {text: n for n, text in enumerate(dict.fromkeys(sentences))}
    encoded = tokenizer.backend_tokenizer.encode_batch(list(numbers), add_special_tokens=False)
    distinct = Forest.of([Tree.of_tokens([bos_of(tokenizer)], [e.ids[: max_length - 1]]) for e in encoded])
    trees, count = distinct.take(np.array([numbers[text] for text in sentences])), len(sentences)
    return TrainingSet(
        trees,
        mask=np.ones((count, 1, 1), bool),
        length=trees.length[trees.branch == 1].astype(np.int32).reshape(count, 1, 1),
        gold=np.zeros(count, np.int32),
    )
