"""Answers from an OpenAI-compatible server (vLLM, SGLang, `transformers serve`, ...), for jobs too large to run here.

Serve the exported folder, then `Endpoint("http://host:8000/v1", "name")` stands where a `Sampler` would. The server's
own tokenizer reads the prompts: with BOS where it puts one.
"""

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any

import numpy as np

from consistency_jax.generation import Cut, GenerationError, Sampling, before_stop, check_sampling
from consistency_jax.runtime.files import parse_json
from consistency_jax.runtime.processes import on_main

LATER = (408, 409, 425, 429)  # beside 5xx: HTTP statuses after which the same request may succeed
LONGEST_WAIT_S = 60.0
# Statuses of a request that has no answer, where others of its kind may have one.
OF_THE_PROMPT = (400, 413, 422)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another place, and leave the request's body behind."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _RefusedError(GenerationError):
    """A prompt that the server does not take: too long for it, or caught by a filter of its content."""


class Endpoint:
    """A `Generator` that asks a server, several prompts at a time.

    Args:
      url: up to and with the version, "http://localhost:8000/v1".
      model: the name that the server knows the model by.
      chat: prompts are the user's turns of a conversation (chat/completions); else they are continued (completions).
      system_prompt: the system's turn of such a conversation; empty for none.
      concurrency: requests under way at once.
      timeout_s: of one request.
      retries: how often a request is sent again when the server is away, busy (408, 409, 425, 429) or fails (5xx).
      backoff_s: the wait before it is first sent again; it doubles each time.
      key_variable: environment variable that holds the key, where the server wants one.
      skip_refused: a prompt that the server refuses (400, 413, 422) has empty answers and is told, where it answered
        another; else it ends all.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        chat: bool = False,
        system_prompt: str = "",
        concurrency: int = 16,
        timeout_s: float = 600.0,
        retries: int = 4,
        backoff_s: float = 1.0,
        key_variable: str = "OPENAI_API_KEY",
        skip_refused: bool = False,
    ):
        if not url.startswith(("http://", "https://")):
            raise GenerationError(f"endpoint: the url {url!r} must begin with http:// or https://")
        if system_prompt and not chat:
            raise GenerationError("endpoint: a system prompt needs chat=True")
        self._url = f"{url.rstrip('/')}/{'chat/completions' if chat else 'completions'}"
        self._model, self._chat, self._system = model, chat, system_prompt
        self._concurrency, self._timeout_s = concurrency, timeout_s
        self._retries, self._backoff_s = retries, backoff_s
        self._key_variable = key_variable
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._skip_refused, self._answered = skip_refused, False

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[str]]:
        """n answers for each prompt, in order; alike for the same arguments as far as the server keeps to its seed.

        Raises:
          GenerationError: settings that cannot be drawn with; a server that is away, refuses a request, or answers
            with something else. Says which, with what the server said.
        """
        check_sampling(sampling, n)
        return on_main(lambda: self._generate(prompts, n, sampling, seed))  # one asks, for all processes

    def _generate(self, prompts: Sequence[str], n: int, sampling: Sampling, seed: int) -> list[list[str]]:
        pool, ended = ThreadPoolExecutor(self._concurrency), threading.Event()
        try:
            asked = [
                pool.submit(self._answers, prompt, n, sampling, (seed, i), ended)
                for i, prompt in enumerate(prompts)
            ]
            answers, refused = [], []
            for future in asked:
                try:
                    answers.append(future.result())
                except _RefusedError as error:
                    if not self._skip_refused:
                        raise
                    answers.append([""] * n)
                    refused.append(error)
            if refused and not self._answered:  # then it isn't the prompt that is wrong
                raise refused[0]
            if refused:
                print(f"note: {len(refused)} of {len(prompts)} prompts have no answer: {refused[0]}")
            return answers
        finally:  # after an error nothing more is asked
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _answers(
        self, prompt: str, n: int, sampling: Sampling, seed: tuple[int, int], ended: threading.Event
    ) -> list[str]:
        """n answers to one prompt, unless all has `ended`; a server that gives fewer at a time is asked again."""
        answers: list[str] = []
        while len(answers) < n and not ended.is_set():
            # Every request has a seed of its own, so that one prompt asked twice has different answers.
            own = int(np.random.SeedSequence((*seed, len(answers))).generate_state(1)[0] >> 1)
            found = self._post(self._body(prompt, n - len(answers), sampling, own), ended)
            self._answered = True
            answers += [before_stop(text, sampling.stop) for text in found]
        return answers[:n]

    def _body(self, prompt: str, n: int, sampling: Sampling, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        if self._chat:
            system = [{"role": "system", "content": self._system}] if self._system else []
            body["messages"] = [*system, {"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        # Not every server knows these: they are sent only where they say something.
        said = {
            "n": (n, 1),
            "stop": (list(sampling.stop), []),
            "top_k": (sampling.top_k, 0),
            "repetition_penalty": (sampling.repetition_penalty, 1.0),
        }
        return body | {name: value for name, (value, silent) in said.items() if value != silent}

    def _post(self, body: dict[str, Any], ended: threading.Event) -> list[str]:
        """The texts of one request's answer; it is not sent again once all has `ended`."""
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._key_variable, "").strip():  # a mounted secret ends in a newline
            if not key.isprintable() or not key.isascii():  # and is not shown
                raise GenerationError(f"endpoint: {self._key_variable} holds characters that no header takes")
            headers["Authorization"] = f"Bearer {key}"
        try:
            request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)
        except ValueError as error:
            raise GenerationError(f"endpoint: {self._url} is no address: {error}") from None
        tries = self._retries + 1
        for number in range(1, tries + 1):
            wait = min(self._backoff_s * 2 ** (number - 1), LONGEST_WAIT_S)
            try:
                with self._opener.open(request, timeout=self._timeout_s) as response:
                    return self._texts(response.read())
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read(2000).decode(errors="replace").strip()
                problem = f"status {error.code}, and said: {said}"
                if place := error.headers.get("Location"):
                    problem += f" (redirects are not followed: give the address that leads to {place})"
                if error.code < 500 and error.code not in LATER:
                    kind = _RefusedError if error.code in OF_THE_PROMPT else GenerationError
                    raise kind(f"endpoint: {self._url} refused the request: {problem}") from None
                wait = min(_seconds(error.headers.get("Retry-After", ""), wait), LONGEST_WAIT_S)
            except UnicodeError as error:  # of a host, or of a path
                raise GenerationError(f"endpoint: {self._url} is no address: {error}") from None
            except TimeoutError:
                problem = f"no answer within timeout_s={self._timeout_s:g} s"
            except (OSError, HTTPException) as error:  # refused, reset, cut off; URLError wraps these
                reason = getattr(error, "reason", error)
                problem = f"{type(reason).__name__}: {reason}; is the server up?"
                if isinstance(reason, TimeoutError):
                    problem = f"no answer within timeout_s={self._timeout_s:g} s"
            if number < tries and ended.wait(wait):
                break
        raise GenerationError(f"endpoint: {self._url} failed {tries} times, the last time: {problem}")

    def has_answered(self) -> None:
        """Tells it that the server answered before: a prompt that it refuses is then wrong itself."""
        self._answered = True

    def _texts(self, answer: bytes) -> list[str]:
        try:
            choices = parse_json(answer)["choices"]
            found = [
                # null of a model that reasoned until its tokens were used up, or refused: it has said nothing
                ("" if text is None and end else text, Cut if end == "length" else str)
                for choice in choices
                for end in [choice.get("finish_reason")]
                for text in [choice["message"].get("content") if self._chat else choice["text"]]
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            found = []
        if not found or not all(isinstance(text, str) for text, _ in found):
            raise GenerationError(
                f"endpoint: {self._url} answered without choices: {answer[:500].decode(errors='replace')}"
            )
        # JSON can write half a character.
        return [kind(text.encode("utf8", "replace").decode()) for text, kind in found]


def _seconds(retry_after: str, default: float) -> float:
    """What a Retry-After asks for: seconds, or a date (RFC 9110, 10.2.3)."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return default
