"""The final number of an answer to a mathematics question, in any language.

Read is the first number behind the last `####` or `\\boxed{`, else the last number of the text. Digits may be of any
script that Unicode knows (Arabic-Indic, Devanagari, Bengali, full-width, ...). Of dots and commas in one number: where
both stand, the later kind is the decimal mark; one kind several times, apostrophes and narrow spaces part thousands;
one mark alone is the decimal mark, unless three digits follow it, one to three stand before it, and it is what the
language parts thousands with: the dot in German, the comma in English. Where languages have a decimal comma, plain
spaces part thousands too: 12 000. 1.5e3 is 1500. A fraction is its value: 3/4, 1 3/4, ¾. Numbers of over 100 digits are
passed over, and in a box what has a root or pi. (This project's rules.)
"""

import functools
import re
import unicodedata
from fractions import Fraction

from babel.core import Locale, UnknownLocaleError, get_global

_MARK = re.compile(r"####|\\boxed\s*\{")
_SPACES = "\u00a0\u2009\u202f'’"
_SIGN = r"(?:(?<![\w.,)])-|(?<=[=:(])- |(?<=[=:(] )- )?"  # "- 18" alone is an entry of a list
_DIGITS = rf"\d+(?:[.,{_SPACES}]\d+)*"
_SPACED = r"(?<![\d.,])[1-9]\d{0,2}(?: \d{3})+(?!\d)(?:[.,]\d+)?"
_POWER = r"(?:[eE][+-]?\d+(?!\w))?"
# 3/4, 1 3/4, but no part of 3/4/2026, and no date as 12/08
_RATIO = r"(?<![A-Za-z\d/.,])(?:\d{1,3} (?=[1-9]\d?/))?\d+/[1-9]\d*(?![\d/]|[.,]\d)"
_NUMBER = re.compile(f"{_SIGN}(?:{_RATIO}|{_DIGITS}{_POWER})")
_SPACED_NUMBER = re.compile(f"{_SIGN}(?:{_RATIO}|{_SPACED}|{_DIGITS}{_POWER})")
_MOST = 100  # digits of a number, and its power of ten: longer ones are no answers, and take long to compute
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d)(?!\d))")
_SEAM = re.compile(r"(?<=[^\W_])(?=[¼-¾⅐-⅞]|\\[dt]?frac)")  # 2½ is not 21/2
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_THOUSANDS = re.compile(r"(?<=\d)\\[,!; ](?=\d{3}(?!\d))")
_BOXED_FRACTION = re.compile(r"\s*(-?)\s*(?:(\d{1,100}) )?\s*(\d{1,100})\s*/\s*(\d{1,100})\s*")
_NO_NUMBER = re.compile(r"\\(?:sqrt|pi)(?![A-Za-z])")
SIGNS = str.maketrans({"−": "-", "－": "-", "﹣": "-", "٫": ".", "٬": "'", "．": ".", "，": ",", "⁄": "/"})


@functools.lru_cache(maxsize=1 << 16)
def final_number(text: str, language: str) -> Fraction | None:
    """The number, exactly as written; None where the text holds none.

    Args:
      text: an answer.
      language: of the answer (`pt`, `pt-BR`, `por_Latn`); decides what 1.234 means.
    """
    language = re.split("[-_]", language)[0].lower()
    language = get_global("language_aliases").get(language, language)  # deu -> de
    text = "".join(str(digit) if (digit := unicodedata.decimal(c, None)) is not None else c for c in text)
    text = _VULGAR.sub(lambda found: unicodedata.normalize("NFKC", found[0]), _SEAM.sub(" ", text))
    text = re.sub(r"([=:(] ?)–(?=\d)", r"\1-", text.translate(SIGNS)).replace("{,}", ",")
    text = _FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", _THOUSANDS.sub("", text))
    for mark in list(_MARK.finditer(text))[-1:]:
        box = _inside(text, mark.end()) if mark[0].endswith("{") else ""
        if found := _BOXED_FRACTION.fullmatch(box):
            whole, part, parts = int(found[2] or 0), int(found[3]), int(found[4])
            return (-1 if found[1] else 1) * (whole + Fraction(part, parts)) if parts else None
        if _NO_NUMBER.search(box):
            return None
        if numbers := _numbers(text, mark.end(), language):
            return _value(numbers[0], language)
    numbers = _numbers(text, 0, language)
    return _value(numbers[-1], language) if numbers else None


def _inside(text: str, start: int) -> str:
    """What stands in the braces that were opened before a place."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start:place]
    return ""


def _numbers(text: str, start: int, language: str) -> list[str]:
    """The numbers from a place on, as they are written."""
    found = (_SPACED_NUMBER if _decimal_comma(language) else _NUMBER).findall(text, start)
    return [number for number in found if _is_sane(number)]


@functools.cache
def _decimal_comma(language: str) -> bool:
    """Whether it writes 1.234,5, as Unicode CLDR has it; one that is not there is taken to write 1,234.5."""
    try:
        return Locale.parse(language).number_symbols["latn"]["decimal"] == ","
    except (UnknownLocaleError, ValueError, KeyError):
        return False


def _is_sane(number: str) -> bool:
    """Whether it is short enough to be an answer."""
    if sum(map(str.isdigit, number)) > _MOST:
        return False
    return int(re.split("[eE]", f"{number}e0")[1]) in range(-_MOST, _MOST + 1)


def _value(number: str, language: str) -> Fraction:
    sign = -1 if number.startswith("-") else 1
    if "/" in number:
        return sign * sum(map(Fraction, number.lstrip("- ").split()))
    number, _, power = number.lower().partition("e")
    number = re.sub(rf"[-\s{_SPACES}]", "", number)
    marks = re.findall(r"[.,]", number)
    decimal = ""
    if len(set(marks)) == 2:
        decimal = marks[-1] if marks.count(marks[-1]) == 1 else ""
    elif len(marks) == 1:
        thousands = "." if _decimal_comma(language) else ","
        grouped = re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", number) and marks[0] == thousands
        decimal = "" if grouped else marks[0]
    whole, _, rest = number.partition(decimal) if decimal else (number, "", "")
    digits = re.sub(r"[.,]", "", whole)
    return sign * Fraction(f"{digits}.{rest or 0}e{power or 0}")
