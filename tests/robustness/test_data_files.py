"""Files of data, broken: one clear error, or with data.on_error=skip rows left out and counted; never a traceback.

What is accepted is harmless by a rule: every item keeps what `validate` promises, becomes trees or is refused by name,
and of two ways to read the same file the one that skips reads the same where there is nothing to skip.
"""

import json
import random
from pathlib import Path

import pytest
import source_files
from mutations import Outcomes, broken_bytes, broken_json

from consistency_jax.data.items import Items, validate
from consistency_jax.data.preferences import pair_items, pairs_text, read_pairs
from consistency_jax.data.sources import load_items, source_of
from consistency_jax.data.trees.builder import TreeBuilder

pytestmark = pytest.mark.slow
MAKERS = {
    "bmlama17": (source_files.bmlama, {"languages": ["en", "zh"]}),
    "hub": (source_files.hub, {"languages": ["en", "zh"]}),
    "instructions": (source_files.instructions, {}),
    "klar": (source_files.klar, {"languages": ["en", "zh-t2"]}),
    "mmmlu": (source_files.mmmlu, {"languages": ["en", "de", "ar"]}),
    "multijail": (source_files.multijail, {}),
    "pku_saferlhf": (source_files.pku, {}),
    "polyrefuse": (source_files.polyrefuse, {}),
    "refusals": (source_files.polyrefuse, {}),
    "xcsqa": (source_files.xcsqa, {"languages": ["en", "zh"]}),
    "xsafety": (source_files.xsafety, {"languages": ["en", "fr"], "kinds": ["Insult", "commonsense"]}),
}
EACH = 70


def check_readers(
    outcomes: Outcomes, label: str, source: str, path: Path, options: dict, builder: TreeBuilder
) -> None:
    """The file as it is, read strictly and with rows skipped."""
    strict = outcomes.of(label, lambda: load_items(source, path=path, **options))
    lenient = outcomes.of(f"{label}, skip", lambda: load_items(source, path=path, on_error="skip", **options))
    for found in (strict, lenient):
        if isinstance(found, Exception):
            continue
        assert isinstance(found, Items), label
        for item in found:
            validate(item, label, bare=not source_of(source).answers or not item.num_candidates)
        if source_of(source).answers and all(item.num_candidates for item in found):
            outcomes.of(f"{label}, trees", lambda found=found: builder.build(found))
    if isinstance(strict, Items):
        assert isinstance(lenient, Items), (label, lenient)
        assert list(strict) == list(lenient), label
        assert not lenient.skipped, label
    elif isinstance(lenient, Items):
        assert lenient.skipped, (label, str(strict))
        assert all(said.strip() and "\n" not in said for said in lenient.skipped), label
        outcomes.counts["skipped rows"] += len(lenient.skipped)


def broken(whole: bytes, value: bool, draw: random.Random) -> bytes:
    """A file with one fault: in a value of one of its JSON lines, or in its bytes."""
    if not value:
        return broken_bytes(whole, draw)
    lines = whole.decode().splitlines()
    line = draw.randrange(len(lines))
    lines[line] = json.dumps(broken_json(json.loads(lines[line]), draw))
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def builder(small_tokenizer) -> TreeBuilder:
    return TreeBuilder(small_tokenizer, max_length=4096)


@pytest.mark.parametrize("source", MAKERS)
def test_files_of_public_sets(source: str, tmp_path: Path, builder: TreeBuilder) -> None:
    make, options = MAKERS[source]
    made = make(tmp_path / "data")
    assert load_items(source, path=made, **options)
    files = sorted(path for path in (tmp_path / "data").rglob("*") if path.is_file())
    draw, outcomes = random.Random(source), Outcomes()
    for number in range(EACH):
        file = draw.choice(files)
        whole = file.read_bytes()
        file.write_bytes(broken(whole, file.suffix == ".jsonl" and number % 2 == 1, draw))
        check_readers(outcomes, f"{source} {number} ({file.name})", source, made, options, builder)
        file.write_bytes(whole)
    assert outcomes.counts["error"] > EACH // 10


def table(folder: Path, form: str) -> tuple[Path, dict[str, str]]:
    """Eight questions in two languages in a form of `mapped`; its path and the names of its columns."""
    told, wide = {"en": [], "zh": []}, []
    for number in range(8):
        both = {language: source_files.question(language, number) for language in told}
        for language, (text, options, gold) in both.items():
            own = {"id": f"q{number}", "q": text, "choices": options, "gold": gold, "lang": language}
            told[language].append(own | dict(zip("abcd", options, strict=True)))
        columns = {
            f"{k}_{language}": v for language, own in told.items() for k, v in own[-1].items() if k in "qabcd"
        }
        wide.append(columns | {"gold": "ABCD"[number % 4]})
    each = {"prompt": "q", "gold": "gold", "id": "id"}
    if form == "jsonl":
        for language, rows in told.items():
            source_files.write(folder / f"{language}.jsonl", source_files.as_jsonl(rows))
        return folder, each | {"candidates": "choices"}
    rows = wide if form == "wide" else [row for pair in zip(*told.values(), strict=True) for row in pair]
    file = source_files.write(
        folder / "sheet.csv", source_files.as_csv([list(rows[0]), *(row.values() for row in rows)])
    )
    if form == "wide":
        letters = "+".join(f"{k}_{{language}}" for k in "abcd")
        return file, {"prompt": "q_{language}", "candidates": letters, "gold": "gold"}
    return file, each | {"candidates": "a+b+c+d", "language": "lang"}


@pytest.mark.parametrize("form", ["jsonl", "long", "wide"])
def test_tables_of_any_columns(form: str, tmp_path: Path, builder: TreeBuilder) -> None:
    path, options = table(tmp_path / "data", form)
    assert load_items("mapped", path=path, **options).languages == ("en", "zh")
    files = sorted(file for file in (tmp_path / "data").rglob("*") if file.is_file())
    draw, outcomes = random.Random(form), Outcomes()
    for number in range(2 * EACH):
        file = draw.choice(files)
        whole = file.read_bytes()
        file.write_bytes(broken(whole, file.suffix == ".jsonl" and number % 2 == 1, draw))
        check_readers(outcomes, f"mapped {form} {number}", "mapped", path, options, builder)
        file.write_bytes(whole)
    assert outcomes.counts["error"] > EACH // 10


def test_ones_own_questions(questions: Path, tmp_path: Path, builder: TreeBuilder) -> None:
    lines = questions.read_text("utf8").splitlines()[:6]
    file, draw, outcomes = tmp_path / "questions.jsonl", random.Random(1), Outcomes()
    for number in range(4 * EACH):
        own = list(lines)
        if number % 4:
            line = draw.randrange(len(own))
            own[line] = json.dumps(broken_json(json.loads(own[line]), draw))
            file.write_text("\n".join(own) + "\n")
        else:
            file.write_bytes(broken_bytes("\n".join(own).encode(), draw))
        check_readers(outcomes, f"jsonl {number}", "jsonl", file, {}, builder)
    assert outcomes.counts["error"] > EACH
    assert outcomes.counts["skipped rows"] > EACH // 2


def test_preference_pairs(questions: Path, tmp_path: Path, builder: TreeBuilder) -> None:
    items = load_items("jsonl", path=questions)[:6]
    records = [
        {
            "id": item.id,
            "language": language,
            "prompt": item.prompts[language],
            "chosen": item.candidates[language][0],
            "rejected": item.candidates[language][1],
        }
        for item in items
        for language in ("en", "ru")
    ]
    file, draw, outcomes = tmp_path / "pairs.jsonl", random.Random(2), Outcomes()
    for number in range(2 * EACH):
        lines = [json.dumps(record) for record in records]
        if number % 3:
            line = draw.randrange(len(lines))
            lines[line] = json.dumps(broken_json(records[line], draw))
            file.write_text("\n".join(lines))
        else:
            file.write_bytes(broken_bytes("\n".join(lines).encode(), draw))
        label = f"pairs {number}"
        strict = outcomes.of(label, lambda: read_pairs(file))
        lenient = outcomes.of(f"{label}, skip", lambda: read_pairs(file, "skip"))
        for found in (strict, lenient):
            if isinstance(found, list):
                assert pairs_text(found), label
                own = outcomes.of(f"{label}, items", lambda found=found: pair_items(found, str(file)))
                if isinstance(own, Items):
                    outcomes.of(f"{label}, trees", lambda own=own: builder.build(own))
        if isinstance(strict, list):
            assert list(strict) == list(lenient), label
        elif isinstance(lenient, list):
            assert lenient.skipped, label
    assert outcomes.counts["error"] > EACH // 2
