"""When are two answers, written in words, the same? Between languages, too.

Every way to tell begins with the `spelling`: what is spelt alike is one answer, and what is spelt as a text that is
known to be right is right. Of the rest a `Match` says whether two are the same:

    spelling    that is all
    number      the final number of both is one (worked solutions)
    embedding   their sentence vectors are near each other
    translate   their translations into English are spelt alike
    judge       a model that is asked says so

How far a way can be trusted is measured on what is known: the right answers of two languages are the same, those of two
questions are not.
"""

import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np

from consistency_jax.data.examples import ANCHOR
from consistency_jax.errors import ConfigError
from consistency_jax.generation import Generator, Sampling
from consistency_jax.generation.cached_answers import CachedAnswers
from consistency_jax.generation.endpoint import Endpoint
from consistency_jax.generation.translators import by_model
from consistency_jax.metrics.generation import normalised
from consistency_jax.report.names import language_name
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.selection.encoders import Encoder, SentenceTransformerEncoder
from consistency_jax.selection.final_numbers import SIGNS, final_number

MOST = 200  # questions, and pairs of each kind, that a way is tried on
SPELLING = "spelling"
UNFITTED = 0.8  # cosine
BATCH = 256  # requests whose answers are kept together
# A number with a decimal mark, or with groups of digits (12,34,567 in India) and one; or a fraction.
_NUMBER = re.compile(r"-?(?:\d+(?:[.,]\d+)?|\d{1,3}(?:([.,' ])\d{2,3})*?([.,' ])\d{3}(?:[.,]\d+)?)")
_FRACTION = re.compile(r"-?(?:\d+ )?\d+/[1-9]\d*")  # or a number and one: -2 1/2
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—"), "-") | {ord("⁄"): "/"}
_POWERS = re.compile("[⁰¹²³⁴-⁹]+")


@functools.lru_cache(maxsize=1 << 16)
def spelling(text: str, language: str = "") -> str:
    """A text without what does not make it another answer: case, width, punctuation and spaces, in any digits; a number
    as its value, as `final_numbers` reads it in the language: 1,000.0 and $1000 as 1000, in German 1.000 too, and 1,5
    as 3/2."""
    text = _POWERS.sub(lambda found: f"^{found[0]}", text)
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)  # 2½ is not 21/2
    folded = unicodedata.normalize("NFKC", text)
    folded = folded.translate(SIGNS).translate(_DASHES).strip()
    digits = "".join(str(unicodedata.decimal(letter, letter)) for letter in folded)
    number = digits.strip("$€£¥% ").rstrip(". ")
    number = re.sub(r"^\+(?=\d)|(?<=^-) (?=\d)", "", number)
    if _FRACTION.fullmatch(number):
        value = sum(map(Fraction, number.removeprefix("-").split()))
        return str(-value if number.startswith("-") else value)
    if _NUMBER.fullmatch(number):
        value = final_number(re.sub("[ ']", "", number), language)
        if value is not None:
            return str(value)
    return normalised(digits)


def is_number(spelt: str) -> bool:
    """Whether a `spelling` is one number."""
    return bool(_FRACTION.fullmatch(spelt) or spelt.removeprefix("-").isdigit())


class Said(NamedTuple):
    """An answer to a question, in a language."""

    language: str
    prompt: str
    text: str


T = TypeVar("T")
Pairs = Sequence[tuple[Said, Said]]
Same = Callable[[Pairs], list[bool]]


def _spelt_alike(one: Said, two: Said) -> bool:
    return spelling(one.text, one.language) == spelling(two.text, two.language)


class Match(NamedTuple):
    """A way to tell which answers are the same.

    name: as it is told; same: whether the two of each pair are, of many pairs at once.
    fit: learns from pairs that are the same and pairs that are not, or is told that there are none, and says how well;
      None where there is nothing to learn.
    encode: texts -> their vectors f32[n, D], where it has them; odd: what is odd about what it was told since the last
      call.
    """

    name: str
    same: Same
    fit: Callable[[Pairs, Pairs], str] | None = None
    encode: Callable[[Sequence[str]], np.ndarray] | None = None
    odd: Callable[[], list[str]] | None = None


def by_spelling() -> Match:
    """What is spelt alike, and nothing beyond it."""
    return Match(SPELLING, lambda pairs: [_spelt_alike(*pair) for pair in pairs])


def by_number() -> Match:
    """The final number of both is one, as `final_numbers` reads it."""

    def same(pairs: Pairs) -> list[bool]:
        found = [[final_number(said.text, said.language) for said in pair] for pair in pairs]
        return [one is not None and one == two for one, two in found]

    return Match("number", same)


def by_translation(generator: Generator, name: str, max_tokens: int = 64) -> Match:
    """Their translations into English, by a model, are spelt alike."""
    english: dict[tuple[str, str], str] = {}

    def same(pairs: Pairs) -> list[bool]:
        asked = dict.fromkeys((said.language, said.text) for pair in pairs for said in pair)
        new = [own for own in asked if own not in english and own[0] != ANCHOR]
        for language in dict.fromkeys(own[0] for own in new):
            texts = [text for other, text in new if other == language]
            names = language_name(language), language_name(ANCHOR)
            sampling = Sampling(max_tokens=max_tokens, temperature=0, stop=("\n",))
            found = by_model(generator, texts, *names, sampling=sampling)
            english.update(
                ((language, text), next(iter(ways), text)) for text, ways in zip(texts, found, strict=True)
            )

        def key(said: Said) -> str:
            return spelling(english.get((said.language, said.text), said.text), ANCHOR)

        return [key(one) == key(two) for one, two in pairs]

    return Match(f"translate ({name})", same)


def by_embedding(encoder: Encoder, name: str) -> Match:
    """The cosine of their sentence vectors reaches a threshold: that which tells best the right answers of two
    languages from those of two questions (the mean of both shares), 0.8 where none are known."""
    vectors: dict[str, np.ndarray] = {}
    least = [UNFITTED]

    def encode(texts: Sequence[str]) -> np.ndarray:
        if new := [text for text in dict.fromkeys(texts) if text not in vectors]:
            vectors.update(zip(new, encoder.encode(new), strict=True))
        return np.stack([vectors[text] for text in texts])

    def cosines(pairs: Pairs) -> np.ndarray:
        if not pairs:
            return np.zeros(0)
        one, two = (encode([pair[place].text for pair in pairs]) for place in (0, 1))
        return (one * two).sum(-1)

    def fit(alike: Pairs, apart: Pairs) -> str:
        if not alike or not apart:
            least[0] = UNFITTED
            return ""
        near, far = cosines(alike), cosines(apart)
        levels = np.unique(np.concatenate([near, far]))
        told = [(near >= level).mean() + (far < level).mean() for level in levels]
        least[0] = float(levels[int(np.argmax(told))])
        return f"the same from a cosine of {least[0]:.2f} on"

    return Match(f"embedding ({name})", lambda pairs: (cosines(pairs) >= least[0]).tolist(), fit, encode)


QUESTION = """Two people answered the same question, each in a language of their own.

Question: {prompt}
Answer 1 ({one}): {first}
Answer 2 ({two}): {second}

Do both answers mean the same? Reply with one word, yes or no."""


def by_judge(generator: Generator, name: str) -> Match:
    """A model that is asked says so, in both orders of the two; no, where it does not begin with yes."""
    replies: dict[str, str] = {}
    untold: list[str] = []  # replies since `odd` was asked last

    def both(pairs: Pairs) -> list[tuple[bool, bool]]:
        prompts = [(_judged(one, two), _judged(two, one)) for one, two in pairs]
        new = [
            prompt for prompt in dict.fromkeys(own for two in prompts for own in two) if prompt not in replies
        ]
        sampling = Sampling(max_tokens=16, temperature=0)
        found = generator.generate(new, n=1, sampling=sampling, seed=0)
        said = [reply.strip().lower() for (reply,) in found]
        untold.extend(said)
        replies.update(zip(new, said, strict=True))
        return [(replies[one].startswith("yes"), replies[two].startswith("yes")) for one, two in prompts]

    def fit(alike: Pairs, apart: Pairs) -> str:
        verdicts = both([*alike, *apart])
        kept = np.mean([one == two for one, two in verdicts]) if verdicts else 1
        return f"{kept:.1%} of its verdicts are the same in the other order"

    def odd() -> list[str]:
        unread = sum(not reply.startswith(("yes", "no")) for reply in untold)
        told = f"{unread:,} of {len(untold):,} replies of the judge are neither yes nor no, and count as no"
        untold.clear()
        return [told] if unread else []

    def same(pairs: Pairs) -> list[bool]:
        return [one and two for one, two in both(pairs)]

    return Match(f"judge ({name})", same, fit, odd=odd)


def _judged(one: Said, two: Said) -> str:
    names = {"one": language_name(one.language), "two": language_name(two.language)}
    return QUESTION.format(prompt=one.prompt, first=one.text, second=two.text, **names)


class Tools(NamedTuple):
    """What a way may need: an OpenAI-compatible server, its name of a model, and a sentence-transformers model; and the
    workdir that it is asked for."""

    server: str = ""
    model: str = ""
    encoder: str = "LaBSE"
    workdir: str = ""


def match_of(name: str, tools: Tools) -> Match:
    """The way of this name (`MATCHES`).

    Raises:
      ConfigError: an unknown name, or what it needs is not given.
    """
    if name not in MATCHES:
        raise ConfigError(f"--match={name} should be one of {', '.join(MATCHES)}")
    return MATCHES[name](tools)


def _asked(tools: Tools, name: str, chat: bool) -> Generator:
    """The server; what it answered is kept, so that an audit into one workdir goes on when it was killed. For another
    workdir it is asked anew: under one name another model may be served by then."""
    if not tools.server or not tools.model:
        raise ConfigError(f"--match={name} asks a server: --server=http://HOST:PORT/v1 --server_model=NAME")
    engine = Endpoint(tools.server, tools.model, chat=chat)
    settings = json.dumps([tools.server, tools.model, chat, tools.workdir])
    path = cache_folder() / "matched" / f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        print(
            f"note: what {tools.model} said before for {tools.workdir} is kept in {path}; delete it to ask anew"
        )
    return CachedAnswers(lambda: engine, path, settings, BATCH)


MATCHES: dict[str, Callable[[Tools], Match]] = {
    SPELLING: lambda tools: by_spelling(),
    "number": lambda tools: by_number(),
    "embedding": lambda tools: by_embedding(
        SentenceTransformerEncoder(tools.encoder, "--encoder"), tools.encoder
    ),
    "translate": lambda tools: by_translation(_asked(tools, "translate", chat=False), tools.model),
    "judge": lambda tools: by_judge(_asked(tools, "judge", chat=True), tools.model),
}


def tried(match: Match, right: Sequence[Mapping[str, Sequence[Said]]]) -> list[str]:
    """Fits a way to what is known, and says how well it does there: on pairs that are not spelt alike.

    Args:
      right: of each question the right answers in each language, of which the first is taken.
    """
    first = _few([{language: own[0] for language, own in each.items()} for each in right])
    every = [pair for own in first for pair in combinations(own.values(), 2)]
    others = [pair for pair in every if not _spelt_alike(*pair)]
    alike = _few(others)
    # Asked as answers to the first one's question.
    apart = _few(
        [
            (own[one], other[two]._replace(prompt=own[one].prompt))
            for own, other in zip(first, [*first[1:], *first[:1]])
            if not any(_spelt_alike(own[name], other[name]) for name in own if name in other)
            for one in own
            for two in other
            if one != two
        ]
    )
    if not alike or not apart:
        if match.fit:
            match.fit((), ())
        told = "no two questions have other ones" if alike else "all that are known are spelt alike"
        told = told if every else "none are known in two languages"
        return [f"matched by {match.name}; it cannot be tried on right answers: {told}"]
    notes = [match.fit(alike, apart)] if match.fit else []
    found, wrong = np.array(match.same(alike)), np.array(match.same(apart))
    languages = sorted({said.language for pair in alike for said in pair})
    shares = {
        name: found[[name in (one.language, two.language) for one, two in alike]].mean() for name in languages
    }
    low = min(shares, key=shares.__getitem__)
    told = (
        f"matched by {match.name}: of right answers in two languages {1 - len(others) / len(every):.1%} are spelt "
        f"alike; of {len(alike)} other pairs it holds {found.mean():.1%} to be the same, of {len(apart)} pairs of two "
        f"questions {wrong.mean():.1%}"
    )
    return [", ".join([told, f"least in {low} ({shares[low]:.1%})", *notes])]


def _few(every: Sequence[T]) -> Sequence[T]:
    """At most MOST, evenly spaced."""
    if len(every) <= MOST:
        return every
    return [every[n] for n in np.linspace(0, len(every) - 1, MOST).round().astype(int)]
