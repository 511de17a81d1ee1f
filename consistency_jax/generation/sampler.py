"""Answers from the model itself, on its mesh: prompts are prefilled in batches, then one jitted loop draws all answers.

A prompt and its n answers are one tree: the prompt is the trunk, every answer a branch. So the prompt's keys and values
are computed once, stand once in the cache, and all n answers read them there; a step of the loop feeds one token of
each branch and sees what scoring the same tree would see.

    columns of a row:   prompt, right-padded [S]  |  token 0 of answers 1..n  |  token 1 of answers 1..n  | ...
"""

import dataclasses
import functools
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.items import ParallelItem
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.chat import ChatTemplate
from consistency_jax.data.trees.tokenization import encode, without_row
from consistency_jax.errors import CheckpointError
from consistency_jax.generation import Cut, GenerationError, Sampling, before_stop, check_sampling
from consistency_jax.generation.sampling import sample_token
from consistency_jax.models.attention import Columns
from consistency_jax.models.decoder import Decoder, DecoderConfig, Params, logits
from consistency_jax.models.huggingface import Model
from consistency_jax.models.kv_cache import Cache, extended, new_cache
from consistency_jax.runtime.files import read_json
from consistency_jax.runtime.mesh import fetch, mesh_of, on_mesh, put, row_groups, rows_sharding

SHORTEST = 16  # tokens to which the shortest prompts are padded; longer ones to a power of two
GENERATION = "generation_config.json"  # how a model's authors want it to be drawn from
CHUNK = 32  # tokens between two looks for stop texts


def settings_of(model: Model, name: str) -> dict[str, Any]:
    """What a JSON file beside the model says; {} where there is none.

    Raises: CheckpointError where it is no JSON object.
    """
    path = None if model.folder is None else Path(model.folder) / name
    if path is None or not path.is_file():
        return {}
    try:
        return dict(read_json(path).items())
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is no JSON object: {error}") from error


def end_tokens(model: Model, chat: ChatTemplate | None = None) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's EOS, those of generation_config.json and config.json, and in a
    chat the one that ends a turn, which training puts behind answers too.

    Raises: CheckpointError where one of those files says none.
    """
    found = set()
    if chat is not None and chat.end:
        turn = next(encode(model.tokenizer, [chat.end], special=True)).ids
        found.update(turn if len(turn) == 1 else ())
    if model.tokenizer is not None and model.tokenizer.eos_token_id is not None:
        found.add(model.tokenizer.eos_token_id)
    for name in (GENERATION, "config.json"):
        named = settings_of(model, name).get("eos_token_id")
        named = named if isinstance(named, list) else [] if named is None else [named]
        if any(type(token) is not int for token in named):
            raise CheckpointError(
                f"{model.folder}/{name}: eos_token_id is {named!r:.60}; it must be a token's number, or a list"
            )
        found.update(named)
    drawn = range(model.config.vocab_size)
    return tuple(sorted(token for token in found if token in drawn))


# ---------------------------------------------------------------------------------------------------------- on device
class PromptBatch(NamedTuple):
    """A batch of R prompts."""

    tokens: jax.Array  # i32[R, S], right-padded
    length: jax.Array  # i32[R]; 0 in rows that hold no prompt
    number: jax.Array  # i32[R], which of all prompts it is


class DecodeState(NamedTuple):
    """Where n answers to each of R prompts stand."""

    cache: Cache
    step: jax.Array  # i32[], tokens drawn of each answer
    tokens: jax.Array  # i32[R, n, max_tokens]
    done: jax.Array  # bool[R, n]
    seen: jax.Array | None  # bool[R, n, V], where a penalty needs it


def _with_next_token(
    config: DecoderConfig,
    sampling: Sampling,
    ends: tuple[int, ...],
    params: Params,
    state: DecodeState,
    hidden: jax.Array,
    prompts: PromptBatch,
    seed: jax.Array,
) -> DecodeState:
    """The state after one more token of each answer: hidden [R, n, D] predicts it."""
    token = sample_token(
        logits(params, config, hidden), state.seen, sampling, seed, prompts.number, state.step
    )
    tokens = jax.lax.dynamic_update_index_in_dim(state.tokens, token, state.step, axis=2)
    ended = (token[..., None] == jnp.array(ends, jnp.int32)).any(-1)
    seen = state.seen
    if seen is not None:
        seen = seen | jax.nn.one_hot(token, config.vocab_size, dtype=bool)
    return DecodeState(state.cache, state.step + 1, tokens, state.done | ended, seen)


_STATIC = ("config", "sampling", "ends")


@functools.partial(jax.jit, static_argnames=(*_STATIC, "n"))
def _prefill(
    params: Params,
    prompts: PromptBatch,
    seed: jax.Array,
    *,
    config: DecoderConfig,
    sampling: Sampling,
    ends: tuple[int, ...],
    n: int,
) -> DecodeState:
    """Reads the prompts and draws the first token of every answer."""
    rows, width = prompts.tokens.shape
    place = jnp.broadcast_to(jnp.arange(width), (rows, width))
    inside = place < prompts.length[:, None]
    columns = Columns(place, inside.astype(jnp.int32), jnp.zeros_like(place))
    hidden, new = Decoder(config, keep=True).apply({"params": params}, prompts.tokens, *columns)
    last = jnp.maximum(prompts.length - 1, 0)[:, None, None]
    hidden = jnp.take_along_axis(hidden, last, axis=1)  # [R, 1, D]
    seen = None
    if sampling.repetition_penalty != 1:
        token = jnp.where(inside, prompts.tokens, config.vocab_size)  # out of bounds: dropped
        seen = (
            jnp.zeros((rows, config.vocab_size), bool)
            .at[jnp.arange(rows)[:, None], token]
            .set(True, mode="drop")
        )
        seen = jnp.broadcast_to(seen[:, None], (rows, n, config.vocab_size))
    state = DecodeState(
        cache=new_cache(new, columns, room=n * (sampling.max_tokens - 1)),
        step=jnp.int32(0),
        tokens=jnp.zeros((rows, n, sampling.max_tokens), jnp.int32),
        done=jnp.broadcast_to(prompts.length[:, None] == 0, (rows, n)),
        seen=seen,
    )
    hidden = jnp.broadcast_to(hidden, (rows, n, hidden.shape[-1]))
    return _with_next_token(config, sampling, ends, params, state, hidden, prompts, seed)


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnames="state")
def _proceed(
    params: Params,
    state: DecodeState,
    prompts: PromptBatch,
    seed: jax.Array,
    until: jax.Array,
    *,
    config: DecoderConfig,
    sampling: Sampling,
    ends: tuple[int, ...],
) -> DecodeState:
    """Draws on until every answer is done or has `until` tokens."""
    rows, n, _ = state.tokens.shape
    width = prompts.tokens.shape[1]
    branch = jnp.broadcast_to(jnp.arange(1, n + 1), (rows, n))

    def unfinished(state: DecodeState) -> jax.Array:
        return (state.step < until) & ~state.done.all()

    def one_more(state: DecodeState) -> DecodeState:
        before = state.step - 1
        token = jax.lax.dynamic_index_in_dim(state.tokens, before, axis=2, keepdims=False)
        positions = jnp.broadcast_to(prompts.length[:, None] + before, (rows, n))
        columns = Columns(positions, jnp.ones_like(branch), branch)
        hidden, new = Decoder(config, keep=True).apply({"params": params}, token, *columns, cache=state.cache)
        state = state._replace(cache=extended(state.cache, new, columns, at=width + n * before))
        return _with_next_token(config, sampling, ends, params, state, hidden, prompts, seed)

    return jax.lax.while_loop(unfinished, one_more, state)


# ------------------------------------------------------------------------------------------------------- over prompts
class Answer(NamedTuple):
    """What was drawn behind a prompt, as tokens and as text."""

    tokens: np.ndarray  # i32[length >= 1], as drawn, with the end token or stop text that ended it
    text: str  # what it adds to the prompt, without that end; `Cut` where nothing ended it
    end: int | None  # the end token, which stands last in tokens; None where something else ended it


class Sampler:
    """A `Generator` that runs the model on its own mesh.

    Args:
      model: from `load_pretrained`; its parameters stay where they are.
      chat: renders prompts as turns of a conversation; None: they are continued as plain text.
      max_length: longest prompt, tokens; longer ones lose tokens at the left, after BOS.
      columns: of the cache of one batch (a prompt, padded, and all tokens of its answers take one each); one prompt a
        row group is always taken.

    Attributes:
      params: the parameters; others of the same kind may be put in their place.
    """

    def __init__(
        self,
        model: Model,
        *,
        chat: ChatTemplate | None = None,
        max_length: int = 1024,
        columns: int = 65536,
    ):
        self.params = model.params
        self._config = dataclasses.replace(model.config, remat="none")
        self._ends = end_tokens(model, chat)
        self._mesh = mesh_of(model.params)
        self._columns = columns
        self._tokenizer = model.tokenizer
        self._builder = None
        if model.tokenizer is not None:
            # One token is left to the answer that a tree needs and `encode` does not.
            self._builder = TreeBuilder(model.tokenizer, max_length=max_length + 1, chat=chat)

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[str]]:
        """n answers for each prompt: what follows it, up to EOS, a stop text or `max_tokens`.

        The same arguments give the same answers, whatever the mesh and the batches (to rounding).

        Raises:
          GenerationError: for settings that cannot be drawn with, or a model without a tokenizer.
          DataError: a prompt that holds a special token the tokenizer cannot read as text.
        """
        answers = self.sample(self.encode(prompts), n=n, sampling=sampling, seed=seed)
        return [[answer.text for answer in own] for own in answers]

    def encode(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Prompts as the trunks of trees: the tokens that a candidate's score is conditioned on in training."""
        if self._builder is None:
            raise GenerationError("generation: the model has no tokenizer; put its files beside config.json")
        items = [ParallelItem(f"prompt {i}", "", {"": p}, {"": ("a",)}) for i, p in enumerate(prompts)]
        trees = self._builder.build(items, [""])
        return [tree.trunk for tree in trees]

    def sample(
        self, prompts: Sequence[np.ndarray], *, n: int, sampling: Sampling, seed: int
    ) -> list[list[Answer]]:
        """n answers for each prompt i32[length >= 1], each with its very tokens: what a log-probability is of.

        Raises:
          GenerationError: for settings that cannot be drawn with, or a model without a tokenizer.
        """
        if self._tokenizer is None:
            raise GenerationError("generation: the model has no tokenizer; put its files beside config.json")
        answers = self.generate_tokens(prompts, n=n, sampling=sampling, seed=seed, ends=True)
        return [
            [self._answer(prompt, answer, sampling.stop) for answer in own]
            for prompt, own in zip(prompts, answers, strict=True)
        ]

    def _answer(self, prompt: np.ndarray, tokens: np.ndarray, stop: tuple[str, ...]) -> Answer:
        """The answer that tokens, drawn up to an end token or further than a stop text, hold."""
        end = int(tokens[-1]) if tokens[-1] in self._ends else None
        body = tokens if end is None else tokens[:-1]

        def stopped(count: int) -> bool:
            text = self._text(prompt, body[:count])
            return any(ending in text for ending in stop)

        if stop and stopped(len(body)):  # the draw ended with the token in which the stop text did
            tokens = body[: bisect_left(range(len(body)), True, key=stopped)]
            return Answer(tokens, self._text(prompt, body, stop), None)
        text = self._text(prompt, body)
        return Answer(tokens, Cut(text) if end is None else text, end)

    def generate_tokens(
        self,
        prompts: Sequence[np.ndarray],
        *,
        n: int,
        sampling: Sampling,
        seed: int,
        ends: bool = False,
    ) -> list[list[np.ndarray]]:
        """n answers i32[<= max_tokens] for each prompt i32[length >= 1], without the token that ended them (with it, if
        `ends`).

        Answers in which a stop text was found end somewhere behind it.

        Raises:
          GenerationError: settings that cannot be drawn with, stop texts without a tokenizer, or a prompt that is empty
            or holds a token without a row in the embedding.
        """
        check_sampling(sampling, n)
        if any(not len(prompt) for prompt in prompts):
            raise GenerationError("generation: a prompt has no token; give the tokenizer a BOS")
        for prompt in prompts:
            if told := without_row(prompt, self._config.vocab_size):
                raise GenerationError(f"generation: a prompt holds {told}; is it another model's tokenizer?")
        if sampling.stop and self._tokenizer is None:
            raise GenerationError("generation: stop texts need a tokenizer; put its files beside config.json")
        copies, n = (n, 1) if sampling.temperature == 0 else (1, n)  # all the likeliest answers are one
        batches = self._batches([len(prompt) for prompt in prompts], n * sampling.max_tokens)
        answers: list[list[np.ndarray]] = [[] for _ in prompts]
        for numbers, rows, width in batches:
            tokens = np.zeros((rows, width), np.int32)
            length = np.zeros(rows, np.int32)
            for row, number in enumerate(numbers):
                length[row] = len(prompts[number])
                tokens[row, : length[row]] = prompts[number]
            number = np.pad(np.array(numbers, np.int32), (0, rows - len(numbers)))
            found = self._run(PromptBatch(tokens, length, number), n, sampling, seed)
            for own, number in zip(found, numbers, strict=False):
                answers[number] = [self._ended(answer, ends) for answer in own] * copies
        return answers

    def _run(self, prompts: PromptBatch, n: int, sampling: Sampling, seed: int) -> np.ndarray:
        """i32[R, n, steps]: the tokens of one batch, with whatever follows their ends."""
        # What the programs need not know is left out, so that they are compiled once.
        static = {
            "config": self._config,
            "sampling": dataclasses.replace(sampling, stop=()),
            "ends": self._ends,
        }
        sharding = rows_sharding(self._mesh)
        placed = put(prompts, PromptBatch(*[sharding] * 3))
        with on_mesh(self._mesh):
            key = np.uint32(seed % 2**32)
            state = _prefill(self.params, placed, key, n=n, **static)
            chunk = CHUNK if sampling.stop else sampling.max_tokens
            until = 1
            while until < sampling.max_tokens:
                until = min(until + chunk, sampling.max_tokens)
                state = _proceed(self.params, state, placed, key, np.int32(until), **static)
                if not sampling.stop:
                    continue
                tokens, step, done = fetch((state.tokens, state.step, state.done))
                done = done | self._stopped(prompts, tokens[:, :, :step], sampling.stop)
                if done.all():
                    break
                state = state._replace(done=put(done, sharding))
        tokens, step = fetch((state.tokens, state.step))
        return tokens[:, :, : int(step)]

    def _stopped(self, prompts: PromptBatch, tokens: np.ndarray, stop: tuple[str, ...]) -> np.ndarray:
        """bool[R, n]: answers whose text holds a stop text."""
        stopped = np.zeros(tokens.shape[:2], bool)
        for row, length in enumerate(prompts.length):
            for s in range(tokens.shape[1] if length else 0):
                text = self._text(prompts.tokens[row, :length], self._ended(tokens[row, s]))
                stopped[row, s] = any(end in text for end in stop)
        return stopped

    def _ended(self, tokens: np.ndarray, with_end: bool = False) -> np.ndarray:
        """Tokens up to the first that ends an answer, without it or with it."""
        ends = np.flatnonzero(np.isin(tokens, self._ends))
        return tokens[: ends[0] + with_end] if len(ends) else tokens

    def _text(self, prompt: np.ndarray, answer: np.ndarray, stop: tuple[str, ...] = ()) -> str:
        """The text that the answer adds to the prompt, up to the first stop text."""

        def decode(ids: np.ndarray) -> str:
            return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

        # Decoded alone, a sentencepiece answer would lose the space it begins with.
        text = decode(np.concatenate([prompt, answer]))[len(decode(prompt)) :]
        return before_stop(text, stop)

    def _batches(self, lengths: list[int], room: int) -> list[tuple[list[int], int, int]]:
        """(prompts, rows, padded length) of each batch: long prompts first, full batches of few shapes.

        Args:
          lengths: of the prompts.
          room: columns that a prompt's answers take.
        """
        groups = row_groups(self._mesh)
        order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
        batches = []
        while order:
            width = max(SHORTEST, 1 << (lengths[order[0]] - 1).bit_length())
            rows = max(1, self._columns // ((width + room) * groups))  # a group
            needed = -(-len(order) // groups)
            rows = groups * min(rows, 1 << (needed - 1).bit_length())
            batches.append((order[:rows], rows, width))
            order = order[rows:]
        return batches
