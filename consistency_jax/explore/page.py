"""The page of `explore`: a question is picked or written, models answer, and what they say stands side by side."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import gradio as gr

from consistency_jax.data.items import ParallelItem, open_prompt
from consistency_jax.errors import UserError
from consistency_jax.explore.asking import Answered, Asked, as_rows, from_rows
from consistency_jax.report.names import language_name
from consistency_jax.report.question import Side, question_view, round_trip_view

# None that is fetched from the network.
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
HOW = (
    "Pick a question, or write one: a row a language, the same answers in the same order. Each model ranks the answers "
    "in each language, and writes one of its own. Change a word, and ask again."
)


@dataclasses.dataclass(eq=False)  # one visitor's, told from another's by what it is
class Shown:
    """What a visitor looks at: a question, and what the models say to it."""

    item: ParallelItem
    answers: list[Answered]

    def question(self, normalization: str) -> str:
        return question_view(self.item, self.sides, normalization)

    def trip(self, start: str, through: str) -> str:
        return round_trip_view(self.item, self.sides, start, through) if start != through else ""

    @property
    def sides(self) -> list[Side]:
        return [(own.name, own.table, own.texts) for own in self.answers]


def build_page(
    title: str, models: Sequence[Asked], items: Sequence[ParallelItem], normalization: str
) -> gr.Blocks:
    """The page; `launch` it with `style()`.

    Args:
      title: its head.
      models: who is asked.
      items: questions to pick from, the first of which is asked when the page opens.
      normalization: what candidates are ranked by at first.
    """

    def ask(rows: list[list[str]], number: int, by: str, start: str, through: str) -> tuple[Any, ...]:
        with told():
            item = from_rows(rows, items[number])
            shown = Shown(item, [model.rank(item) for model in models])
        for note in {f"{own.name}: {note}" for own in shown.answers for note in own.notes}:
            gr.Warning(escape(note))
        codes = item.languages
        if not {start, through} <= {*codes}:
            start, through = codes[0], codes[-1]
        choices = [(language_name(code), code) for code in codes]
        pair = (gr.update(choices=choices, value=code) for code in (start, through))
        return shown.question(by), shown, *pair, shown.trip(start, through)

    def write(shown: Shown, written: bool, by: str) -> tuple[str, Shown]:
        if not written:
            return gr.skip(), gr.skip()
        with told():
            texts = [model.write(shown.item) for model in models]
        answers = [own._replace(texts=text) for own, text in zip(shown.answers, texts, strict=True)]
        shown = Shown(shown.item, answers)
        return shown.question(by), shown

    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown(f"# {title}\n\n{HOW}")
        shown = gr.State(None)
        names = [f"{item.id}: {_short(item)}" for item in items]
        picked = gr.Dropdown(
            list(zip(names, range(len(items)))), value=0, label=f"Questions ({len(items):,})", filterable=True
        )
        table = gr.Dataframe(
            **_table(items[0]), type="array", interactive=True, wrap=True, label="The question"
        )
        with gr.Row():
            button = gr.Button("Ask", variant="primary")
            written = gr.Checkbox(True, label="and let them write an answer")
            by = gr.Dropdown(list(models[0].rankings), value=normalization, label="ranked by")
        result = gr.HTML(label="Answers")
        with gr.Accordion("Round trip between two languages", open=True):
            with gr.Row():
                start, through = (gr.Dropdown([], label=label) for label in ("from", "through"))
            there = gr.HTML()
        one = {"concurrency_id": "models", "concurrency_limit": 1}  # visitors take turns
        fresh = picked.input(lambda number: gr.update(**_table(items[number])), picked, table)
        for asked in (button.click, fresh.then, page.load):
            answered = asked(
                ask, [table, picked, by, start, through], [result, shown, start, through, there], **one
            )
            answered.success(write, [shown, written, by], [result, shown], **one)
        quiet = {"show_progress": "hidden"}
        by.input(lambda shown, by: shown.question(by) if shown else "", [shown, by], result, **quiet)
        for changed in (start, through):
            changed.input(
                lambda shown, *pair: shown.trip(*pair) if shown else "",
                [shown, start, through],
                there,
                **quiet,
            )
    return page


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What a visitor can mend is told on the page, and nowhere else."""
    try:
        yield
    except UserError as error:
        raise gr.Error(escape(str(error)), duration=None, print_exception=False) from None


def style() -> dict[str, Any]:
    """Arguments of the page's `launch`: how it looks."""
    css = files("consistency_jax.report").joinpath("question.css").read_text("utf8")
    return {"css": css, "theme": gr.themes.Default(primary_hue="teal", **FONTS)}


def _table(item: ParallelItem) -> dict[str, Any]:
    """The question as people edit it."""
    answers = [f"answer {k + 1}" for k in range(item.num_candidates)]
    widths = ["110px", "320px", *(["180px"] * len(answers))]
    return {"value": as_rows(item), "headers": ["language", "question", *answers], "column_widths": widths}


def _short(item: ParallelItem) -> str:
    language = "en" if "en" in item.prompts else item.languages[0]
    text = " ".join(open_prompt(item, language).split())
    return text if len(text) <= 100 else f"\u2026{text[-99:]}"
