"""Have a model answer in its own words: consistency-jax ask --path=MODEL --data=mgsm --data_path=DIR --out=FILE.jsonl

The model answers itself; or an OpenAI-compatible server does, --server=http://localhost:8000/v1, which knows it by the
name --path. Writes a line for each question and language, with what is right:

    {"id": "q1", "language": "sw", "prompt": "...", "answer": "Misri", "gold": ["Misri"]}

which `consistency-jax audit --from=FILE.jsonl --match=...` makes a report of. Killed, the same command goes on where it
was (FILE.jsonl.drawn). A model that was not taught to answer needs to be shown how: --shots=4 puts the first four
questions of each language, with their answers, before each of its others.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.checks import validate
from consistency_jax.config.command_line import as_flags
from consistency_jax.config.defaults import help_text
from consistency_jax.config.stages import model_name
from consistency_jax.data.items import MASK, Items, ParallelItem, answer_in_gap, open_prompt
from consistency_jax.data.trees.builder import BadCells, TreeBuilder
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.free_text import cached_answers
from consistency_jax.evaluation.splits import chat_of, languages_of, load_tests
from consistency_jax.generation import Sampling
from consistency_jax.generation.cached_answers import CachedAnswers
from consistency_jax.generation.endpoint import Endpoint
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.runtime.cli import config_flag, run_app, run_command, use_compile_cache
from consistency_jax.runtime.files import local, refuse_input, write_text
from consistency_jax.runtime.mesh import make_mesh, mesh_shape
from consistency_jax.runtime.processes import on_main
from consistency_jax.runtime.watch import Watch
from consistency_jax.scoring.stored import fingerprint
from consistency_jax.training.announce import tell_model, tell_run
from consistency_jax.training.run_models import base_model
from consistency_jax.training.workdir import inputs_of

BATCH = 64  # prompts that are answered before their answers are kept
Place = tuple[ParallelItem, str]  # a question in a language


def ask(config: ConfigDict, out: str | Path, server: str = "", samples: int = 1, shots: int = 0) -> None:
    """Asks a model the questions of the config's test split, and writes its answers.

    Args:
      out: the file to write, JSONL.
      server: address of an OpenAI-compatible server; "": the model answers on this machine.
      samples: answers to each question.
      shots: the first so many questions of each language stand solved before each of the others, and are not asked.

    Raises:
      ConfigError: a file that is there and holds something else; one language alone; more shots than questions, or
        shots that nothing solves; several samples that would all be the same; prompts that are longer than
        `data.max_length`.
      DataError: for bad data.
      GenerationError: a server that does not answer.
    """
    validate(config, jax.device_count())
    sampling = Sampling.of(config.evaluation.generation)
    if samples > 1 and not sampling.temperature:
        raise ConfigError(f"--samples={samples} at temperature 0 are one answer: set --temperature=1")
    chat = config.data.chat_template != "off"
    served = None
    if server:
        system, skip = config.data.system_prompt, config.data.on_error == "skip"
        served = Endpoint(server, config.model.path, chat=chat, system_prompt=system, skip_refused=skip)
    out = local(out, "--out")
    drawn = out.with_name(f"{out.name}.drawn")
    for place in (out, drawn):
        refuse_input(place, "--out", *inputs_of(config))
    on_main(functools.partial(_check_out, out, drawn))
    watch, mesh = Watch(), make_mesh(mesh_shape(config, jax.device_count()))
    watch.part("data", "reading data")
    (items,) = load_tests(config, bare=True).values()
    languages = languages_of(config, items)
    if len(languages) < 2:
        raise ConfigError(f"{languages[0]} alone has nothing to be compared with: name two languages or more")
    solved, items = _solved(items, languages, shots)
    places, prompts = _prompts(items, languages, solved)
    method = f"answers in words, {samples} to each of {len(prompts):,} prompts"
    tell_run(watch, config, mesh, [{config.data.test[0]: items}], method)
    engine: CachedAnswers
    if served:
        settings = json.dumps([server, config.model.path, chat, config.data.system_prompt])
        engine = CachedAnswers(lambda: served, drawn, settings, BATCH)
    else:
        use_compile_cache(config)
        watch.part("model", "loading the model")
        model = base_model(config, mesh, cache_folder() / "logs")
        tell_model(watch, config, model)
        places, prompts = _readable(config, model, places, prompts)
        engine = cached_answers(config, model, drawn, BATCH, [fingerprint(model.params)])
    if on_main(out.exists) and not engine.holds(prompts, n=samples, sampling=sampling, seed=config.seed):
        told = f"{out} is there, with answers to other questions, of another model or by other settings"
        raise ConfigError(f"{told}: move it, or give another --out")
    watch.part("", "asking")
    found = engine.generate(prompts, n=samples, sampling=sampling, seed=config.seed)
    lines = [_line(config, *place, own) for place, own in zip(places, found, strict=True)]
    on_main(functools.partial(_write, out, lines))
    watch.close()
    answers = [answer for line in lines for answer in _list(line["answer"])]
    print(f"answers: {out}, {answers.count(None):,} of {len(answers):,} are empty")
    right = [text for line in lines for text in line["gold"]]
    match = "number" if right and all(map(str.isdecimal, right)) else "spelling"
    print(f"next: consistency-jax audit --from={out} --match={match} --workdir=FOLDER")


def _check_out(out: Path, drawn: Path) -> None:
    if out.is_dir():
        raise ConfigError(f"--out={out} is a folder: name a file, {out}/answers.jsonl")
    if out.exists() and not drawn.exists():
        raise ConfigError(
            f"{out} is there, and nothing beside it says that it was made here: give another --out"
        )
    out.parent.mkdir(parents=True, exist_ok=True)


def _solved(items: Items, languages: Sequence[str], shots: int) -> tuple[list[ParallelItem], Items]:
    """The first items, so many that each language has its shots among them, and the others."""
    count = 0
    missing = dict.fromkeys(languages, shots)
    while any(missing.values()) and count < len(items):
        for language in items[count].prompts:
            missing[language] = max(0, missing[language] - 1)
        count += 1
    left = items.only(items[count:])
    if any(missing.values()) or not any(len(item.prompts) > 1 for item in left):
        told = f"--shots={shots} leave none of {len(items)} questions to be asked in two languages"
        raise ConfigError(f"{told}: take fewer")
    return items[:count], left


def _prompts(
    items: Items, languages: Sequence[str], solved: Sequence[ParallelItem]
) -> tuple[list[Place], list[str]]:
    """What is asked, and how: a question behind those of its language that stand solved before it. Says what cannot be
    asked, or is asked in part: a gap at the start leaves nothing to go on from."""
    every = [(item, language) for item in items for language in languages if language in item.prompts]
    places = [place for place in every if _asked(*place).strip()]
    if not places:
        raise ConfigError(
            "every question begins with its gap, and cannot be answered in words: take other data"
        )
    if left := len(every) - len(places):
        print(f"note: {left:,} of {len(every):,} prompts begin with their gap, and are not asked")
    if parts := sum(
        bool(item.prompts[language].partition(MASK)[2].strip(" .。।")) for item, language in places
    ):
        print(
            f"note: in {parts:,} of {len(every):,} prompts words stand behind the gap, which the model does not see"
        )
    before = {
        language: [
            _asked(item, language) + _answer(item, language) for item in solved if language in item.prompts
        ]
        for language in languages
    }
    shots = min(map(len, before.values()), default=0)
    return places, [
        "\n\n".join([*before[language][:shots], _asked(item, language)]) for item, language in places
    ]


def _asked(item: ParallelItem, language: str) -> str:
    """A prompt up to its gap; a question ends its line."""
    text = open_prompt(item, language).partition(MASK)[0].rstrip()
    return text if item.num_candidates or not text else f"{text}\n"


def _answer(item: ParallelItem, language: str) -> str:
    """What is right, as it stands behind the question.

    Raises:
      ConfigError: nothing is.
    """
    if item.right:
        before, _, behind = open_prompt(item, language).partition(MASK)
        return (before + item.candidates[language][item.right[0]] + behind)[len(_asked(item, language)) :]
    if own := item.targets.get(language):
        return own[0]
    raise ConfigError(f"--shots: what is right is not known of question {item.id!r} in {language!r}")


def _readable(
    config: ConfigDict, model: Model, places: list[Place], prompts: list[str]
) -> tuple[list[Place], list[str]]:
    """What is asked, as the sampler will read it: none is cut, and none holds what the tokenizer cannot read as text;
    data.on_error=skip leaves those out.

    Raises:
      ConfigError, DataError: one is, or does.
    """
    longest = config.data.max_length
    builder = TreeBuilder(model.tokenizer, max_length=longest + 1, chat=chat_of(config, model))
    cells = [
        (ParallelItem(item.id, "", {name: prompt}, {name: ("a",)}, where=item.where), name)
        for (item, name), prompt in zip(places, prompts, strict=True)
    ]
    try:
        trees = builder.of_cells(cells)
    except BadCells as error:
        left = [n for n in range(len(cells)) if n not in error.problems]
        if config.data.on_error != "skip" or not left:
            raise
        print(f"note: {len(error.problems):,} prompts are not asked: {error}")
        return _readable(config, model, [places[n] for n in left], [prompts[n] for n in left])
    if trees.truncated.any():
        most = longest + int(trees.truncated.max())
        raise ConfigError(
            f"a prompt has {most:,} tokens, and data.max_length={longest} would cut it: set "
            f"--config.data.max_length={2 * most}, or take fewer --shots"
        )
    return places, prompts


def _line(config: ConfigDict, item: ParallelItem, language: str, texts: Sequence[str]) -> dict[str, Any]:
    answers = [answer_in_gap(item, language, text).strip() or None for text in texts]
    candidates = [text.strip() for text in item.candidates[language]]
    line: dict[str, Any] = {"id": item.id, "language": language, "group": item.group}
    line |= {"model": model_name(config), "prompt": open_prompt(item, language)}
    line["answer"] = answers[0] if len(answers) == 1 else answers
    line["gold"] = [candidates[k] for k in item.right] or list(item.targets.get(language, ()))
    return line | ({"candidates": candidates} if candidates else {})


def _list(answer: str | None | list[str | None]) -> list[str | None]:
    return answer if isinstance(answer, list) else [answer]


def _write(out: Path, lines: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    if out.exists() and out.read_bytes() != text.encode():
        raise ConfigError(f"{out} is there, and holds something else: give another --out, or move it")
    write_text(out, text)


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(ask, *(flag.value for flag in (_CONFIG, _OUT, _SERVER, _SAMPLES, _SHOTS)))


if __name__ == "__main__":
    _CONFIG = config_flag()
    _OUT = flags.DEFINE_string("out", None, "File of the answers, JSONL.")
    _SERVER = flags.DEFINE_string("server", "", "Address of an OpenAI-compatible server, up to and with /v1.")
    _SAMPLES = flags.DEFINE_integer("samples", 1, "Answers to each question.", lower_bound=1)
    _SHOTS = flags.DEFINE_integer("shots", 0, "Questions that stand solved before each other.", lower_bound=0)
    flags.mark_flags_as_required(["config", "out"])
    run_app(main, joint=True, keys=help_text, words=as_flags)
