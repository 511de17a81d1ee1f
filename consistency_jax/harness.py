"""Our models behind lm-evaluation-harness: requests with the same context are one token tree.

    python -m consistency_jax.harness run --model consistency_jax --model_args path=FOLDER --tasks hellaswag

takes the harness's own command line (what stands behind `harness` goes to it), or from Python:

    lm_eval.simple_evaluate(model=HarnessModel(path="FOLDER"), tasks=[...])

Contexts and continuations are tokenized as the harness does it for causal models: the whole string, cut where its
context ends. In front stands the BOS that the tokenizer itself puts there, if any, once where the text opens with it.
An empty context is the BOS that the tokenizer names, else EOS. `pip install -e '.[lm-eval]'`.
"""

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ModuleNotFoundError as error:
    if error.name != "lm_eval":
        raise
    message = "lm-evaluation-harness is not installed: pip install -e '.[lm-eval]'"
    if __name__ == "__main__":
        sys.exit(f"error: {message}")
    raise ImportError(message) from error

from consistency_jax.data.trees.forest import Forest, Tree
from consistency_jax.data.trees.tokenization import bos_of, encode, first_answer_token, without_row
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import GENERATION, Sampler, settings_of
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.scoring.scorer import Scorer

DRAWN = ("until", "do_sample", "temperature", "max_gen_toks", "top_k", "top_p", "repetition_penalty")
Request = tuple[
    tuple[str, str] | None, list[int], list[int]
]  # (texts), tokens of context and of continuation


BRANCHES = 1024  # tokens of the continuations in one tree, or as many as a longer context has


@register_model("consistency_jax")
class HarnessModel(TemplateLM):
    """A model of `load_pretrained`, as the harness calls it.

    Args:
      path: Hugging Face folder or hub id.
      dtype: of weights and computation, float32 or bfloat16.
      max_length: longest context + continuation, tokens; longer ones lose tokens at the left. 0: the checkpoint's own.
      max_gen_toks: tokens of a generated answer where a task does not say.
      tokens: row tokens of one scoring batch.
      seed: of sampled answers.
      batch_size, max_batch_size, device: taken from the harness's command line, and without meaning here.

    Raises:
      ConfigError: a model folder without a tokenizer.
    """

    def __init__(
        self,
        path: str = "",
        dtype: str = "float32",
        max_length: int = 0,
        max_gen_toks: int = 256,
        tokens: int = 8192,
        seed: int = 0,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
        **others: Any,
    ):
        super().__init__()
        if others or not path:
            wrong = ", ".join(others) or "no path"
            takes = "path=FOLDER, dtype, max_length, max_gen_toks, tokens and seed"
            raise ConfigError(f"--model_args has {wrong}; this model takes {takes}")
        self.max_length, self.max_gen_toks, self._tokens, self._seed = (
            _count(*own)
            for own in (
                ("max_length", max_length, 0),
                ("max_gen_toks", max_gen_toks, 1),
                ("tokens", tokens, 1),
                ("seed", seed, 0),
            )
        )
        mesh = make_mesh((jax.device_count(), 1, 1))
        self._path, self._model = str(path), load_pretrained(path, dtype=dtype, mesh=mesh)
        if self._model.tokenizer is None:
            raise ConfigError(f"the model {path} has no tokenizer; put its files beside config.json")
        self.tokenizer = self._model.tokenizer
        self.max_length = self.max_length or self._model.config.max_length
        self._bos, self._told = bos_of(self.tokenizer), set()
        found = (self.tokenizer.bos_token_id, self._bos, self.eot_token_id)
        self._prefix = next((token for token in found if token is not None), None)
        self._scorer = Scorer(self._model.config, mesh)
        self._sampler = Sampler(self._model, max_length=self.max_length)
        # As generate() of transformers takes them where a task says nothing.
        authors = settings_of(self._model, GENERATION)
        named = ("top_k", "top_p", "repetition_penalty")
        told = {name: authors[name] for name in named if authors.get(name) is not None}
        self._authors = {"top_k": 50} | told  # its own, of models whose authors name none

    @property
    def eot_token_id(self) -> int | None:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is.

        Raises:
          ConfigError: the tokenizer names neither BOS nor EOS.
        """
        if self._prefix is None:
            mend = "name one in its tokenizer_config.json"
            raise ConfigError(
                f"{self._path}: a request has no context, and the tokenizer no BOS and no EOS: {mend}"
            )
        return self._prefix

    @property
    def tokenizer_name(self) -> str:
        return self._path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        ids = next(encode(self.tokenizer, [self._readable(string)], special=True, offsets=False)).ids
        opened = add_special_tokens is None and ids[:1] in ([self._bos], [self._prefix])
        put = self._bos is not None and add_special_tokens is not False and not opened
        return [self._bos, *ids] if put else ids

    def _readable(self, text: str) -> str:
        """The text; halves of characters, which JSON can write and no tokenizer takes, become U+FFFD, and are told."""
        readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if readable != text:
            self._tell_once(f"a text holds half a character, read as U+FFFD: {readable[-60:]!r}")
        return readable

    def _tell_once(self, what: str) -> None:
        if what not in self._told:
            print(f"harness: {what}", file=sys.stderr)
        self._told.add(what)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of context and continuation as the harness parts them. Where a token spans both, that may leave it no
        continuation: the token is scored then, as `cj.score` does."""
        before, after = super()._encode_pair(context, continuation)
        if not after:
            encoding = next(encode(self.tokenizer, [self._readable(context + continuation)], special=True))
            whole = self.tok_encode(context + continuation)
            first = first_answer_token(encoding, len(context.rstrip())) + len(whole) - len(encoding.ids)
            before, after = whole[:first], whole[first:]
        return before or [self.prefix_token_id], after

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as the tokenizer's chat template writes it.

        Raises:
          ConfigError: there is none, or it fails, as many do over a system prompt or two turns of one speaker.
        """
        try:
            return self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except Exception as error:  # a template computes what it likes, and fails as it likes
            turns = ", ".join(turn["role"] for turn in chat_history)
            raise ConfigError(
                f"the chat template of {self._path} fails over the turns {turns} ({type(error).__name__}: {error}); "
                "leave out --system_instruction, --fewshot_as_multiturn or --apply_chat_template"
            ) from error

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As the harness's own, which ends over a request without context and continuation."""
        asked: list[Request] = []
        for request in requests:
            context, continuation = request.args
            if context:
                before, after = self._encode_pair(context, continuation)
            else:
                after = self.tok_encode(continuation, add_special_tokens=False)
                before = [self.prefix_token_id]
                after = after[1:] if after[:1] == before else after
            asked.append(((context, continuation), before, after))
        return self._loglikelihood_tokens(asked, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """(log-probability, whether it is the greedy answer) of each continuation: 0 of none, and -inf of one that is
        longer than the model takes, or where a token has no row in its embedding; each is told."""
        branches: dict[tuple[int, ...], list[int]] = {}  # context -> its requests
        answers: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        for number, (texts, context, continuation) in enumerate(requests):
            room = self.max_length + 1 - len(continuation)  # the last token is predicted and not fed
            if not continuation:
                _tell(number, texts or (), "its continuation has no token")
                continue
            reason = f"its continuation alone takes more than {self.max_length} tokens"
            if room > 0:
                told = without_row([*context[-room:], *continuation], self._model.config.vocab_size)
                reason = told and f"it holds {told}"
            if reason:
                answers[number] = (-math.inf, False)
                _tell(number, texts or (), reason)
            else:
                branches.setdefault(tuple(context[-room:]), []).append(number)
        parts = [
            (context, own)
            for context, all_ in branches.items()
            for own in self._parts(context, all_, requests)
        ]
        order = [number for _, own in parts for number in own]
        trees = [Tree.of_tokens(context, [requests[n][2] for n in own]) for context, own in parts]
        if not trees:
            return answers
        widest = max(len(own) for _, own in parts)
        progress = "" if disable_tqdm else "loglikelihood"
        found = self._scorer(
            self._model.params,
            Forest.of(trees),
            candidates=widest,
            greedy=True,
            tokens=self._tokens,
            progress=progress,
        )
        there = np.arange(widest) < np.array([len(own) for _, own in parts])[:, None]
        for number, logp, greedy in zip(
            order, found["logp"][there].tolist(), found["greedy"][there].tolist()
        ):
            answers[number] = (logp, greedy)
            if requests[number][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[number][0], answers[number])
        return answers

    def _parts(
        self, context: Sequence[int], numbers: Sequence[int], requests: Sequence[Request]
    ) -> Iterator[list[int]]:
        """The requests of one context, so many at a time as fit one tree: where a task has no context, or texts are
        scored whole, all requests of the run have the same."""
        room = max(len(context), min(BRANCHES, self._tokens))
        part: list[int] = []
        taken = 0
        for number in numbers:
            size = len(requests[number][2])
            if part and taken + size > room:
                yield part
                part, taken = [], 0
            part.append(number)
            taken += size
        yield part

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        windows: list[Request] = []
        counts = []
        for request in requests:
            own = list(self._windows(request.args[0]))
            windows += own
            counts.append(len(own))
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        totals = [sum(logp for logp, _ in itertools.islice(scores, count)) for count in counts]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _windows(self, text: str) -> Iterator[Request]:
        """A text as continuations that follow each other, each with what it may be predicted from."""
        for pair in get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        ):
            yield None, *make_disjoint_window(pair)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text written behind each context; empty, and told, where a token has no row in the embedding.

        Raises:
          ConfigError: an answer may be as long as the model's context.
        """
        eos = None if self.eot_token_id is None else self.tokenizer.decode([self.eot_token_id])
        answers: list[str] = [""] * len(requests)
        same: dict[Sampling, dict[int, np.ndarray]] = {}  # the prompts of each
        for number, request in enumerate(requests):
            text, options = request.args
            sampling = self._sampling(options, eos)
            room = self.max_length - sampling.max_tokens
            if room < 1:
                raise ConfigError(
                    f"max_gen_toks={sampling.max_tokens} leaves no room in max_length={self.max_length} tokens; "
                    "lower it in --gen_kwargs or the task"
                )
            tokens = self.tok_encode(text)[-room:] or [self.prefix_token_id]
            if told := without_row(tokens, self._model.config.vocab_size):
                _tell(number, (text,), f"it holds {told}")
            else:
                same.setdefault(sampling, {})[number] = np.array(tokens, np.int32)
        for sampling, prompts in same.items():
            drawn = self._sampler.generate_tokens(
                list(prompts.values()), n=1, sampling=sampling, seed=self._seed
            )
            for number, (tokens,) in zip(prompts, drawn, strict=True):
                text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                answers[number] = postprocess_generated_text(text, list(sampling.stop), None)
                self.cache_hook.add_partial("generate_until", requests[number].args, answers[number])
        return answers

    def _sampling(self, options: dict[str, Any], eos: str | None) -> Sampling:
        """What `gen_kwargs` say; those that nothing here does are told, once.

        Raises:
          ConfigError: a value that is none.
        """
        try:
            given = self._authors | {name: value for name, value in options.items() if value is not None}
            settings = normalize_gen_kwargs(given, self.max_gen_toks)
            stop = handle_stop_sequences(settings.get("until"), eos=eos)
            sampling = Sampling(
                max_tokens=settings["max_gen_toks"],
                temperature=float(settings.get("temperature", 1.0)) if settings.get("do_sample") else 0.0,
                top_k=int(settings.get("top_k", 0)),
                top_p=float(settings.get("top_p", 1.0)),
                repetition_penalty=float(settings.get("repetition_penalty", 1.0)),
                stop=tuple("".join([text]) for text in stop),  # TypeError for what is no text
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"gen_kwargs {options}: {error}") from error
        for name, value in settings.items():
            if name not in DRAWN and value not in (None, False, 0, 1):
                self._tell_once(f"gen_kwargs {name}={value!r} does nothing here")
        return sampling


def _count(name: str, value: Any, least: int) -> int:
    """A whole number of --model_args, checked."""
    try:
        if int(value) == float(value) and int(value) >= least:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ConfigError(f"--model_args {name}={value!r} is no whole number from {least} on")


def _tell(number: int, texts: Sequence[str], reason: str) -> None:
    ends = f" ({' + '.join(repr(text[-60:]) for text in texts)})" if texts else ""
    print(f"harness: request {number}{ends} is left out: {reason}", file=sys.stderr)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except UserError as error:
        sys.exit(f"error: {error}")
