"""Have a model answer in its own words: consistency-jax ask --path=MODEL --data=mgsm --data_path=DIR --out=FILE.jsonl

The model answers itself; or an OpenAI-compatible server does, --server=http://localhost:8000/v1, which knows it by the
name --path. Writes a line for each question and language, with what is right:

    {"id": "q1", "language": "sw", "prompt": "...", "answer": "Misri", "gold": ["Misri"]}

which `consistency-jax audit --from=FILE.jsonl --match=...` makes a report of. Killed, the same command goes on where it
was (FILE.jsonl.drawn). A model that was not taught to answer needs to be shown how: --shots=4 puts the first four
questions, with their answers, before each of the others.
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
from consistency_jax.data.items import MASK, ParallelItem, answer_in_gap, open_prompt
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.free_text import BATCH, cached_answers
from consistency_jax.evaluation.splits import load_tests
from consistency_jax.generation import Generator, Sampling
from consistency_jax.generation.cached_answers import CachedAnswers
from consistency_jax.generation.endpoint import Endpoint
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


def ask(config: ConfigDict, out: str | Path, server: str = "", samples: int = 1, shots: int = 0) -> None:
    """Asks a model the questions of the config's test split, and writes its answers.

    Args:
      out: the file to write, JSONL.
      server: address of an OpenAI-compatible server; "": the model answers on this machine.
      samples: answers to each question.
      shots: the first so many questions stand solved before each of the others, and are not asked.

    Raises:
      ConfigError: a file that is there and holds something else; more shots than questions, or shots that nothing
        solves; several samples that would all be the same.
      DataError: for bad data.
      GenerationError: a server that does not answer.
    """
    validate(config, jax.device_count())
    sampling = Sampling.of(config.evaluation.generation)
    if samples > 1 and not sampling.temperature:
        raise ConfigError(f"--samples={samples} at temperature 0 are one answer: set --temperature=1")
    out = local(out, "--out")
    drawn = out.with_name(f"{out.name}.drawn")
    for place in (out, drawn):
        refuse_input(place, "--out", *inputs_of(config))
    on_main(lambda: out.parent.mkdir(parents=True, exist_ok=True))
    use_compile_cache(config)
    watch, mesh = Watch(), make_mesh(mesh_shape(config, jax.device_count()))
    watch.part("data", "reading data")
    (items,) = load_tests(config, bare=True).values()
    solved, items = items[:shots], items.only(items[shots:])
    if not items:
        raise ConfigError(f"--shots={shots} leaves none of {len(solved)} questions: take fewer")
    tell_run(
        watch, config, mesh, [{config.data.test[0]: items}], f"answers in words, {samples} to each question"
    )
    engine: Generator
    if server:
        chat = config.data.chat_template != "off"
        made = Endpoint(server, config.model.path, chat=chat, system_prompt=config.data.system_prompt)
        settings = json.dumps([server, config.model.path, chat, config.data.system_prompt])
        engine = CachedAnswers(lambda: made, drawn, settings, BATCH)
    else:
        watch.part("model", "loading the model")
        model = base_model(config, mesh, cache_folder() / "logs")
        tell_model(watch, config, model)
        engine = cached_answers(config, model, drawn, BATCH, [fingerprint(model.params)])
    watch.part("", "asking")
    places = [(item, language) for item in items for language in item.languages]
    prompts = [_prompt(item, language, solved) for item, language in places]
    found = engine.generate(prompts, n=samples, sampling=sampling, seed=config.seed)
    lines = [_line(*place, prompt, own) for place, prompt, own in zip(places, prompts, found, strict=True)]
    on_main(functools.partial(_write, out, "".join(lines)))
    watch.close()
    print(f"answers: {out}\nnext: consistency-jax audit --from={out} --match=spelling --workdir=FOLDER")


def _prompt(item: ParallelItem, language: str, solved: Sequence[ParallelItem]) -> str:
    """A question behind those that stand solved before it. One that is no sentence to be gone on from ends its line."""
    told = [_asked(own, language) + _answer(own, language) for own in solved if language in own.prompts]
    return "\n\n".join([*told, _asked(item, language)])


def _asked(item: ParallelItem, language: str) -> str:
    text = open_prompt(item, language).partition(MASK)[0].rstrip()
    return text if item.num_candidates else f"{text}\n"


def _answer(item: ParallelItem, language: str) -> str:
    """What is right, as it stands behind the question.

    Raises:
      ConfigError: nothing is.
    """
    if item.right:
        _, _, behind = item.prompts[language].partition(MASK)
        before = open_prompt(item, language).partition(MASK)[0]
        return (before + item.candidates[language][item.right[0]] + behind)[len(_asked(item, language)) :]
    if own := item.targets.get(language):
        return own[0]
    raise ConfigError(f"--shots: what is right is not known of question {item.id!r} in {language!r}")


def _line(item: ParallelItem, language: str, prompt: str, texts: Sequence[str]) -> str:
    answers = [answer_in_gap(item, language, text).strip() or None for text in texts]
    candidates = [text.strip() for text in item.candidates[language]]
    line: dict[str, Any] = {"id": item.id, "language": language, "group": item.group, "prompt": prompt}
    line["answer"] = answers[0] if len(answers) == 1 else answers
    line["gold"] = [candidates[k] for k in item.right] or list(item.targets.get(language, ()))
    if candidates:
        line["candidates"] = candidates
    return json.dumps(line, ensure_ascii=False) + "\n"


def _write(out: Path, text: str) -> None:
    if out.exists() and out.read_text(encoding="utf8") != text:
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
