"""What people call a language code, and how its text runs."""

import re
from functools import cache

from babel import Locale, UnknownLocaleError
from babel.core import get_global

RIGHT_TO_LEFT = ("Adlm", "Arab", "Hebr", "Nkoo", "Syrc", "Thaa")  # scripts


@cache
def language_name(code: str) -> str:
    """The English name of a language code ("sw" -> "Swahili"), with its script where that is no usual one; the code
    itself where CLDR has none."""
    locale = _locale(code)
    name = locale and locale.get_display_name("en")
    if not name:
        return code
    script = _unusual_script(code, locale)
    if not script or locale.script == script:
        return name
    return f"{Locale(locale.language).get_display_name('en')} ({Locale('en').scripts.get(script, script)})"


@cache
def direction(code: str) -> str:
    """ "rtl" for a language that CLDR knows to be written so, whatever a text begins with; else "auto", by the text."""
    locale = _locale(code)
    if locale is None:
        return "auto"
    script = _unusual_script(code, locale)
    return "rtl" if (script in RIGHT_TO_LEFT if script else locale.text_direction == "rtl") else "auto"


def _unusual_script(code: str, locale: Locale) -> str:
    """The script that a code names, where it is not the one that its language is mostly written in; else ""."""
    named = next(
        (part.title() for part in re.split("[-_]", code)[1:] if re.fullmatch("[A-Za-z]{4}", part)), ""
    )
    likely = get_global("likely_subtags").get(locale.language, "").split("_")
    return "" if named in likely or named == "Hang" and "Kore" in likely else named


def _locale(code: str) -> Locale | None:
    try:
        return Locale.parse(code.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return None
