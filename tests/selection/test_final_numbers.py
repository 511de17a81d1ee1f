"""The final number of an answer, as people write numbers in each language."""

from fractions import Fraction

import pytest

from consistency_jax.selection.final_numbers import final_number

NUMBERS = [
    ("The answer is 1,234.", "en", Fraction(1234)),
    ("Die Antwort ist 1.234.", "de", Fraction(1234)),
    ("1.234,5 Euro", "de", Fraction(12345, 10)),
    ("1,234.5 dollars", "en", Fraction(12345, 10)),
    ("about 1.234", "en", Fraction(1234, 1000)),
    ("rund 0.125", "de", Fraction(1, 8)),
    ("1,5 litre", "fr", Fraction(3, 2)),
    ("12\u202f345", "fr", Fraction(12345)),
    ("1,234,567", "de", Fraction(1234567)),
    ("12,34,567", "hi", Fraction(1234567)),
    ("First 3, then 4 apples: 7 apples", "en", Fraction(7)),
    ("7 #### 12 of 30", "en", Fraction(12)),
    ("so \\boxed{3.50} of 9", "en", Fraction(7, 2)),
    ("x = −7", "en", Fraction(-7)),
    ("3-5", "en", Fraction(5)),
    ("الجواب ١٢٣٤", "ar", Fraction(1234)),
    ("٣٫٥", "ar", Fraction(7, 2)),
    ("उत्तर १२ है", "hi", Fraction(12)),
    ("答えは４２です", "ja", Fraction(42)),
    ("\\boxed{1{,}234}", "en", Fraction(1234)),
    ("\\boxed{12\\,000}", "en", Fraction(12000)),
    ("\\boxed{\\frac{1}{3}}", "en", Fraction(1, 3)),
    ("\\boxed{-\\dfrac{1}{2}}", "en", Fraction(-1, 2)),
    ("so \\boxed{3/2}", "en", Fraction(3, 2)),
    ("\\boxed{1/0}", "en", None),
    ("\\boxed{2\\sqrt{3}}", "en", None),
    ("\\boxed{5 \\text{ cm}}", "en", Fraction(5)),
    ("Final answer:\n- 18", "en", Fraction(18)),
    ("18 œufs - 3 de moins", "fr", Fraction(3)),
    ("x = - 7", "en", Fraction(-7)),
    ("x = –7", "en", Fraction(-7)),
    ("3–7", "en", Fraction(7)),
    ("\\boxed{3{,}14}", "de", Fraction(314, 100)),
    ("#### 12\nThe circumference would be $2\\pi r$", "en", Fraction(12)),
    ("\\boxed{\\frac{\\sqrt{2}}{2}}", "en", None),
    ("\\boxed{2\\sqrt3}", "en", None),
    ("\\boxed{1\\frac{1}{2}}", "en", Fraction(3, 2)),
    ("\\boxed{(2,\\;3)}", "en", Fraction(2)),
    ("the range is 3 –5", "en", Fraction(5)),
    ("none", "en", None),
    ("Il en reste 12 000.", "fr", Fraction(12000)),
    ("Итого 1 234 567,5 руб.", "ru", Fraction(12345675, 10)),
    ("-12 000", "fr", Fraction(-12000)),
    ("#### 12 000", "ru", Fraction(12000)),
    ("en 2020 100", "fr", Fraction(100)),
    ("100, 200", "fr", Fraction(200)),
    ("3,5 200", "fr", Fraction(200)),
    ("in room 12 100", "en", Fraction(100)),
    ("1.5e3", "en", Fraction(1500)),
    ("about -2.5E-2 m", "en", Fraction(-25, 1000)),
    ("1,5e+3", "de", Fraction(1500)),
    ("le 2e", "fr", Fraction(2)),
    ("12, not 1e99999", "en", Fraction(12)),
    ("12, not " + "7" * 5000, "en", Fraction(12)),
    ("#### " + "7" * 101 + " or 5", "en", Fraction(5)),
    ("7" * 101, "en", None),
    ("7" * 100, "fr", Fraction(int("7" * 100))),
]


@pytest.mark.parametrize(("text", "language", "number"), NUMBERS)
def test_the_final_number(text, language, number):
    assert final_number(text, language) == number
