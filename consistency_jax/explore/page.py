"""The page of `explore`: a question is picked or written, models answer, and what they say stands side by side."""

import dataclasses
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import gradio as gr

from consistency_jax.data.items import ParallelItem, open_prompt
from consistency_jax.errors import UserError
from consistency_jax.explore.asking import Answered, Asked, as_rows, from_rows
from consistency_jax.report.names import language_name
from consistency_jax.report.question import question_view, round_trip_view
from consistency_jax.table import NORMALIZATIONS

FONTS = {
    "font": ["system-ui", "sans-serif"],
    "font_mono": ["ui-monospace", "monospace"],
}  # none of the network
HOW = (
    "Pick a question, or write one: a row a language, the same answers in the same order. Each model ranks the answers "
    "in each language, and writes one of its own. Change a word, and ask again."
)


@dataclasses.dataclass(eq=False)  # one visitor's, told from another's by what it is
class Shown:
    """What a visitor looks at: a question, and what the models say to it."""

    item: ParallelItem
    answers: list[Answered]


def build_page(
    title: str, models: Sequence[Asked], items: Sequence[ParallelItem], normalization: str
) -> gr.Blocks:
    """The page; `launch` it with `style()`.

    Args:
      title: its head.
      models: who is asked.
      items: questions to pick from, the first of which is asked when the page opens.
      normalization: what candidates are ranked by.
    """
    names = [f"{item.id}: {_short(item)}" for item in items]

    def rows_of(number: int) -> dict[str, Any]:
        return gr.update(**_table(items[number]))

    def ask(
        rows: list[list[str]], number: int, written: bool, normalization: str
    ) -> Iterator[tuple[Any, ...]]:
        try:
            item = from_rows(rows, None if number is None else items[number])
            answers = [model.rank(item) for model in models]
            yield _parts(Shown(item, answers), normalization)
            if written:
                answers = [one._replace(texts=model.write(item)) for one, model in zip(answers, models)]
                yield _parts(Shown(item, answers), normalization)
        except UserError as error:
            raise gr.Error(str(error), duration=None) from error

    def ranked(shown: Shown | None, normalization: str) -> str:
        return question_view(shown.item, shown.answers, normalization) if shown else ""

    def trip(shown: Shown | None, start: str, through: str) -> str:
        if shown is None or not {start, through} <= {*shown.item.languages}:
            return ""
        return round_trip_view(shown.item, shown.answers, start, through)

    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown(f"# {title}\n\n{HOW}")
        shown = gr.State(None)
        picked = gr.Dropdown(
            list(zip(names, range(len(items)))), value=0, label=f"Questions ({len(items):,})", filterable=True
        )
        table = gr.Dataframe(
            **_table(items[0]),
            type="array",
            interactive=True,
            wrap=True,
            label="The question",
        )
        with gr.Row():
            button = gr.Button("Ask", variant="primary")
            written = gr.Checkbox(True, label="and let them write an answer")
            ways = [name for name in NORMALIZATIONS if name != "pmi" or normalization == "pmi"]
            by = gr.Dropdown(ways, value=normalization, label="ranked by")
        result = gr.HTML(label="Answers")
        with gr.Accordion("Round trip between two languages", open=True):
            with gr.Row():
                start, through = (gr.Dropdown([], label=label) for label in ("from", "through"))
            there = gr.HTML()
        outputs = [result, shown, start, through]
        given = [table, picked, written, by]
        picked.input(rows_of, picked, table, show_progress="hidden").then(ask, given, outputs)
        button.click(ask, given, outputs)
        page.load(ask, given, outputs)
        by.change(ranked, [shown, by], result, show_progress="hidden")
        for changed in (shown, start, through):
            changed.change(trip, [shown, start, through], there, show_progress="hidden")
    return page


def style() -> dict[str, Any]:
    """Arguments of the page's `launch`: how it looks."""
    css = files("consistency_jax.report").joinpath("question.css").read_text("utf8")
    return {"css": css, "theme": gr.themes.Default(primary_hue="teal", **FONTS)}


def _parts(shown: Shown, normalization: str) -> tuple[Any, ...]:
    codes = shown.item.languages
    choices = [(language_name(code), code) for code in codes]
    return (
        question_view(shown.item, shown.answers, normalization),
        shown,
        gr.update(choices=choices, value=codes[0]),
        gr.update(choices=choices, value=codes[-1]),
    )


def _table(item: ParallelItem) -> dict[str, Any]:
    """The question as people edit it."""
    answers = [f"answer {k + 1}" for k in range(item.num_candidates)]
    widths = ["110px", "320px", *(["180px"] * len(answers))]
    return {"value": as_rows(item), "headers": ["language", "question", *answers], "column_widths": widths}


def _short(item: ParallelItem) -> str:
    language = "en" if "en" in item.prompts else item.languages[0]
    text = " ".join(open_prompt(item, language).split())
    return text if len(text) <= 100 else f"\u2026{text[-99:]}"
