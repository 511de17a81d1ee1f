"""Chat templates: the prompt as the user's turn, the answer as the words with which the assistant's turn opens.

    <BOS>, if any | system prompt, if any | user: context, prompt | assistant: answer

The tokenizer's own template renders all before the answer (with its generation prompt). What stands before the
answer is decided here, and is the same for every source and language:

* the answer's own leading space is dropped: it parted the answer from the prompt, which now ends in a turn of its
  own. In its place comes the space that the template itself writes there (Llama 2's `[/INST] Paris`), if any;
* a cloze is shown to the user whole, with `____` for its mask, and the answer is the candidate alone. (A turn
  cannot end at the mask.) Say in the system prompt what to do with the gap;
* a turn opens as it does before an answer of the history, since the answer follows at once: without reasoning
  (`enable_thinking` false, and what a template that always reasons opens is left out);
* the date in a template that prints one is always the same, so that runs can be repeated.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from consistency_jax.data.items import MASK, DataError
from consistency_jax.data.trees.tokenization import bos_of, encode, tokenizer_key

GAP = "____"
QUESTION = "What is the capital of France?"  # to see what a template makes of one
PATIENCE, A_SECOND = 20, 50  # seconds, and one more for so many prompts
SETTINGS = {"enable_thinking": False, "date_string": "26 Jul 2024"}  # Llama 3 templates fall back on this day
# In the place of the clock, which other templates ask: the beginning of that day.
_DAY = {"%d": "26", "%-d": "26", "%m": "07", "%-m": "7", "%b": "Jul", "%B": "July", "%Y": "2024", "%y": "24"}
_DAY |= {"%A": "Friday", "%a": "Fri", "%H": "00", "%M": "00", "%S": "00"}
_REPLACED = "".join(f" | replace('{code}', '{value}')" for code, value in _DAY.items())
CLOCK = f"{{%- macro strftime_now(format) -%}}{{{{ format{_REPLACED} }}}}{{%- endmacro %}}\n"
SWITCH_OFF = "Use an instruction-tuned model, or set --config.data.chat_template=off"


class ChatTemplate:
    """Renders prompts with a tokenizer's chat template.

    Args:
        tokenizer: a fast tokenizer of transformers.
        system_prompt: the system's turn; empty for none.

    Attributes:
        separator: whitespace that the template puts between its generation prompt and the answer.
        end: what it puts behind an answer, up to the token that ends the turn; empty for nothing.

    Raises:
        DataError: the tokenizer has no chat template, or it fails, takes no such conversation or no system prompt, or
            takes very long.
    """

    def __init__(self, tokenizer: Any, system_prompt: str = ""):
        if not tokenizer.chat_template:
            raise DataError.at("data.chat_template", "the model's tokenizer has no chat template", SWITCH_OFF)
        self._tokenizer = tokenizer
        self._system, self._cut, self._put = [], "", ""
        question, answer = QUESTION, "Paris"
        (opening,) = self.render([question])
        said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        (whole,) = _in_time(lambda: self._apply([said], add_generation_prompt=False))
        if question not in opening:
            raise DataError.at("data.chat_template", "the template leaves the question out", SWITCH_OFF)
        before, found, behind = whole.rpartition(answer)
        if not found:
            raise DataError.at(
                "data.chat_template", "the template leaves the answer out, or changes it", SWITCH_OFF
            )
        (unasked,) = self._apply([said[:1]], add_generation_prompt=False)
        if unasked == opening:  # then the next turn opens behind the answer, too
            behind = _closed(tokenizer, behind)
        self.end = behind.rstrip()  # a line's end behind the token is not the turn's
        common = os.path.commonprefix((opening, before))
        cut, put = opening[len(common) :], before[len(common) :]
        self.separator = put if put.isspace() and not cut else ""
        # The history's opening where the asked turn has another one: none, or reasoning that nothing closes.
        if question in common and (cut.strip() and "</" not in cut or put.strip() and not cut):
            self._cut, self._put = cut, put
        if system_prompt:
            self._add_system_prompt(system_prompt, question)
        # BOS may also open every turn, as in ChatML; only two in a row are wrong.
        first, second = next(encode(tokenizer, self.render([question]), special=True)).ids[:2]
        if first == second and first in (bos_of(tokenizer), tokenizer.bos_token_id):
            raise DataError.at("data.chat_template", "the template writes BOS twice", SWITCH_OFF)

    def _add_system_prompt(self, system_prompt: str, question: str) -> None:
        self._system = [{"role": "system", "content": system_prompt}]
        mend = "Set --config.data.system_prompt='' and say it in the prompts"
        try:
            (rendered,) = self.render([question])
        except DataError as error:
            reason = f"the model's chat template takes no system prompt ({error.__cause__ or error})"
            raise DataError.at("data.system_prompt", reason, mend) from error
        if system_prompt.strip() not in rendered:
            reason = "the model's chat template leaves the system prompt out"
            raise DataError.at("data.system_prompt", reason, mend)

    def render(self, prompts: Sequence[str]) -> list[str]:
        """The text before each prompt's answer: with BOS and special tokens where the template writes them."""
        users = ({"role": "user", "content": prompt.replace(MASK, GAP)} for prompt in prompts)
        asked = [[*self._system, user] for user in users]
        texts = _in_time(lambda: self._apply(asked, add_generation_prompt=True), len(prompts))
        return [text.removesuffix(self._cut) + self._put for text in texts]

    def leaves_out(self, prompt: str, rendered: str) -> bool:
        """Whether a rendering lacks a part of its prompt: some templates cut, split or rewrite what a user says."""
        return prompt.replace(MASK, GAP).strip() not in rendered

    def key(self) -> str:
        """A key of all that renderings and their tokens depend on."""
        return " ".join((tokenizer_key(self._tokenizer), repr(self._system), *self.render([QUESTION])))

    def _apply(self, conversations: list[list[dict[str, str]]], add_generation_prompt: bool) -> list[str]:
        try:
            return self._tokenizer.apply_chat_template(
                conversations,
                chat_template=CLOCK + self._tokenizer.get_chat_template(),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **SETTINGS,
            )
        except Exception as error:  # a template computes what it likes, and fails as it likes
            reason = f"the chat template fails ({type(error).__name__}: {error})"
            raise DataError.at("data.chat_template", reason, SWITCH_OFF) from error


def _closed(tokenizer: Any, behind: str) -> str:
    """What stands behind an answer, up to the token that ends its turn: EOS, or the first of the special ones."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    there = [token for token in special if token in behind]
    mark = (
        tokenizer.eos_token if tokenizer.eos_token in there else min(there, key=behind.index, default=behind)
    )
    return behind[: behind.index(mark) + len(mark)]


def _in_time(call: Callable[[], list[str]], prompts: int = 1) -> list[str]:
    """What the call returns, or raises; DataError where that takes longer than any template does over so many prompts:
    some loop without end over certain ones."""
    told: Future[list[str]] = Future()

    def work() -> None:
        try:
            told.set_result(call())
        except Exception as error:
            told.set_exception(error)

    threading.Thread(target=work, daemon=True).start()  # an endless loop ends with the command
    patience = PATIENCE + prompts // A_SECOND
    try:
        return told.result(patience)
    except TimeoutError:
        reason = (
            f"the chat template takes longer than {patience} s over {prompts:,} prompt{'s' * (prompts != 1)}"
        )
        raise DataError.at("data.chat_template", reason, SWITCH_OFF) from None
