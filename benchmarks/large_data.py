"""What a run costs as its data grows: time until the first step, memory, and items a second.

    python benchmarks/large_data.py --tokenizer=$(python launch/fetch_model.py smollm2)  # half an hour on two cores
    python benchmarks/large_data.py --tokenizer=FOLDER --kind=questions --sizes=1000,200000

Writes files of made-up text, and starts `consistency_jax.train` on each twice: once with an empty cache, and again, as
a run that starts on what an earlier one has read. DPO on preference pairs in ten languages (`--kind=pairs`), or DCO of
drawn pairs on questions in 17 languages with four candidates (`--kind=questions`); of a random model so small that what
is seen is the data's. Prints a markdown table.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LANGUAGES = tuple(
    ["en", "fr", "es", "ru", "vi", "tr", "zh", "ja", "ar", "hi", "de", "it", "pt", "ko", "nl", "pl", "uk"]
)
ALPHABETS = {"ru": range(0x430, 0x450), "ar": range(0x628, 0x64A), "hi": range(0x905, 0x939)}
ALPHABETS |= {"uk": ALPHABETS["ru"], "zh": range(0x4E00, 0x5000), "ja": range(0x3042, 0x3094)}
ALPHABETS |= {"ko": range(0xAC00, 0xAE00)}
STEPS = 20  # the first one compiles
PART = re.compile(r"first step after ([\d.]+) s: (.*)")


class Words:
    """Texts of made-up words: as many distinct ones as a language has, in its script."""

    def __init__(self, seed: int) -> None:
        self._random, self._known = random.Random(seed), {}
        for language in LANGUAGES:
            letters = [chr(c) for c in ALPHABETS.get(language, range(97, 123))]
            size = (1, 2) if language in ("zh", "ja", "ko") else (2, 9)
            self._known[language] = [
                "".join(self._random.choices(letters, k=self._random.randint(*size))) for _ in range(5000)
            ]

    def __call__(self, language: str, count: int) -> str:
        return ("" if language in ("zh", "ja") else " ").join(
            self._random.choices(self._known[language], k=count)
        )


def pairs(count: int) -> Iterator[dict]:
    words = Words(count)
    for n in range(count):
        language = LANGUAGES[n % 10]
        texts = {key: " " + words(language, 10) for key in ("chosen", "rejected")}
        yield {"id": f"q{n // 10}", "language": language, "prompt": words(language, 15), **texts}


def questions(count: int) -> Iterator[dict]:
    words = Words(count)
    for n in range(count):
        yield {
            "id": f"q{n}",
            "prompts": {language: words(language, 10) for language in LANGUAGES},
            "candidates": {
                language: [f" {words(language, 2)} {k}" for k in range(4)] for language in LANGUAGES
            },
        }


# In a process of its own: what is measured is another's memory.
MODEL = """
import sys, jax
from consistency_jax.models.checkpoint import find_checkpoint
from consistency_jax.models.decoder import DecoderConfig, init_params
from consistency_jax.models.gguf import is_gguf, open_gguf
from consistency_jax.models.huggingface import Model, save_pretrained
from consistency_jax.models.tokenizers import load_tokenizer
path = find_checkpoint(sys.argv[1])
tokenizer = open_gguf(path).tokenizer() if is_gguf(path) else load_tokenizer(path)
config = DecoderConfig(len(tokenizer), hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=64)
save_pretrained(Model(config, init_params(config, jax.random.key(0)), tokenizer), sys.argv[2])
"""
MAKERS = {"pairs": pairs, "questions": questions}


def command(kind: str, model: Path, file: Path, tests: Path, workdir: Path) -> list[str]:
    """A run of a few steps with next to nothing to measure."""
    method = {"pairs": "dpo", "questions": "dco"}[kind]
    options = f"path={model},data={tests},method={method},steps={STEPS}"
    own = {"pairs": [f"--config.data.train.pairs={file}"], "questions": [f"--config.data.path={file}"]}[kind]
    if kind == "questions":
        own += [
            "--config.data.test_items=20",
            "--config.batching.languages=2",
            "--config.objective.candidates=pair",
        ]
    return [
        *(sys.executable, "-m", "consistency_jax.train", f"--config=configs/custom.py:{options}"),
        *(
            f"--workdir={workdir}",
            "--config.logging.every=1",
            "--config.batching.shapes=1",
            "--config.evaluation.bootstrap=10",
            *own,
        ),
    ]


def measured(arguments: list[str], cache: Path, workdir: Path) -> dict[str, float]:
    """Seconds until the first step, of those the model's and the compiler's; most memory; items a second."""
    environment = os.environ | {"CONSISTENCY_CACHE": str(cache)}
    start = time.monotonic()
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)}\n{output}")
    first, parts = PART.search(output).groups()
    spent = dict(re.findall(r"([a-z][a-z ]*) ([\d.]+) s", parts))
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rates = sorted(line["items_per_s"] for line in lines if "items_per_s" in line)
    return {
        "first": float(first),
        "data": float(spent["data"]) + float(spent["trees"]),
        "gib": usage.ru_maxrss / 2**20,
        "rate": rates[len(rates) // 2],
        "whole": time.monotonic() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", required=True, help="of this model: a folder or GGUF file")
    parser.add_argument("--kind", choices=MAKERS, default="pairs")
    parser.add_argument("--sizes", default="1000,10000,100000,1000000")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="large_data."))
    own = ["data and trees, s", "peak memory, GiB"]
    heads = [args.kind, "file, MB", "cache, MB", *(f"first: {head}" for head in own)]
    own = [own[0], "until the first step, s", own[1], "items a second"]
    heads += [f"again: {head}" for head in own]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    try:
        tests, model = folder / "tests.jsonl", folder / "model"
        subprocess.run([sys.executable, "-c", MODEL, args.tokenizer, model], check=True)
        write(tests, questions(10))
        for size in map(int, args.sizes.split(",")):
            file, cache = folder / "data.jsonl", folder / "cache"
            write(file, MAKERS[args.kind](size))
            runs = []
            for name in ("first", "again"):
                workdir = folder / name
                runs.append(measured(command(args.kind, model, file, tests, workdir), cache, workdir))
                shutil.rmtree(workdir)
            kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1e6
            first, again = runs
            cells = [f"{file.stat().st_size / 1e6:,.0f}", f"{kept:,.0f}", first["data"], first["gib"]]
            cells += [again[name] for name in ("data", "first", "gib", "rate")]
            told = [cell if isinstance(cell, str) else f"{cell:.1f}" for cell in cells]
            print(f"| {size:,} | {' | '.join(told)} |", flush=True)
            shutil.rmtree(cache)
    finally:
        shutil.rmtree(folder)


def write(file: Path, rows: Iterator[dict]) -> None:
    with file.open("w", encoding="utf8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
