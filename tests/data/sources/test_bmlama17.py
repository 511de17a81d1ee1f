"""BMLAMA-17: the traps of its format on our own fixture; its exact counts where the files are present."""

import random
from collections import Counter
from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items
from consistency_jax.data.sources.bmlama17 import LANGUAGES

ROWS = {
    "en": [
        ("X was born in <mask>.", "Rome", "Oslo, Bern, Rome", "X"),
        ('"Y ""the"" Z shares border with <mask>."', "Fiji", "Peru, Fiji", '"Y ""the"" Z"'),
        ("X was born in <mask>.", "Oslo", "Kyiv, Rome, Oslo", "X"),
        ("W was born in <mask>.", "Oslo", "Kyiv, Rome, Oslo", "W"),
    ],
    "zh": [
        ("某<mask>出生", "罗马", "奥斯陆, 伯尔尼, 罗马", "某"),
        ("乙<mask>", "斐济", "秘鲁, 斐济", "乙"),
        ("某<mask>出生", "奥斯陆", "基辅, 罗马, 奥斯陆", "某"),
        ("丁<mask>出生", "奥斯陆", "基辅, 罗马, 奥斯陆", "丁"),
    ],
}
HEADERS = {"en": "Prompt\tAns\tCandidate Ans\tSubject", "zh": "Prompt\tAns\tCandidate\tAns\tSubject"}


def write(folder: Path, rows: dict = ROWS) -> Path:
    for language, lines in rows.items():
        text = "\r\n".join([HEADERS[language], *("\t".join(line) for line in lines)]) + "\r\n"
        (folder / f"{language}.tsv").write_bytes(text.encode())
    return folder


def test_rows_keep_their_order_and_candidates_move_together(tmp_path: Path):
    items = load_items("bmlama17", path=write(tmp_path), languages=["zh", "en"])
    assert [item.id for item in items] == [f"bmlama17-000{i}" for i in range(4)]
    assert items[1].prompts["en"] == 'Y "the" Z shares border with <mask>.'
    assert items[1].group == "[X] shares border with [Y]."
    assert items[0].languages == ("zh", "en")
    in_file = load_items("bmlama17", path=tmp_path, languages=["en", "zh"], shuffle=False)
    for item, plain, row in zip(items, in_file, ROWS["en"]):
        assert item.candidates["en"][item.gold] == row[1]
        order = [plain.candidates["en"].index(c) for c in item.candidates["en"]]
        assert [plain.candidates["zh"].index(c) for c in item.candidates["zh"]] == order
        assert plain.gold == plain.num_candidates - 1


def test_groups_and_order_do_not_depend_on_the_languages(tmp_path: Path):
    folder = write(tmp_path)
    both = load_items("bmlama17", path=folder, languages=["en", "zh"])
    one = load_items("bmlama17", path=folder, languages=["zh"])
    assert [item.group for item in both] == [item.group for item in one]
    assert [item.candidates["zh"] for item in both] == [item.candidates["zh"] for item in one]
    (folder / "en.tsv").unlink()
    assert {item.group for item in load_items("bmlama17", path=folder, languages=["zh"])} == {""}


def test_the_answer_may_stand_at_the_end(tmp_path: Path):
    item = load_items("bmlama17", path=write(tmp_path), languages=["zh", "en"], cloze="end", shuffle=False)[0]
    assert item.prompts == {"zh": "某____出生 ____ =", "en": "X was born in ____. ____ ="}
    assert item.candidates["en"] == (" Oslo", " Bern", " Rome")
    assert item.group == "[X] was born in [Y]."
    with pytest.raises(DataError, match="unknown cloze 'start'. Known: sentence, end"):
        load_items("bmlama17", path=tmp_path, cloze="start")


def test_rows_of_one_subject_and_relation_may_stay_together(tmp_path: Path):
    folder = source_files.bmlama(tmp_path, count=20)  # rows 2n and 2n + 1 ask the same
    for seed in range(3):
        options = {"languages": ["zh"], "split_by": "subject", "train_size": 10, "seed": seed}
        parts = [load_items("bmlama17", path=folder, split=s, **options) for s in ("train", "test")]
        sides = [{int(item.id[-4:]) // 2 for item in part} for part in parts]
        assert [len(part) for part in parts] == [10, 10]
        assert not sides[0] & sides[1]


def test_unique_gold_drops_rows_with_a_second_true_answer(tmp_path: Path):
    items = load_items("bmlama17", path=write(tmp_path), languages=["zh"], unique_gold=True)
    assert [item.id for item in items] == ["bmlama17-0001", "bmlama17-0003"]


def test_split_is_the_published_draw(tmp_path: Path):
    folder = write(tmp_path)
    random.seed(5)
    expected = random.sample(list(range(4)), 2)
    train = load_items("bmlama17", path=folder, languages=["en"], split="train", train_size=2, seed=5)
    test = load_items("bmlama17", path=folder, languages=["en"], split="test", train_size=2, seed=5)
    assert [int(item.id[-4:]) for item in train] == expected
    assert [int(item.id[-4:]) for item in test] == [i for i in range(4) if i not in expected]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("no mask", "Rome", "Oslo, Rome", "X"), "zh.tsv:3: the prompt has 0 <mask>"),
        (("<mask> a", "Rome", "Rome, Oslo", "X"), "zh.tsv:3: the last candidate is not the gold"),
        (("<mask> a", "Rome", "Rome"), "zh.tsv:3: the row has 3 columns"),
        (("<mask> a", "Rome", "Oslo, Bern, Rome", "X"), "zh.tsv:3: 'zh' has 3 candidates, 'en' has 2"),
    ],
)
def test_a_bad_row_is_named_or_skipped_in_all_languages(tmp_path: Path, row: tuple, reason: str):
    lines = [ROWS["zh"][0], row, *ROWS["zh"][2:]]
    folder = write(tmp_path, {"en": ROWS["en"], "zh": lines})
    with pytest.raises(DataError, match=reason):
        load_items("bmlama17", path=folder, languages=["en", "zh"])
    items = load_items("bmlama17", path=folder, languages=["en", "zh"], on_error="skip")
    assert [item.id[-1] for item in items] == ["0", "2", "3"]
    assert len(items.skipped) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"caf\xe9 <mask>\tRome\tOslo, Rome\tX", "zh.tsv:3: the row is not UTF-8 .byte 0xe9."),
        (b'"' + b"x" * 200_000 + b' <mask>"\tRome\tOslo, Rome\tX', "zh.tsv:3: .*field larger than"),
    ],
    ids=["not UTF-8", "a huge field"],
)
def test_a_row_that_cannot_be_read_is_named_or_skipped(tmp_path: Path, row: bytes, reason: str):
    folder = write(tmp_path)
    lines = (folder / "zh.tsv").read_bytes().split(b"\r\n")
    (folder / "zh.tsv").write_bytes(b"\r\n".join([*lines[:2], row, *lines[3:]]))
    with pytest.raises(DataError, match=reason):
        load_items("bmlama17", path=folder, languages=["en", "zh"])
    items = load_items("bmlama17", path=folder, languages=["en", "zh"], on_error="skip")
    assert [item.prompts["zh"] for item in items] == [ROWS["zh"][i][0] for i in (0, 2, 3)]
    assert len(items.skipped) == 1


def test_a_doubled_candidate_is_a_counted_warning(tmp_path: Path):
    lines = [("<mask> a", "Rome", "Rome, Oslo, Rome", "X"), *ROWS["zh"][1:]]
    items = load_items("bmlama17", path=write(tmp_path, {"zh": lines}), languages=["zh"])
    assert len(items) == 4
    assert ["more than once" in warning for warning in items.warnings] == [False, True]
    assert "4 rows, and the published set has 6,792" in items.warnings[0]


def test_missing_or_uneven_files_are_named(tmp_path: Path):
    folder = write(tmp_path)
    with pytest.raises(DataError, match="fr.tsv: no such file. Set data.path"):
        load_items("bmlama17", path=folder, languages=["en", "fr"])
    with pytest.raises(DataError, match="no such file or folder"):
        load_items("bmlama17", path=folder / "nowhere")
    with pytest.raises(DataError, match="needs a file or folder"):
        load_items("bmlama17")
    with pytest.raises(DataError, match="unknown language 'sw'"):
        load_items("bmlama17", path=folder, languages=["sw"])
    write(folder, {"zh": ROWS["zh"][:2]})
    with pytest.raises(DataError, match="different numbers of rows"):
        load_items("bmlama17", path=folder, languages=["en", "zh"])


def test_what_a_bare_split_of_the_lines_would_lose(data_folder: Path):
    """Fields with quotes in them stand in quotes, with theirs doubled; all but one of them are Hebrew."""
    folder, found = data_folder / "bmlama17", {}
    for language in LANGUAGES:
        lines = (folder / f"{language}.tsv").read_text("utf-8-sig").splitlines()[1:]
        if not any('"' in line for line in lines):
            continue  # a bare split reads it well
        items = load_items("bmlama17", path=folder, languages=[language], shuffle=False)
        split = [line.split("\t") for line in lines]
        prompts = [item.prompts[language] for item in items]
        texts = [[text.strip() for text in item.candidates[language]] for item in items]
        golds = [own[item.gold] for item, own in zip(items, texts, strict=True)]
        found[language] = {
            "golds": sum(row[1] != gold for row, gold in zip(split, golds, strict=True)),
            "golds not found": sum(row[1] not in row[2].split(", ") for row in split),
            "candidates": sum(row[2].split(", ") != own for row, own in zip(split, texts, strict=True)),
            "prompts": sum(row[0] != prompt for row, prompt in zip(split, prompts, strict=True)),
            "rows": sum('"' in line for line in lines),
        }
        assert all(row[1] in (gold, '"' + gold.replace('"', '""') + '"') for row, gold in zip(split, golds))
    assert found == {
        "he": {
            "golds": 81,  # that read otherwise: all their quotes stay
            # Golds that are no candidate of their row: those 81, and 53 without quotes, which stand last in a list with
            # some, so that its closing quote sticks to them there.
            "golds not found": 134,
            "candidates": 134,  # lists that read otherwise: of the same rows
            "prompts": 10,
            "rows": 144,  # of which any field reads otherwise: the last two together
        },
        "ca": {"golds": 0, "golds not found": 0, "candidates": 0, "prompts": 1, "rows": 1},
    }


def test_the_published_counts(data_folder: Path):
    folder = data_folder / "bmlama17"
    items = load_items("bmlama17", path=folder)
    assert len(items) == 6792
    assert items.languages == LANGUAGES
    assert all(len(item.prompts) == 17 for item in items)
    counts = Counter(item.num_candidates for item in items)
    assert counts == {10: 6218, 6: 258, 8: 150, 9: 85, 3: 47, 2: 23, 5: 11}
    assert len({item.group for item in items}) == 38
    assert not items.warnings
    # The gold stands in each place about equally often: a tie rule that favours an index gains nothing.
    places = Counter(item.gold for item in items if item.num_candidates == 10)
    assert min(places.values()) > 500
    one = load_items("bmlama17", path=folder, languages=["he"], unique_gold=True)
    assert len(items) - len(one) == 1026
    assert len(load_items("bmlama17", path=folder, languages=["he"], split="test")) == 1792
    options = {"languages": ["en"], "split_by": "subject", "seed": 1}
    parts = [load_items("bmlama17", path=folder, split=s, **options) for s in ("train", "test")]
    prompts = [{item.prompts["en"] for item in part} for part in parts]
    assert not prompts[0] & prompts[1]
    assert sum(map(len, parts)) == 6792
