"""Sentences as unit vectors: by the model's own hidden states, or by a sentence-transformers model (an extra)."""

import functools
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.packing.plan import batch_plan
from consistency_jax.data.packing.rows import Batch, pack, tree_sizes
from consistency_jax.data.trees.forest import PROMPT, UNCOUNTED, Forest, Tree
from consistency_jax.data.trees.tokenization import bos_of, encode
from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import Decoder, DecoderConfig, Params
from consistency_jax.models.flops import mask_cost
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.mesh import mesh_of, on_mesh, put, replicated, row_groups
from consistency_jax.runtime.processes import on_main
from consistency_jax.scoring.logps import batch_shardings


class Encoder(Protocol):
    """Encodes sentences of any language in one space."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """n texts -> f32[n, D], each row of length 1 (0 for a text without a token)."""


class ModelEncoder:
    """The mean of a decoder's states over a text's tokens: of the last layer, after the final norm. A BOS, where the
    tokenizer puts one, is left out.

    (BOS states are large and the same for every text.) Needs nothing but the model; how well its cosines tell meanings
    apart is the model's affair. This project's choice, the original used gte-multilingual-base.

    Args:
      model: with a tokenizer.
      max_length: tokens of a text that are read, from its start.
      tokens: row tokens of one batch.

    Raises:
      ConfigError: a model without a tokenizer.
    """

    def __init__(self, model: Model, *, max_length: int = 1024, tokens: int = 8192):
        if model.tokenizer is None:
            raise ConfigError(f"the model of {model.folder} has no tokenizer, and cannot read sentences")
        self._model, self._mesh = model, mesh_of(model.params)
        self._max_length, self._tokens = max_length, tokens
        self._run = jax.jit(
            functools.partial(_means, model.config),
            static_argnames="count",
            out_shardings=replicated(self._mesh),
        )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See `Encoder`."""
        trees = Forest.of(self._trees(texts))
        vectors = np.zeros((len(texts), self._model.config.hidden), np.float32)
        shardings = batch_shardings(self._mesh)
        cost, groups = mask_cost(self._model.config), row_groups(self._mesh)
        for planned in batch_plan(tree_sizes(trees), mask_cost=cost, tokens=self._tokens, groups=groups):
            own = trees.take(planned.padded)
            batch = pack(own, planned.shape, candidates=1)
            place = put(_owners(batch, own), replicated(self._mesh))
            with on_mesh(self._mesh):
                means = self._run(self._model.params, put(batch, shardings), place, count=planned.places)
            vectors[planned.trees] = jax.device_get(means)[: len(planned.trees)]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(length > 0, length, 1)

    def _trees(self, texts: Sequence[str]) -> list[Tree | None]:
        """Each text as a trunk alone, behind the tokenizer's BOS; None for a text without a token."""
        tokenizer = self._model.tokenizer
        bos = [] if (put := bos_of(tokenizer)) is None else [put]
        trees: list[Tree | None] = []
        for encoding in encode(tokenizer, list(texts), offsets=False):
            ids = encoding.ids[: self._max_length - len(bos)]
            kind = np.array([UNCOUNTED] * len(bos) + [PROMPT] * len(ids), np.uint8)
            trunk = np.array([*bos, *ids], np.int32)
            trees.append(Tree(trunk, (), kind, (), np.zeros(0, np.int32)) if ids else None)
        return trees


def _owners(batch: Batch, trees: Forest) -> np.ndarray:
    """i32[R * T]: the number of the tree whose mean a place counts in; len(trees) for BOS and padding."""
    owners = np.full(batch.tokens.size, len(trees), np.int32)
    for n, count in enumerate(trees.per_tree(trees.per_segment(trees.kind == PROMPT)).tolist()):
        end = batch.prompt_end[n] + 1
        owners[end - count : end] = n
    return owners


def _means(
    config: DecoderConfig, params: Params, batch: Batch, owners: jax.Array, *, count: int
) -> jax.Array:
    """f32[count, D]: the mean of the states of each owner's places."""
    hidden = Decoder(config).apply(
        {"params": params}, batch.tokens, batch.positions, batch.tree, batch.branch
    )
    hidden = hidden.reshape(-1, hidden.shape[-1]).astype(jnp.float32)
    sums = jax.ops.segment_sum(hidden, owners, num_segments=count)
    return (
        sums / jnp.maximum(jax.ops.segment_sum(jnp.ones_like(owners), owners, num_segments=count), 1)[:, None]
    )


class SentenceTransformerEncoder:
    """A model of the sentence-transformers package (`pip install 'consistency_jax[embeddings]'`), by name or folder.

    Args:
      name: of the model.
      setting: what names it, for messages.

    Raises:
      ConfigError: where the package is not installed, or has no such model.
    """

    def __init__(self, name: str, setting: str = "selection.encoder"):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ConfigError(
                f"{setting}={name!r} needs the package sentence-transformers: "
                "pip install 'consistency_jax[embeddings]'"
            ) from error
        try:
            self._model = SentenceTransformer(name)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{setting}={name!r} cannot be loaded: {error}") from error

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See `Encoder`."""
        vectors = on_main(
            lambda: self._model.encode(list(texts), normalize_embeddings=True, convert_to_numpy=True)
        )
        return np.asarray(vectors, np.float32)


def encoder_of(name: str, model: Model, *, max_length: int, tokens: int) -> Encoder:
    """The encoder that `selection.encoder` names: "model", or a sentence-transformers model."""
    if name == "model":
        return ModelEncoder(model, max_length=max_length, tokens=tokens)
    return SentenceTransformerEncoder(name)
