"""How a multiple-choice question reads: its options in the prompt and letters as answers, or the options as answers."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from consistency_jax.data.items import ParallelItem
from consistency_jax.data.sources.source import Row

ANSWERS = ("letters", "full")
LETTERS = "ABCDEFGHIJ"
# Written without spaces between words, by their codes of two letters and of three.
_UNSPACED = "zh ja th lo km my bo dz zho cmn yue wuu jpn tha lao khm mya bod dzo"
NO_SPACES = frozenset(_UNSPACED.split(" "))
# The word that asks for the answer.
ANSWER = {
    "ar": "الإجابة",
    "bn": "উত্তর",
    "de": "Antwort",
    "en": "Answer",
    "es": "Respuesta",
    "fr": "Réponse",
    "hi": "उत्तर",
    "id": "Jawaban",
    "it": "Risposta",
    "ja": "答え",
    "ko": "정답",
    "nl": "Antwoord",
    "pl": "Odpowiedź",
    "pt": "Resposta",
    "ru": "Ответ",
    "sw": "Jibu",
    "ur": "جواب",
    "vi": "Đáp án",
    "yo": "Ìdáhùn",
    "zh": "答案",
}


def answer_word(language: str) -> str | None:
    """The word for "Answer" in a language (`pt`, `pt-BR`, `por_Latn`); None where it is not known."""
    code = re.split("[-_]", language.lower())[0]
    return ANSWER.get(language) or ANSWER.get(THREE.get(code, code))


def parted(language: str) -> bool:
    """Whether a language (`zh`, `zho_Hans`, `zh-CN`) writes a space between a prompt and its answer."""
    return re.split("[-_]", language.lower())[0] not in NO_SPACES


class Question(NamedTuple):
    """One question in one language."""

    text: str
    options: tuple[str, ...]
    answer: int | None  # index of the right option
    where: str
    subject: str = ""
    number: str = ""  # in its file


def choice_row(
    id: str, questions: Mapping[str, Question], answers: str, context: Mapping[str, str] | None = None
) -> Row:
    """The row of a question in its languages; options that stand there twice are told, whatever the candidates."""
    asked = {k: ask(k, q.text, q.options, answers) for k, q in questions.items()}
    first = next(iter(questions.values()))
    item = ParallelItem(
        id=id,
        group=first.subject,
        prompts={language: prompt for language, (prompt, _) in asked.items()},
        candidates={language: candidates for language, (_, candidates) in asked.items()},
        gold=first.answer,
        context=context,
    )
    doubled = {k: [text for text in q.options if q.options.count(text) > 1] for k, q in questions.items()}
    warnings = [
        f"language {k!r} holds the option {texts[0]!r} more than once"
        for k, texts in doubled.items()
        if texts
    ]
    return Row(item, first.where, warnings)


def ask(language: str, question: str, options: Sequence[str], answers: str) -> tuple[str, tuple[str, ...]]:
    """The prompt and its candidates, each with a leading space.

    "letters" shows the options ("A. Rome") and answers with a letter; "full" asks the question alone and answers with
    an option's words. The wording is this project's; the word for "Answer" is the language's own, or else English.
    """
    word = answer_word(language) or ANSWER["en"]
    if answers == "full":
        return f"{question}\n{word}:", tuple(f" {text}" for text in options)
    shown = [f"{letter}. {text}" for letter, text in zip(LETTERS, options)]
    return "\n".join([question, *shown, f"{word}:"]), _letters(len(options))


# Codes of three letters -> those of two, of ANSWER.
_THREE = "arb ben deu eng spa fra hin ind ita jpn kor nld pol por rus swh urd vie yor zho"
THREE = dict(zip(_THREE.split(" "), ANSWER, strict=True)) | {"ara": "ar", "cmn": "zh", "swa": "sw"}


@functools.cache
def _letters(count: int) -> tuple[str, ...]:
    """One tuple for all questions: there are many of them, in many languages."""
    return tuple(f" {letter}" for letter in LETTERS[:count])
