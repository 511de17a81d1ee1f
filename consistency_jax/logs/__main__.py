"""How consistent is a model, by what others have logged of it? consistency-jax audit --from=FOLDER --workdir=RUN

`--from` is a folder of lm-evaluation-harness (`lm_eval ... --output_path=FOLDER --log_samples`), lighteval (details) or
Inspect (.eval, .json), whose tasks in several languages are told by their names (xcopa_it, xcopa_sw); or JSONL of your
own with a line for each question and language:

    {"id": "q1", "language": "sw", "scores": [-1.5, -3.2], "gold": 0}       log-probabilities of the candidates
    {"id": "q1", "language": "sw", "answer": "B", "gold": "C"}              the answer alone; null for none

A line may also hold task, prompt, candidates and group; several answers may be a list. No model is loaded. Report,
intervals, tables and `compare` are those of an audit, ranked by `sum`, or by `bytes`; of answers alone there is
agreement and accuracy, and no CLC. `--match` says which answers in words are the same (spelling, number, embedding,
translate, judge); the report tells how well that does on what is known to be right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from consistency_jax.config.defaults import default
from consistency_jax.data.items import DataError
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.reports import write_report
from consistency_jax.logs import read_logs
from consistency_jax.logs.matching import SPELLING, Match, Tools, match_of
from consistency_jax.runtime.cli import run_app, run_command
from consistency_jax.runtime.files import local, location
from consistency_jax.table import write_tables
from consistency_jax.training.workdir import LOGS, open_workdir, read_config

RANKINGS = ("sum", "bytes")  # what needs no tokens, which are not logged


def audit_logs(
    logs: str | Path,
    workdir: str | Path,
    tasks: str = "",
    join: str = "",
    normalization: str = "sum",
    name: str = "",
    match: str = "",
    tools: Tools | None = None,
) -> dict[str, Any]:
    """Reads logs and writes the report of an audit into a workdir; returns what report.json holds.

    Args:
      logs: a folder or a file.
      tasks: which tasks, joined by +, with {language} in their names; "": every one that is there in two languages.
      join: the field by which questions of the languages belong together; "": as the format has it.
      normalization: what candidates are ranked by, sum or bytes.
      name: of the model; "": as the log tells it.
      match: tells which answers in words are the same, of `matching.MATCHES`; "": spelling.
      tools: what that may need.

    Raises:
      ConfigError: another normalization or match, a match of logs that hold scores, or a workdir of something else.
      DataError: as `read_logs`.
    """
    if normalization not in RANKINGS:
        raise ConfigError(f"--normalization={normalization} should be one of {', '.join(RANKINGS)}")
    if not str(logs):
        raise ConfigError("--from= names nothing: a folder or a file of logs")
    path = local(logs, "--from")
    if not path.exists():
        raise DataError.at(str(path), "there is no such file or folder", "Name what holds the logs")
    tools = (tools or Tools())._replace(workdir=str(location(workdir)))
    way = match_of(match, tools) if match else None
    _check_match(location(workdir), way)
    logged = read_logs(path, tasks, join, way)
    kinds = {table.known for table in logged.tables.values()}
    if match and kinds == {"scores"}:
        raise ConfigError(f"--match={match} is of answers in words, and {path} holds scores: leave it out")
    if normalization != "sum" and kinds != {"scores"}:
        raise ConfigError(
            f"--normalization={normalization} ranks scores, and {path} holds answers alone: leave it out"
        )
    config = default()
    config.model.path, config.data.source, config.data.path = name or logged.model, LOGS, str(path)
    config.data.options = {"match": way.name} if way and way.name != SPELLING else {}
    config.data.test, config.evaluation.normalization = tuple(logged.items), normalization
    for note in logged.notes:
        print(f"note: {note}")
    with open_workdir(workdir, config) as folder:
        write_tables(folder / "tables" / "base.npz", logged.tables)
        return write_report(config, folder, logged.items, logged.tables, None, [], [], logged.notes)


def _check_match(workdir: Path, way: Match | None) -> None:
    """Refuses a folder of an audit by another match before anything is judged; `open_workdir` checks the rest.

    Raises:
      ConfigError: the folder's match is another.
    """
    if (workdir / "config.json").exists() and (workdir / "report.json").exists():
        before, now = read_config(workdir).data.options.get("match", SPELLING), way.name if way else SPELLING
        if before != now:
            told = f"{workdir} has an audit by --match={before}"
            raise ConfigError(f"{told}: give another --workdir for --match={now}")


def main(argv: Sequence[str]) -> None:
    if argv[1:]:
        raise SystemExit(f"error: {argv[1]!r} is no flag: --from=FOLDER --workdir=RUN")
    given = (_FROM, _WORKDIR, _TASKS, _JOIN, _NORMALIZATION, _NAME, _MATCH)
    if not _MATCH.value and (_SERVER.value or _SERVER_MODEL.value):
        raise SystemExit(
            "error: --server judges or translates: say which, --match=judge or --match=translate"
        )
    tools = Tools(_SERVER.value, _SERVER_MODEL.value, _ENCODER.value)
    run_command(audit_logs, *(flag.value for flag in given), tools)


if __name__ == "__main__":
    _FROM = flags.DEFINE_string("from", None, "Folder or file of logs.")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the report (made if it is not there).")
    _TASKS = flags.DEFINE_string(
        "tasks", "", "Which, by pattern, joined by +: xcopa_{language}; all in two languages by default."
    )
    _JOIN = flags.DEFINE_string("join", "", "Field by which questions of the languages belong together.")
    _NORMALIZATION = flags.DEFINE_string(
        "normalization", "sum", "What candidates are ranked by: sum or bytes."
    )
    _NAME = flags.DEFINE_string("name", "", "Of the model; by default as the log tells it.")
    _MATCH = flags.DEFINE_string(
        "match", "", "Which answers in words are the same: spelling, number, embedding, translate or judge."
    )
    _SERVER = flags.DEFINE_string("server", "", "OpenAI-compatible, up to and with /v1: judges, translates.")
    _SERVER_MODEL = flags.DEFINE_string("server_model", "", "The server's name of the model.")
    _ENCODER = flags.DEFINE_string("encoder", "LaBSE", "Of sentences: a sentence-transformers model.")
    flags.mark_flags_as_required(["from", "workdir"])
    run_app(main)
