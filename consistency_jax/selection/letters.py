"""Multiple choice as text: a question with lettered options, and the option that an answer in any language names.

Options have Latin letters whatever the language, so that answers can be pooled. An answer is read by the first of these
rules that finds a letter (this project's rules; of several finds the last counts, as explanations weigh options first):

1. after a word for "answer", "option" or "choice" (`WORDS`), at most 24 characters later on its line: `Answer: B`,
   `la réponse est (B)`, `答案是B`; where a line ends so after a colon (`Answer: B`), only such lines count, whatever is
   said of other options behind them; so does an answer before what a further sentence of its line says of options;
   where one goes on as options do (`Answer: B) Paris`), words for "answer" alone; a list of letters (`the other options
   (B, C)`) names none;
2. set apart: `\\boxed{B}`, `**B**`, `(B)`, `[B]`; here small letters count too;
3. alone on its line, or opening it as options do: `B`, `B.`, `B) Paris`; else opening bold text: `so **B. Paris** is
   right`; not where several options are named so.

Full-width letters count as plain ones, and so do the Cyrillic А В С Е and the Greek Α Β Ε where they stand alone: they
look like A B C E. A letter beside another Latin letter or a digit is no option. Nor is I before a word in small
letters, nor A, E or O there at the beginning of a sentence (they are words of English, Spanish, Italian, Portuguese),
unless it stands after a colon, a bracket or straight after a word of rule 1.
"""

import functools
import re
import unicodedata

from consistency_jax.data.items import MASK, ParallelItem, open_prompt
from consistency_jax.data.trees.chat import GAP

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
INSTRUCTION = "Explain briefly, then end with a line that says 'Answer: ' and the letter of the right option."
# In the scripts and languages of the benchmarks, as they begin (endings may follow).
_ANSWERS = """
    answer, réponse, reponse, respuesta, resposta, risposta, antwort, antwoord, odpowied, odpověď, válasz, răspuns,
    svar, vastaus, cevap, cevab, yanıt, đáp án, trả lời, jawaban, jibu, ìdáhùn, idahun, ответ, відповідь, απάντηση,
    答案, 答え, 正解, 解答, 回答, 정답, 답변, 답, الإجابة, الاجابة, الجواب, پاسخ, جواب, תשובה, उत्तर, जवाब, উত্তর, คำตอบ,
    ตอบ, பதில், సమాధానం, ಉತ್ತರ, ഉത്തരം
    """
_OPTIONS = """
    option, choice, opción, opção, opció, opzione, optie, lựa chọn, pilihan, chaguo, вариант, варіант, επιλογή, 选项,
    選項, 选择, 選擇, 選択肢, 선택, الخيار, گزینه, אפשרות, विकल्प, বিকল্প, ข้อ
    """
ANSWERS, OPTIONS = (tuple(word.strip() for word in words.split(",")) for words in (_ANSWERS, _OPTIONS))
WORDS = (*ANSWERS, *OPTIONS)
ROOM = 24  # characters between such a word and its letter
_SENTENCE = re.compile(r"[.!?](?:\s|$)|[。！？।]")
_AS_OPTION = re.compile(r"\**[.)]\**\s")
_LATIN = "A-Za-z0-9\u00c0-\u024f\u1e00-\u1eff"
_LOOKALIKES = dict(zip("АВСЕΑΒΕ", "ABCEABE", strict=True))
_LOOKALIKE = re.compile(rf"(?<!\w)[{''.join(_LOOKALIKES)}](?!\w)(?!\s[а-яёіїєґα-ώ])")
_WORD, _ANSWER = (
    re.compile("|".join(unicodedata.normalize("NFKC", word) for word in words), re.IGNORECASE)
    for words in (WORDS, ANSWERS)
)


def lettered_question(item: ParallelItem, language: str, instruction: str | None = None) -> str:
    """An item's question with a line for each option, and what to do; a mask is shown as a gap.

    Args:
      item: with at most 26 candidates.
      language: one of the item's.
      instruction: None for `INSTRUCTION`.
    """
    question = open_prompt(item, language).replace(MASK, GAP).strip()
    options = (f"{letter}. {text.strip()}" for letter, text in zip(LETTERS, item.candidates[language]))
    return "\n".join([question, *options, instruction or INSTRUCTION, ""])


def read_letter(text: str, options: int) -> int:
    """Index of the option that an answer names, -1 where none can be read.

    Args:
      text: an answer in any language.
      options: how many there are, at most 26.
    """
    text = unicodedata.normalize("NFKC", text)
    text = _LOOKALIKE.sub(lambda match: _LOOKALIKES[match[0]], text)
    after_word, several, apart, line, bold = _patterns(options)
    found, lines, answers, with_text, others = [], [], [], False, range(0)
    for word in _WORD.finditer(text):
        rest = text[word.end() :].partition("\n")[0]
        if word.start() in others and not _ANSWER.match(word[0]):
            continue
        match = after_word.search(rest)
        listed = match and ":" not in rest[: match.start()] and several.match(rest, match.end())
        if match and match.end() <= ROOM and not listed:
            found.append(match[1] or match[2])
            behind, told = rest[match.end() :], ":" in rest[: match.end()]
            if told and not re.search(r"\w", behind):
                lines.append(found[-1])
            if _ANSWER.match(word[0]):
                answers.append(found[-1])
                # A further sentence of its line speaks of other options, not where one stands before the letter.
                if (end := _SENTENCE.search(behind)) and not _WORD.search(rest[: match.start()]):
                    others = range(word.end() + match.end() + end.end(), word.end() + len(rest))
                with_text |= bool(told and _AS_OPTION.match(behind))
    lines = lines or (answers if with_text else [])
    found = lines or found or apart.findall(text)
    if not found:
        found = line.findall(text) or bold.findall(text)
        found = found if len(set(found)) == 1 else []
    return LETTERS.index(found[-1].upper()) if found else -1


@functools.lru_cache
def _patterns(options: int) -> tuple[re.Pattern[str], ...]:
    """Rules 1 (from the word's end on, and what makes a list of its letter), 2 and 3 (lines, bold text) for letters up
    to that of the last option."""
    alone = rf"(?<![{_LATIN}])([A-{LETTERS[options - 1]}])(?![{_LATIN}])(?!['’][{_LATIN}])"
    word = r"(?=\s[a-z\u00df-\u024f])"
    no_word = rf"(?<!I{word})(?<![.!?…]\s[AEO]{word})"
    return (
        re.compile(rf"(?:\A\W*|(?<=[:(\[*])|(?<=[:(\[*]\s)){alone}|{alone}{no_word}"),
        # Goes on, or ends behind the next letter: a sentence about that letter is no list.
        re.compile(rf"\s*[,、،]\s*{alone}(?=\s*(?:[,、،.)\]]|$|\w{{1,4}}\s+{alone}))"),
        re.compile(
            rf"(?:\\boxed\s*{{\s*(?:\\text\s*{{)?|\*\*\s*\(?|[(\[])\s*(?i:{alone})\s*(?:[.)]?\*\*|[)\]}}])"
        ),
        re.compile(rf"^\s*[-*]?\s*{alone}(?:\s*[.):。]\s|\s*[.):。]?\s*$)", re.MULTILINE),
        re.compile(rf"(?<![\w*])\*\*{alone}[.:]\s"),
    )
