"""Compile a config for a TPU slice that is not there: does it fit, what does it do, how long might it take?

    python -m consistency_jax.aot --config=configs/custom.py:path=google/gemma-3-4b-pt --topology=v5e:4x4

The very train step and scoring step of train.py go through the TPU compiler, from shapes alone: no weights, no data,
no TPU. It needs libtpu: pip install 'consistency_jax[aot]'. The model is `model.path` (a folder with config.json, or
the id of a published model, see models/published.py), else `model.architecture`. Exit status 1 where it does not fit.

Batches are as large as the config makes them of typical data of its source (shapes.py), or as --rows (rows of one
device in one micro-batch) and --length (tokens of a row) say. Memory and FLOPs are the compiler's; times are estimates,
a roofline at the data-sheet rates of runtime/chips.py that knows nothing of latencies.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import rich.console
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.aot.prove import advice, prove, show
from consistency_jax.config.command_line import as_flags
from consistency_jax.config.defaults import help_text
from consistency_jax.errors import UserError
from consistency_jax.runtime.chips import chip_of
from consistency_jax.runtime.cli import config_flag, run_app, run_command
from consistency_jax.runtime.files import local, read_json, refuse_input, write_text
from consistency_jax.training.workdir import inputs_of


def command(
    config: ConfigDict, topology: str, json_path: str = "", rows: int = 0, length: int = 0, hlo: str = ""
) -> None:
    """Proves, prints, writes; exit status 1 where a program does not fit."""
    chip_of(topology)  # a wrong one is told before a folder is made
    out, programs = _place(config, json_path, "--json"), _place(config, hlo, "--hlo")
    if out:
        _refuse_other(out)
        out.parent.mkdir(parents=True, exist_ok=True)
    if programs:
        programs.mkdir(parents=True, exist_ok=True)
    report = prove(config, topology, rows=rows, length=length, hlo=programs)
    show(report, rich.console.Console())
    if out:
        write_text(out, json.dumps(report, indent=2) + "\n")
    if not report["fits"]:
        print(advice(report, config), file=sys.stderr)
        sys.exit(1)


def _place(config: ConfigDict, name: str, flag: str) -> Path | None:
    """What a flag names, None for nothing. UserError where the config reads it."""
    if not name:
        return None
    refuse_input(place := local(name, flag), flag, *inputs_of(config))
    return place


def _refuse_other(out: Path) -> None:
    """UserError where --json names a file that is no report of this command."""
    try:
        there = read_json(out) if out.exists() else {"fits": True}
    except ValueError:
        there = None
    if not isinstance(there, dict) or "fits" not in there:
        raise UserError(f"--json={out} is there, and is no report of this command: name another file")


def main(argv: Sequence[str]) -> None:
    del argv
    jax.config.update("jax_platforms", "cpu")  # whatever is here, only its compiler is wanted
    run_command(command, _CONFIG.value, _TOPOLOGY.value, _JSON.value, _ROWS.value, _LENGTH.value, _HLO.value)


if __name__ == "__main__":
    _CONFIG = config_flag()
    _TOPOLOGY = flags.DEFINE_string(
        "topology", None, "TPU slice, generation:shape, such as v5e:4x4 or v5p:2x2x2."
    )
    _JSON = flags.DEFINE_string("json", "", "File to write the report to.")
    _ROWS = flags.DEFINE_integer(
        "rows", 0, "Rows of a device in one micro-batch; 0: what the config's items fill."
    )
    _LENGTH = flags.DEFINE_integer("length", 0, "Tokens of a row; 0: what the source's longest items need.")
    _HLO = flags.DEFINE_string("hlo", "", "Folder to write the compiled programs' HLO to.")
    flags.mark_flags_as_required(["config", "topology"])
    run_app(main, keys=help_text, words=as_flags)
