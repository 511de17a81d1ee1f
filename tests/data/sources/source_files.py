"""Small files of our own in the formats of the published sets."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

SUBJECTS = ("anatomy", "law")
LOCALES = {"ar": "AR-XY", "de": "DE-DE", "en": "EN-US"}
FRUIT = {
    "en": ("apple", "pear", "plum", "fig", "kiwi"),
    "de": ("Apfel", "Birne", "Pflaume", "Feige", "Kiwi"),
    "ar": ("تفاح", "كمثرى", "برقوق", "تين", "كيوي"),
    "zh": ("苹果", "梨", "李子", "无花果", "猕猴桃"),
    "ja": ("林檎", "梨", "李", "無花果", "キウイ"),
}
ASK = {"en": "Which, {}?", "de": "Welche, {}?", "ar": "أي، {}؟", "zh": "哪个，{}？", "ja": "どれ、{}？"}


def as_csv(rows: Iterable[Sequence[object]], delimiter: str = ",", end: str = "\r\n") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue()


def as_jsonl(records: Iterable[object]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


def question(language: str, number: int, options: int = 4) -> tuple[str, list[str], int]:
    """Text, options and gold of question `number`, alike in all languages."""
    return ASK[language].format(number), list(FRUIT[language][:options]), number % options


def mmmlu(folder: Path, languages: Sequence[str] = ("ar", "de"), each: int = 4) -> Path:
    """OpenAI's files, and MMLU's own of English, `each` questions a subject, with a dev split of two."""
    for language in languages:
        rows = [["", "Question", "A", "B", "C", "D", "Answer", "Subject"]]
        for number in range(each * len(SUBJECTS)):
            text, options, gold = question(language, number)
            rows.append([number, text, *options, "ABCD"[gold], SUBJECTS[number // each]])
        write(folder / "test" / f"mmlu_{LOCALES[language]}.csv", as_csv(rows))
    for part, count in (("test", each), ("dev", 2)):
        for s, subject in enumerate(SUBJECTS):
            rows = []
            for number in range(count):
                text, options, gold = question("en", number + s * count)
                rows.append([text if part == "test" else f"Dev {text}", *options, "ABCD"[gold]])
            write(folder / part / f"{subject}_{part}.csv", as_csv(rows, end="\n"))
    return folder


def mmmlu_parallel(file: Path, count: int = 8) -> Path:
    records = []
    for number in range(count):
        (en, options, gold), (de, others, _) = question("en", number), question("de", number)
        records.append(
            {
                "id": f"x/{number}",
                "subject": SUBJECTS[number * 2 // count],
                "answer": "ABCD"[gold],
                "en": [en, *options],
                "de": [de, *others],
            }
        )
    return write(file, as_jsonl(records))


def xcsqa_record(language: str, number: int) -> dict:
    text, options, gold = question(language, number, 5)
    return {
        "id": f"q{number}",
        "lang": "jap" if language == "ja" else language,
        "question": {
            "stem": text,
            "choices": [{"label": label, "text": own} for label, own in zip("ABCDE", options)],
        },
        "answerKey": "ABCDE"[gold],
    }


def xcsqa(folder: Path, languages: Sequence[str] = ("en", "zh", "ja"), count: int = 20) -> Path:
    for language in languages:
        name = "jap" if language == "ja" else language
        records = (xcsqa_record(language, number) for number in range(count))
        write(folder / name / "dev.jsonl", as_jsonl(records))
    return folder


def hub(folder: Path, languages: Sequence[str] = ("en", "zh"), count: int = 8) -> Path:
    for language in languages:
        rows = [["Prompt", "Ans", "Candidate Ans"]]
        for number in range(count):
            text, options, gold = question(language, number)
            rows.append([text, options[gold], repr(options)])
        write(folder / f"{language}.tsv", as_csv(rows, "\t"))
    return folder


def multijail(folder: Path, count: int = 4) -> Path:
    names = ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")
    rows = [["id", "source", "tags", *names]]
    rows += [
        [n, "us", "['Theft', 'Fraud & more']", *(f'{name} "prompt", {n}' for name in names)]
        for n in range(count)
    ]
    return write(folder / "MultiJail.csv", "\ufeff" + as_csv(rows))


def polyrefuse(folder: Path, count: int = 3) -> Path:
    names = ("en", "ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")
    for kind in ("harmful", "harmless"):
        for part in ("train", "val"):
            category = "illegal" if (kind, part) == ("harmful", "val") else None
            records = [
                {"id": f"{kind}_{part}/{n}", "category": category} | {name: f"{name} {n}" for name in names}
                for n in range(count)
            ]
            write(folder / f"polyrefuse_{kind}_{part}.jsonl", as_jsonl(records))
    return folder


def xsafety(folder: Path, kinds: Sequence[str] = ("Insult", "commonsense"), count: int = 4) -> Path:
    for name in ("en", "sp", "fr"):
        for kind in kinds:
            ending = "_n" if name == "en" and kind == "Insult" else ""
            if name == "sp" and kind.endswith("Activities"):  # so is one of the original files
                kind = kind[:-1]
            rows = [[f' {name}, "{kind}" {n}'] for n in range(count)]
            write(folder / name / f"{kind}{ending}.csv", as_csv(rows))
    return folder


def klar(folder: Path, names: Sequence[str] = ("en", "zh", "sw"), count: int = 4) -> Path:
    asked = {"en": ("Where is <subject>? In <mask>.", "<subject> is in <mask>")}
    asked["zh"] = ("<subject>在哪里？在<mask>。",) * 2
    for name in names:
        for relation in ("capital", "country"):
            samples = [
                {
                    "subject": f"{name} {relation} {n}",
                    "object": f"{name} c",
                    "object_candidates": ", ".join(f"{name} {letter}" for letter in "abcd"),
                    "index": 10 * n,
                    "subject_en": "x",
                    "object_en": "x",
                }
                for n in range(count)
            ]
            templates = asked.get(name, ("<subject> ni <mask>", "Je, <subject> ni <mask> ?"))
            record = {
                "name": relation,
                "prompt_templates": templates,
                "samples": samples,
                "relation_id": "P1",
            }
            write(folder / name / f"{relation}.json", as_jsonl([record]))
    return folder


def pku(folder: Path, count: int = 6) -> Path:
    for part in ("train", "test"):
        records = [
            {
                "prompt": f"{part} {n}?",
                "response_0": f"No {n}.",
                "response_1": f"Yes {n}.",
                "is_response_0_safe": True,
                "is_response_1_safe": n % 2 == 0,
                "better_response_id": 1,
                "safer_response_id": 0,
                "more": "x",
            }
            for n in range(count)
        ]
        write(folder / "data" / f"{part}.jsonl", as_jsonl(records))
    return folder


def instructions(folder: Path, names: Sequence[str] = ("English", "Deutsch", "sw"), count: int = 5) -> Path:
    for name in names:
        records = [
            {"question_id": n, "text": f"{name} {n}", "category": "generic"} for n in range(1, count + 1)
        ]
        write(folder / f"questions_{name}.jsonl", as_jsonl(records))
    return folder


def bmlama(folder: Path, languages: Sequence[str] = ("en", "zh"), count: int = 8) -> Path:
    for language in languages:
        rows = [["Prompt", "Ans", "Candidate Ans", "Subject"]]
        for number in range(count):
            names = list(FRUIT[language])
            names.append(names.pop(number % len(names)))
            rows.append([f"{language} {number // 2} <mask>.", names[-1], ", ".join(names), f"s{number // 2}"])
        write(folder / f"{language}.tsv", as_csv(rows, "\t"))
    return folder
