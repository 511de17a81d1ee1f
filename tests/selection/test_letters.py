"""Letters of options: read from answers of many languages, and asked for."""

import pytest

from consistency_jax.data.items import ParallelItem
from consistency_jax.selection.letters import INSTRUCTION, lettered_question, read_letter

READ = [
    ("Answer: B", "B"),
    ("The answer is (C).", "C"),
    ("Option A is wrong, option C is right.\nAnswer: C", "C"),
    ("Antwort: A) Paris\n\nDie anderen Optionen (B, C und D) sind falsch.", "A"),
    ("Answer: A (Paris)\n\nThe other options (B, C, D) are wrong.", "A"),
    ("Antwort: A, weil es so ist.\nDie anderen Optionen (B, C) nicht.", "A"),
    ("La réponse est A.\n\nLes autres options (B, C et D) sont fausses.", "A"),
    ("答案是A。\n其他选项（B、C、D）不对。", "A"),
    ("Antwort: A\n\nDie anderen Optionen (B, C und D) sind falsch.", "A"),
    ("**Réponse : (B)**\nLes autres réponses, A, C et D, sont fausses.", "B"),
    ("答案：B\n选项 A、C、D 都不对。", "B"),
    ("Ответ: **Г**. Нет.\nОтвет: В.\nВарианты A и D неверны.", "B"),
    ("Answer: B seems right at first.\nBut option C is right.", "C"),
    ("Answer: A\nOn second thoughts.\nAnswer: D", "D"),
    ("Option A is best because it is red.", "A"),
    ("**Answer:** B", "B"),
    ("**Answer: B**", "B"),
    ("Answer: \\boxed{C}", "C"),
    ("so it must be \\boxed{\\text{b}}", "B"),
    ("I weigh (A) and (B), and take (b)", "B"),
    ("**D**", "D"),
    ("**B. Paris**", "B"),
    ("B. Paris\n\n**A. Lyon**: wrong\n**C. Nice**: wrong", "B"),
    ("**A. Lyon**: no.\n**C. Nice**: no.", None),
    ("2**B", None),
    ("**Step**A. foo", None),
    ("The answer is:\n**B. Paris**", "B"),
    ("Therefore, **C. Rome** is right.", "C"),
    ("B", "B"),
    ("B) Paris", "B"),
    ("Paris lies in France.\n\nB.\n", "B"),
    ("La réponse est B", "B"),
    ("Die richtige Antwort lautet D.", "D"),
    ("La respuesta correcta es: A", "A"),
    ("A resposta é C", "C"),
    ("Правильный ответ — В.", "B"),  # Cyrillic В
    ("Ответ: С", "C"),  # Cyrillic С
    ("Απάντηση: Β", "B"),  # Greek Β
    ("答案是B。", "B"),
    ("答えはＣです", "C"),  # full width
    ("정답은 A입니다", "A"),
    ("الإجابة: D", "D"),
    ("उत्तर: A", "A"),
    ("คำตอบ: ข้อ B", "B"),
    ("Đáp án đúng là C", "C"),
    ("Jibu ni B", "B"),
    ("Cevap: D", "D"),
    ("The answer is B, A is wrong because it is too big.", "B"),
    ("The correct answer is B, C is a distractor.", "B"),
    ("The answer is C, D would be too much.", "C"),
    ("答案是B，A是错的", "B"),
    ("The answer is B, A being wrong.", "B"),
    ("The answer is B. Option A is false, and option C is too.", "B"),
    ("答案是B。选项A不对。", "B"),
    ("The answer is not A; the right option is B.", "B"),
    ("The answer could be A, but option B is right.", "B"),
    ("To answer, compare A and B: the better option is B.", "B"),
    ("Answer choices: A, B, C. The correct option is C.", "C"),
    ("Answer choice A is wrong. Option B is right.", "B"),
    ("Among the answer options, A is wrong; option C is correct.", "C"),
    ("La respuesta no es A, la opción correcta es C.", "C"),
    ("The answer is B. Option A is false.\nThe answer is C after all.", "C"),
    ("The answer is A because B is not a capital.", "A"),
    ("The correct answer is A and not B.", "A"),
    ("La respuesta correcta es A porque B no lo es.", "A"),
    ("Die Antwort ist A weil es rot ist.", "A"),
    ("Answer: B) Paris\nOptions A and C are cities in other countries.", "B"),
    ("**Answer: A) Paris**\n\nExplanation: option B is in Italy", "A"),
    ("Answer: A. Paris\nOption B is in Italy.", "A"),
    ("Options: A) 3 B) 4 C) 5\nThe correct answer is B.", "B"),
    ("Let me weigh each option: A) is too small, B) fits.\nSo the answer is B.", "B"),
    ("选项：A. 三 B. 四\n答案是B", "B"),
    ("Answer: A) no wait\nThe final answer is C", "C"),
    ("Answer: E", None),  # there are four options
    ("A. Paris\nB. Rome\nC. Nice", None),  # the options told again
    ("The answer is a matter of taste. A man may say so.", None),
    ("В этом случае трудно сказать", None),
    ("Die Antwort lautet D'accord", None),
    ("I am sure.", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "letter"), READ)
def test_the_letter_of_an_answer(text, letter):
    assert read_letter(text, 4) == (-1 if letter is None else "ABCD".index(letter))


def test_a_question_shows_its_options():
    item = ParallelItem("q", "", {"de": "Die <mask> von F"}, {"de": ("Stadt", " Rom")}, context={"de": "F."})
    question = lettered_question(item, "de")
    assert question == f"F.\n\nDie ____ von F\nA. Stadt\nB. Rom\n{INSTRUCTION}\n"
    assert lettered_question(item, "de", "Nenne den Buchstaben.").endswith("B. Rom\nNenne den Buchstaben.\n")
