"""A run as one picture, 1200 x 630: python -m consistency_jax.picture --workdir=runs/tiny --out=tiny.png

Its figures with their intervals and the map of its consistency, as report.json has them; of an audit the model's.
`--out` ends with .svg, or with .png, which needs the extra [png].
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.reports import measured_at, page_title
from consistency_jax.report.poster import poster
from consistency_jax.runtime.cli import run_app, run_command
from consistency_jax.runtime.files import complete_file, local, location
from consistency_jax.training.workdir import damaged_report, read_config, read_report


def picture(workdir: str | Path, out: str | Path, split: str = "") -> Path:
    """Draws what a run's report holds; returns the file.

    Args:
      out: ends with .svg or .png.
      split: which test split; "": the first.

    Raises:
      ConfigError: a folder that is no workdir or has no report, another ending, no such split, or .png without resvg.
    """
    workdir, out = location(workdir), local(out, "--out")
    if out.suffix not in (".svg", ".png"):
        raise ConfigError(f"--out={out} should end with .svg or .png")
    config, summary = read_config(workdir), read_report(workdir)
    if summary is None:
        raise ConfigError(
            f"{workdir} has no report.json yet: train first, or measure with consistency_jax.evaluate"
        )
    drawn: str | bytes
    if split and split not in (known := summary.get("base") or {}):
        raise ConfigError(f"--split={split}: the report has {', '.join(known)}")
    data = Path(config.data.path).name or config.data.source
    try:
        at = measured_at(config, summary["settings"].get("checkpoint"))
        told = [data, f"measured at {at}"] if at else [data]
        drawn = poster(summary, page_title(config, "final" not in summary), told, split)
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:  # of another shape
        raise damaged_report(workdir, error) from error
    if out.suffix == ".png":
        try:
            import resvg_py
        except ImportError as error:
            mend = "pip install 'consistency_jax[png]', or take --out=....svg"
            raise ConfigError(f"drawing .png needs resvg_py: {mend}") from error
        drawn = bytes(resvg_py.svg_to_bytes(svg_string=drawn))
    out.parent.mkdir(parents=True, exist_ok=True)
    with complete_file(out) as file:
        file.write(drawn.encode("utf8") if isinstance(drawn, str) else drawn)
    print(out)
    return out


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(picture, _WORKDIR.value, _OUT.value, _SPLIT.value)


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run that has a report.")
    _OUT = flags.DEFINE_string("out", None, "File to write, .svg or .png.")
    _SPLIT = flags.DEFINE_string("split", "", "Which test split; the first by default.")
    flags.mark_flags_as_required(["workdir", "out"])
    run_app(main)
