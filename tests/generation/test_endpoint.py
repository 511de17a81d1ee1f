"""The endpoint against real HTTP servers: one of our own around a `Sampler`, and `transformers serve`."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from served import Answer, Served

from consistency_jax.generation import Cut, GenerationError, Sampling
from consistency_jax.generation.endpoint import Endpoint, _seconds
from consistency_jax.generation.sampler import Sampler
from consistency_jax.models.huggingface import load_pretrained


def texts(*values: str) -> Answer:
    return 200, {"choices": [{"index": i, "text": value} for i, value in enumerate(values)]}


def ask(served: Served, prompts: tuple[str, ...] = ("a",), n: int = 1, **options: Any) -> list[list[str]]:
    return Endpoint(served.url, "m", backoff_s=0.01, **options).generate(
        prompts, n=n, sampling=Sampling(), seed=0
    )


def test_it_says_what_the_sampler_behind_it_says(small_model: Path, serve: Any) -> None:
    sampler = Sampler(load_pretrained(small_model))
    lock = threading.Lock()

    def respond(body: dict[str, Any]) -> Answer:
        named = ("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty")
        sampling = Sampling(
            **{name: body[name] for name in named if name in body}, stop=tuple(body.get("stop", ()))
        )
        with lock:
            (own,) = sampler.generate(
                [body["prompt"]], n=body.get("n", 1), sampling=sampling, seed=body["seed"]
            )
        return texts(*own)

    served = serve(respond)
    endpoint = Endpoint(served.url, "m", concurrency=3)
    prompts = [f"The capital of place {i} is" for i in range(5)]
    sampling = Sampling(max_tokens=8, top_k=20, stop=("e", "o"))
    answers = endpoint.generate(prompts, n=2, sampling=sampling, seed=4)
    for prompt, own in zip(prompts, answers, strict=True):
        (body,) = [body for body in served.asked if body["prompt"] == prompt]
        assert (body["model"], body["path"]) == ("m", "/v1/completions")
        assert "repetition_penalty" not in body
        assert own == sampler.generate([prompt], n=2, sampling=sampling, seed=body["seed"])[0]
    assert len({body["seed"] for body in served.asked}) == 5
    assert answers == endpoint.generate(prompts, n=2, sampling=sampling, seed=4)
    assert answers != endpoint.generate(prompts, n=2, sampling=sampling, seed=5)


def test_a_server_that_knows_no_n_is_asked_again_with_other_seeds(serve: Any) -> None:
    served = serve(lambda body: texts(f"{body['prompt']} {body['seed']}"))
    answers = ask(served, ("a", "b", "a"), n=3)
    assert len({text for own in answers for text in own}) == len(served.asked) == 9
    assert [[text[0] for text in own] for own in answers] == [["a"] * 3, ["b"] * 3, ["a"] * 3]


def test_requests_run_side_by_side_and_no_more_than_allowed(serve: Any) -> None:
    meeting = threading.Barrier(3)

    def respond(body: dict[str, Any]) -> Answer:
        meeting.wait(timeout=30)  # passes only where three are under way at once
        return texts(body["prompt"])

    served = serve(respond)
    prompts = tuple("abcdef")
    assert ask(served, prompts, concurrency=3) == [[prompt] for prompt in prompts]
    assert served.most_under_way == 3


def test_conversations(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(
        lambda body: (200, {"choices": [{"message": {"content": body["messages"][-1]["content"]}}]})
    )
    monkeypatch.setenv("SOME_KEY", "secret")
    assert ask(served, chat=True, system_prompt="Be short.", key_variable="SOME_KEY") == [["a"]]
    assert served.asked[0]["path"] == "/v1/chat/completions"
    assert served.asked[0]["messages"][0] == {"role": "system", "content": "Be short."}
    assert served.headers[0]["Authorization"] == "Bearer secret"


def test_a_stumbling_server_is_asked_again(serve: Any) -> None:
    answers = iter([(500, b"oh"), (429, b"busy"), (503, b"soon"), texts("fine")])
    served = serve(lambda body: next(answers))
    assert ask(served) == [["fine"]]
    assert len(served.asked) == 4
    assert len({json.dumps(body) for body in served.asked}) == 1
    assert "Authorization" not in served.headers[0] or os.environ.get("OPENAI_API_KEY")


def test_a_refusal_is_told_at_once_with_its_reason(serve: Any) -> None:
    served = serve(lambda body: (400, {"error": {"message": "max_tokens is too large"}}))
    with pytest.raises(GenerationError, match="status 400.*max_tokens is too large"):
        ask(served)
    assert len(served.asked) == 1


def test_a_redirect_carries_no_key_to_another_place(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    other = serve(lambda body: texts("from elsewhere"))
    for status in (302, 307):
        served = serve(lambda body, status=status: (status, b"", {"Location": other.url}))
        with pytest.raises(GenerationError, match=f"status {status}.* leads to {other.url}"):
            ask(served)
    assert other.asked == []


@pytest.mark.parametrize("url", ["http://a..b/v1", "http://127.0.0.1/vé"])
def test_an_address_that_is_none_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(GenerationError, match="is no address"):
        Endpoint(url, "m").generate(["a"], n=1, sampling=Sampling(), seed=0)


def test_a_busy_server_says_when_to_come_again_in_seconds_or_by_a_date() -> None:
    """RFC 9110, 10.2.3."""
    assert _seconds("7", 1.0) == 7
    assert 35 < _seconds(formatdate(time.time() + 40, usegmt=True), 1.0) <= 40
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT", 1.0) == 0
    assert _seconds("Wed, 21 Oct 2015 07:28:00 +9999999999999", 1.0) == 1
    assert _seconds("", 1.0) == _seconds("soon", 1.0) == 1


def test_a_prompt_that_is_refused_costs_itself_alone_where_that_is_wanted(serve: Any, capsys: Any) -> None:
    def respond(body: dict[str, Any]) -> Answer:
        bad = body["prompt"] == "bad"
        return (400, {"error": "content filter"}) if bad else texts(body["prompt"])

    served = serve(respond)
    assert ask(served, ("a", "bad", "b"), n=2, skip_refused=True) == [["a"] * 2, ["", ""], ["b"] * 2]
    assert "note: 1 of 3 prompts have no answer: " in (told := capsys.readouterr().out)
    assert "status 400" in told
    assert "content filter" in told
    with pytest.raises(GenerationError, match="status 400"):
        ask(served, ("a", "bad", "b"))
    with pytest.raises(GenerationError, match="status 400"):  # all are: the prompt is not what is wrong
        ask(served, ("bad", "bad"), skip_refused=True)
    with pytest.raises(GenerationError, match="status 404"):
        ask(serve(lambda body: (404, b"no such model")), skip_refused=True)


def test_a_server_that_keeps_failing_is_given_up(serve: Any) -> None:
    served = serve(lambda body: (500, b"out of memory"))
    with pytest.raises(GenerationError, match="failed 3 times.*status 500.*out of memory"):
        ask(served, retries=2)
    assert len(served.asked) == 3


def test_a_server_that_hangs_times_out(serve: Any) -> None:
    release = threading.Event()

    def respond(body: dict[str, Any]) -> Answer:
        release.wait(30)
        return texts("late")

    served = serve(respond)
    with pytest.raises(GenerationError, match="failed 2 times.*timeout_s=0.2"):
        ask(served, timeout_s=0.2, retries=1)
    release.set()


def test_a_server_that_is_away_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    endpoint = Endpoint(url, "m", retries=1, backoff_s=0.01)
    with pytest.raises(GenerationError, match=f"{url}/completions failed 2 times.*is the server up"):
        endpoint.generate(["a"], n=1, sampling=Sampling(), seed=0)


def test_after_a_refusal_nothing_is_sent_again(serve: Any) -> None:
    """The others' threads end with the request that they wait for."""

    def respond(body: dict[str, Any]) -> Answer:
        if body["prompt"] == "bad":
            time.sleep(0.3)  # the others wait for their second try
            return 400, {"error": "no"}
        return 503, {"error": "busy"}

    served = serve(respond)
    endpoint = Endpoint(served.url, "m", backoff_s=30.0)
    with pytest.raises(GenerationError, match="refused the request"):
        endpoint.generate(["bad", "a", "b"], n=1, sampling=Sampling(), seed=0)
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(timeout=10)  # not the 30 seconds until the next try
            assert not thread.is_alive()
    assert sorted(body["prompt"] for body in served.asked) == ["a", "b", "bad"]


def test_a_model_that_has_said_nothing_has_an_empty_answer(serve: Any) -> None:
    """It reasoned until its tokens were used up."""
    answer = {"choices": [{"message": {"content": None, "reasoning": "hm"}, "finish_reason": "length"}]}
    assert ask(serve(lambda body: (200, answer)), chat=True) == [[""]]


def test_what_the_server_cut_is_told_as_cut_unless_a_stop_text_came_first(serve: Any) -> None:
    ends = ("stop", "length", "length", None)
    choices = [{"text": f"a{n}. b", "finish_reason": end} for n, end in enumerate(ends)]
    endpoint = Endpoint(serve(lambda body: (200, {"choices": choices})).url, "m")
    (own,) = endpoint.generate(["a"], n=4, sampling=Sampling(), seed=0)
    assert [isinstance(text, Cut) for text in own] == [end == "length" for end in ends]
    (own,) = endpoint.generate(["a"], n=4, sampling=Sampling(stop=(".",)), seed=0)
    assert own == ["a0", "a1", "a2", "a3"]
    assert not any(isinstance(text, Cut) for text in own)


@pytest.mark.parametrize("answer", [b"<html>", {"choices": []}, {"choices": [{"text": None}]}, [1]])
def test_an_answer_of_another_kind_is_shown(serve: Any, answer: Any) -> None:
    with pytest.raises(GenerationError, match="without choices"):
        ask(serve(lambda body: (200, answer)))


def test_half_a_character_is_replaced(serve: Any) -> None:
    answer = b'{"choices": [{"text": "4 \\ud800 \\ud83d\\ude00"}]}'
    assert ask(serve(lambda body: (200, answer))) == [["4 ? \U0001f600"]]


@pytest.mark.parametrize(("key", "sent"), [("secret\n", "Bearer secret"), ("  ", None), ("sécret", "error")])
def test_a_key_is_sent_as_a_header_takes_it(serve: Any, monkeypatch: pytest.MonkeyPatch, key, sent) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    served = serve(lambda body: (200, {"choices": [{"text": "x"}]}))
    if sent == "error":
        with pytest.raises(GenerationError, match="OPENAI_API_KEY holds characters that no header") as caught:
            ask(served)
        assert key not in str(caught.value)
    else:
        assert ask(served) == [["x"]]


def test_settings_that_cannot_be() -> None:
    with pytest.raises(GenerationError, match="is no address"):
        Endpoint("http://[::/v1", "m", retries=0).generate(["a"], n=1, sampling=Sampling(), seed=0)
    with pytest.raises(GenerationError, match="http://"):
        Endpoint("localhost:8000", "m")
    with pytest.raises(GenerationError, match="chat=True"):
        Endpoint("http://localhost/v1", "m", system_prompt="Be short.")


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "openai", "accelerate")),
    reason='`transformers serve` needs pip install "transformers[serving]"',
)
def test_transformers_serve_says_what_the_sampler_says(data_folder: Path) -> None:
    folder = data_folder / "checkpoints" / "hf_stories260K"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "-m",
        "transformers.cli.transformers",
        "serve",
        str(folder),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with subprocess.Popen([sys.executable, *command, "--device", "cpu"]) as server:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                    break
                except OSError:
                    assert server.poll() is None
                    time.sleep(0.5)
            endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", str(folder), concurrency=1)
            prompts = ["Once upon a time", "The dog"]
            greedy = Sampling(max_tokens=20, temperature=0)
            # The server reads prompts with AutoTokenizer, which segments this sentencepiece folder in a way of its own.
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            encoded = [np.array(tokenizer(prompt).input_ids, np.int32) for prompt in prompts]
            ours = Sampler(load_pretrained(folder)).generate_tokens(encoded, n=1, sampling=greedy, seed=0)
            said = endpoint.generate(prompts, n=2, sampling=greedy, seed=0)
            for text, other, (answer,) in zip(*zip(*said, strict=True), ours, strict=True):
                assert text == other == tokenizer.decode(answer, skip_special_tokens=True)
            with pytest.raises(GenerationError, match=r"status 4\d\d"):
                endpoint.generate(["a"], n=1, sampling=Sampling(top_k=3, max_tokens=2), seed=0)
        finally:
            server.terminate()
