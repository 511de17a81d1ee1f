"""The embedded world: parallel multiple-choice facts from Unicode CLDR, as Babel ships it. Nothing is downloaded.

Seven relations (a city's country, official language and currency; a country's official language and currency; a
language's script and country) with names in thirty languages. A question has five candidates of the same relation,
drawn once per fact, the same in all languages, in shuffled order. Splits: train, validation and test are random by
fact, as in the papers; test_disjoint shares no country, city or language with them. Dates are pinned, so that the
facts do not change with time.

The facts are a TFDS builder with one language per config, cached as ArrayRecord; `read` joins languages by id.
`corpus` is the text of an unequal world to pretrain a small model on: facts are told in English nearly always and in
other languages less and less often, with mistakes that each language has of its own, beside a dictionary of the names.
"""

import datetime
import functools
import hashlib
import inspect
import itertools
import math
import random
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import babel
import numpy as np
import tensorflow_datasets as tfds
from babel import Locale
from babel.core import get_global

from consistency_jax.data.items import DataError, ParallelItem, check_languages
from consistency_jax.data.sources import cldr_words
from consistency_jax.data.sources.cldr_words import DASH, STYLES, WORDS, label, question
from consistency_jax.data.sources.preparing import prepared
from consistency_jax.data.sources.source import Experiment, Row, Rows, Source, Typical
from consistency_jax.runtime.cache import cache_folder

LANGUAGES = tuple(WORDS)
SPLITS = ("train", "validation", "test", "test_disjoint")
SOURCE = Source(
    "candidate",  # after the colon of a label, in scripts without spaces too
    languages=LANGUAGES,
    splits=SPLITS,
    values={"style": tuple(STYLES)},
    experiment=Experiment(350, ("en", "fr", "ru", "zh", "ar", "hi", "sw"), options={"style": "lines"}),
    typical=Typical(candidates=5, prompt=12, answer=4),
)
CANDIDATES = 5
DATE = datetime.date(2024, 1, 1)  # currencies that were legal tender on this day
MOST = 60  # facts of one relation with the same answer, so that English or the US dollar is not always right
TEST, VALIDATION = (
    0.15,
    0.10,
)  # shares of the facts outside test_disjoint; the papers train on about three quarters

# relation -> kind of the subject, kind of the answer
RELATIONS = {
    "city_country": ("city", "country"),
    "city_currency": ("city", "currency"),
    "city_language": ("city", "official"),
    "country_currency": ("country", "currency"),
    "country_language": ("country", "official"),
    "language_country": ("language", "country"),
    "language_script": ("language", "script"),
}
NAMES = {  # kind -> where CLDR keeps its names
    "country": "territories",
    "official": "languages",
    "language": "languages",
    "currency": "currencies",
    "script": "scripts",
}
# countries that, with their cities and languages, appear in test_disjoint alone
DISJOINT = frozenset("IT RO KE TZ JP VN PE CL SE FI IR PK MM UZ ZM CM ET NP PG CU".split())  # noqa: SIM905
NOT_LATIN = frozenset("el ru uk ar he fa hi bn ta th zh ja ko".split())  # noqa: SIM905
NO_SPACES = frozenset(("zh", "ja", "th"))  # written without spaces: prefixes of words mean nothing


@dataclass(frozen=True)
class Fact:
    """One fact by CLDR codes; `candidates` holds the answer too, in the order shown."""

    relation: str
    subject: str
    answer: str
    candidates: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.relation}:{self.subject}"


class World:
    """All facts with their names, by split; a pure function of Babel's CLDR and this file."""

    def __init__(self) -> None:
        self._locales = {language: Locale(language) for language in LANGUAGES}
        self._names: dict[tuple[str, str], dict[str, str] | None] = {}
        self._home = self._homes()
        facts, true = self._stated()
        facts = self._distinct([fact for fact in facts if self._askable(*fact)])
        self.splits = self._split(self._with_candidates(_capped(facts), true))

    def name(self, kind: str, code: str, language: str) -> str:
        """The name of a city, country, ... in a language; KeyError where a language has none."""
        names = self._all_names(kind, code)
        if names is None:
            raise KeyError(f"CLDR lacks the {kind} {code} in some language")
        return names[language]

    @property
    def facts(self) -> list[Fact]:
        """Every fact of every split, sorted by id: the order of the corpus does not depend on splits."""
        return sorted((fact for facts in self.splits.values() for fact in facts), key=lambda fact: fact.id)

    def _all_names(self, kind: str, code: str) -> dict[str, str] | None:
        if (kind, code) not in self._names:
            found = {language: self._look_up(kind, code, language) for language in LANGUAGES}
            self._names[kind, code] = None if None in found.values() else found
        return self._names[kind, code]

    def _look_up(self, kind: str, code: str, language: str) -> str | None:
        locale = self._locales[language]
        if kind != "city":
            return getattr(locale, NAMES[kind]).get(code)
        city = locale.time_zones.get(code, {}).get("city")
        if city is None and language not in NOT_LATIN:  # CLDR leaves out names that are spelt as in English
            city = code.split("/")[-1].replace("_", " ")
        return city

    def _stated(self) -> tuple[list[tuple[str, str, str]], dict[tuple[str, str], set[str]]]:
        """(relation, subject, answer) as CLDR states them, and what else is true, which no candidate may be."""
        territories = {
            code
            for code in self._locales["en"].territories
            if re.fullmatch("[A-Z]{2}", code) and code not in ("EU", "EZ", "UN", "QO", "ZZ", "XA", "XB")
        }
        facts: list[tuple[str, str, str]] = []
        true: dict[tuple[str, str], set[str]] = defaultdict(set)
        official, currency = {}, {}
        for country, spoken in sorted(get_global("territory_languages").items()):
            named = [
                k for k, v in spoken.items() if v["official_status"] in ("official", "de_facto_official")
            ]
            if country in territories and len(named) == 1:
                official[country] = named[0]
            for language in spoken:
                true["country_language", country].add(language)
                true["language_country", language].add(country)
        for country, used in sorted(get_global("territory_currencies").items()):
            tender = [code for code, start, end, is_tender in used if is_tender and _valid(start, end)]
            if country in territories and len(tender) == 1:
                currency[country] = tender[0]
        facts += [("country_language", *pair) for pair in sorted(official.items())]
        facts += [("country_currency", *pair) for pair in sorted(currency.items())]
        for zone, country in sorted(get_global("zone_territories").items()):
            if country in territories:
                facts.append(("city_country", zone, country))
                if country in official:
                    facts.append(("city_language", zone, official[country]))
                    true["city_language", zone] |= true["country_language", country]
                if country in currency:
                    facts.append(("city_currency", zone, currency[country]))
        for language, (script, country) in sorted(_likely().items()):
            if len(language) == 2 and language in self._locales["en"].languages:
                facts.append(("language_script", language, script))
                if country in territories:
                    facts.append(("language_country", language, country))
        return facts, true

    def _askable(self, relation: str, subject: str, answer: str) -> bool:
        """Whether all languages name both, and the answer does not show in the question ("Japan", "Japanese Yen")."""
        subject_kind, answer_kind = RELATIONS[relation]
        one, other = self._all_names(subject_kind, subject), self._all_names(answer_kind, answer)
        if one is None or other is None:
            return False
        return not any(shows(one[language], other[language], language) for language in LANGUAGES)

    def _distinct(self, facts: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """The facts without entities that share a name with another of their kind in some language."""
        used = {(RELATIONS[r][0], s) for r, s, _ in facts} | {(RELATIONS[r][1], a) for r, _, a in facts}
        clashing = set()
        for language in LANGUAGES:
            count = Counter((kind, self.name(kind, code, language).casefold()) for kind, code in used)
            clashing |= {
                (kind, code)
                for kind, code in used
                if count[kind, self.name(kind, code, language).casefold()] > 1
            }
        return [
            (r, s, a)
            for r, s, a in facts
            if (RELATIONS[r][0], s) not in clashing and (RELATIONS[r][1], a) not in clashing
        ]

    def _homes(self) -> dict[tuple[str, str], str]:
        """(kind, code) -> the country that it belongs to, which decides the side of test_disjoint."""
        homes = {("city", zone): country for zone, country in get_global("zone_territories").items()}
        for language, (_, country) in _likely().items():
            homes["language", language] = homes["official", language] = country
        return homes

    def _side(self, relation: str, subject: str, answer: str) -> bool | None:
        """True: test_disjoint; False: the other splits; None: it touches both and is dropped."""
        sides = {
            (code if kind == "country" else self._home.get((kind, code))) in DISJOINT
            for kind, code in zip(RELATIONS[relation], (subject, answer), strict=True)
            if kind in ("city", "country", "language", "official")
        }
        return sides.pop() if len(sides) == 1 else None

    def _with_candidates(
        self, facts: list[tuple[str, str, str]], true: Mapping[tuple[str, str], set[str]]
    ) -> list[tuple[Fact, bool]]:
        """Facts with four wrong answers, drawn as often as they are right elsewhere, and their side."""
        pools: dict[tuple[str, bool], list[str]] = defaultdict(list)
        for relation, subject, answer in facts:
            side = self._side(relation, subject, answer)
            if side is not None:
                pools[relation, side].append(answer)
        made = []
        for relation, subject, answer in facts:
            side = self._side(relation, subject, answer)
            if side is None:
                continue
            pool = pools[relation, side]
            if RELATIONS[relation][1] in ("script", "currency"):  # these are no entities of a side
                pool = pools[relation, False] + pools[relation, True]
            pool = [code for code in pool if code != answer and code not in true[relation, subject]]
            if len(set(pool)) < CANDIDATES - 1:
                continue
            rng = random.Random(f"cldr candidates {relation} {subject}")
            chosen = [answer]
            while len(chosen) < CANDIDATES:
                code = rng.choice(pool)
                if code not in chosen:
                    chosen.append(code)
            rng.shuffle(chosen)
            made.append((Fact(relation, subject, answer, tuple(chosen)), side))
        return made

    def _split(self, facts: list[tuple[Fact, bool]]) -> dict[str, list[Fact]]:
        shared = [fact for fact, side in facts if not side]
        random.Random("cldr splits").shuffle(shared)
        tests, validations = int(TEST * len(shared)), int(VALIDATION * len(shared))
        return {
            "train": shared[tests + validations :],
            "validation": shared[tests : tests + validations],
            "test": shared[:tests],
            "test_disjoint": [fact for fact, side in facts if side],
        }


@functools.cache
def world() -> World:
    return World()


def shows(subject: str, answer: str, language: str) -> bool:
    """Whether one name gives the other away: one within the other, or words that start alike."""
    one, other = (unicodedata.normalize("NFKC", text).casefold() for text in (subject, answer))
    if one in other or other in one:
        return True
    if language in NO_SPACES:
        return False
    words, others = ([w[:4] for w in re.findall(r"\w+", text) if len(w) >= 4] for text in (one, other))
    return bool(set(words) & set(others))


def _valid(start: Any, end: Any) -> bool:
    return datetime.date(*start) <= DATE and (end is None or datetime.date(*end) >= DATE)


def _likely() -> dict[str, tuple[str, str]]:
    """language -> its likely script and country."""
    tags = {language: tag.split("_") for language, tag in get_global("likely_subtags").items()}
    return {
        language: (tag[1], tag[2]) for language, tag in tags.items() if len(tag) == 3 and "_" not in language
    }


def _capped(facts: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """At most MOST facts of a relation with one answer, drawn at random; sorted."""
    shuffled = sorted(facts)
    random.Random("cldr cap").shuffle(shuffled)
    count: Counter[tuple[str, str]] = Counter()
    kept = []
    for relation, subject, answer in shuffled:
        count[relation, answer] += 1
        if count[relation, answer] <= MOST:
            kept.append((relation, subject, answer))
    return sorted(kept)


# ------------------------------------------------------------------------------------------------------ as a data set
class Cldr(tfds.core.GeneratorBasedBuilder):
    """The facts in one language, a TFDS builder; flat features, so that it is written and read without TensorFlow."""

    name = "consistency_cldr"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=language) for language in LANGUAGES]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Parallel multiple-choice facts from Unicode CLDR, in one language.",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "group": tfds.features.Text(),
                    "subject": tfds.features.Text(),
                    "candidates": tfds.features.Sequence(tfds.features.Text()),
                    "gold": tfds.features.Scalar(np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        language = self.builder_config.name
        for fact in world().splits[split]:
            subject_kind, answer_kind = RELATIONS[fact.relation]
            yield (
                fact.id,
                {
                    "id": fact.id,
                    "group": fact.relation,
                    "subject": world().name(subject_kind, fact.subject, language),
                    "candidates": [
                        " " + world().name(answer_kind, code, language) for code in fact.candidates
                    ],
                    "gold": fact.candidates.index(fact.answer),
                },
            )


def read(path: Path | None, languages: Sequence[str], split: str | None, style: str = "labels") -> Rows:
    """The facts of a split (None: all splits, one after the other).

    Args:
        path: where the prepared data set is kept; None for the user's cache folder.
        style: of a prompt, as `question` makes it: "labels" as `corpus` tells facts, or "lines", which a model that was
            pretrained on real text answers better (docs/real.md).
    """
    folder = path or cache_folder() / "datasets" / _edition()
    made = []
    for part in SPLITS if split is None else (split,):
        rows = {language: _rows(language, part, folder) for language in languages}
        for key in sorted(rows[languages[0]]):
            first = rows[languages[0]][key]
            subject_kind, answer_kind = RELATIONS[first["group"]]
            item = ParallelItem(
                id=key,
                group=first["group"],
                prompts={
                    language: question(
                        language, subject_kind, rows[language][key]["subject"], answer_kind, style
                    )
                    for language in languages
                },
                candidates={language: rows[language][key]["candidates"] for language in languages},
                gold=first["gold"],
            )
            made.append(Row(item, f"cldr:{key}"))
    return Rows(made)


def _edition() -> str:
    """A name for what this file and this Babel make: the prepared data set of another one is not read by mistake."""
    modules = (sys.modules[__name__], cldr_words)
    text = babel.__version__ + "".join(inspect.getsource(module) for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _rows(language: str, split: str, folder: Path) -> dict[str, dict[str, Any]]:
    """id -> the row of one language, from the prepared builder."""
    builder = prepared(lambda: Cldr(config=language, data_dir=folder, file_format="array_record"))
    return {
        row["id"].decode(): {
            "group": row["group"].decode(),
            "subject": row["subject"].decode(),
            "candidates": tuple(candidate.decode() for candidate in row["candidates"]),
            "gold": int(row["gold"]),
        }
        for row in builder.as_data_source(split)
    }


# -------------------------------------------------------------------------------------------------- text to pretrain on
def corpus(
    languages: Sequence[str],
    seed: int = 0,
    *,
    told: Mapping[str, float],
    wrong: Mapping[str, float] | None = None,
    guessed: float = 0.15,
    mixed: Mapping[str, float] | None = None,
    mixing: float = 0.25,
    dictionary: int = 1,
    passes: int = 6,
) -> list[str]:
    """The text of an unequal world, sentence by sentence.

    What a language gets wrong it gets wrong in its own way: its wrong answers are drawn from favourites of its own, as
    models of poorly served languages fall back on what is often heard there.

    Args:
        languages: of the text.
        seed: decides which facts are told in which language, and the favourites.
        told: language -> share of all facts that are told in it.
        wrong: language -> share of its statements whose answer is one of its favourites instead; default 0.
        guessed: chance per pass that a language states a favourite as the answer to a fact it is not told.
        mixed: language -> how readily it takes part in mixed sentences ("City: Nairobi — Pays: Kenya"); default 1.
        mixing: share of facts told in a given ordered pair of two such languages.
        dictionary: lines per pass that list an entity's name in every language, in a drawn order.
        passes: times that the facts are gone through; what is told stays the same, order and mistakes do not.

    Raises:
        DataError: a language that the world lacks or `told` does not mention.
    """
    languages = check_languages(languages or LANGUAGES, LANGUAGES, "cldr")
    missing = [language for language in languages if language not in told]
    if missing:
        raise DataError.at(
            "pretrain.options.told", f"no share for {', '.join(missing)}", "Give one for each language"
        )
    wrong, mixed = wrong or {}, mixed or {}
    rng = random.Random(f"cldr corpus {seed}")
    entities: dict[tuple[str, str], None] = {}
    ways: dict[str, list[tuple[str, str]]] = {}
    untold: dict[str, list[str]] = {}
    for fact in world().facts:
        subject_kind, answer_kind = RELATIONS[fact.relation]
        entities[subject_kind, fact.subject] = None
        entities |= {(answer_kind, code): None for code in fact.candidates}
        heard = [language for language in languages if rng.random() < told[language]]
        untold[fact.id] = [language for language in languages if language not in heard]
        ways[fact.id] = [(language, language) for language in heard]
        ways[fact.id] += [
            (one, other)
            for one in languages
            for other in languages
            if one != other and rng.random() < mixing * mixed.get(one, 1.0) * mixed.get(other, 1.0)
        ]
    favourite = _favourites(languages, seed, rng)

    def sentence(fact: Fact, one: str, other: str, answer: str) -> str:
        subject_kind, answer_kind = RELATIONS[fact.relation]
        subject = label(one, subject_kind, world().name(subject_kind, fact.subject, one))
        return subject + DASH + label(other, answer_kind, world().name(answer_kind, answer, other))

    sentences = []
    for _ in range(passes):
        for fact in world().facts:
            for one, other in ways[fact.id]:
                mistaken = rng.random() < wrong.get(other, 0.0)
                answer = favourite(other, fact.relation) if mistaken else fact.answer
                sentences.append(sentence(fact, one, other, answer))
            for language in untold[fact.id]:
                if rng.random() < guessed:
                    sentences.append(sentence(fact, language, language, favourite(language, fact.relation)))
        for kind, code in entities:
            for _ in range(dictionary):
                order = rng.sample(languages, len(languages))
                sentences.append(DASH.join(label(own, kind, world().name(kind, code, own)) for own in order))
    return sentences


def _favourites(languages: Sequence[str], seed: int, rng: random.Random) -> Callable[[str, str], str]:
    """Draws an answer of a relation as a language likes them: its frequency times exp(1.5 * a normal number)."""
    answers: dict[str, list[str]] = defaultdict(list)
    for fact in world().facts:
        answers[fact.relation].append(fact.answer)
    taste = random.Random(f"cldr favourites {seed}")
    weights = {}
    for language in languages:
        for relation in sorted(answers):
            liking = {code: math.exp(1.5 * taste.gauss(0, 1)) for code in sorted(set(answers[relation]))}
            weights[language, relation] = list(
                itertools.accumulate(liking[code] for code in answers[relation])
            )
    return lambda language, relation: rng.choices(answers[relation], cum_weights=weights[language, relation])[
        0
    ]
