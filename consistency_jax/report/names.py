"""What people call a language code, and how its text runs."""

from functools import cache

from babel import Locale, UnknownLocaleError


@cache
def language_name(code: str) -> str:
    """The English name of a language code ("sw" -> "Swahili"); the code itself where CLDR has none."""
    locale = _locale(code)
    return (locale and locale.get_display_name("en")) or code


@cache
def direction(code: str) -> str:
    """ "rtl" for a language that CLDR knows to be written so, whatever a text begins with; else "auto", by the text."""
    locale = _locale(code)
    return "rtl" if locale is not None and locale.text_direction == "rtl" else "auto"


def _locale(code: str) -> Locale | None:
    try:
        return Locale.parse(code.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return None
