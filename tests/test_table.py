"""The table: its normalisations by hand, and the file that it is kept in."""

import dataclasses

import numpy as np
import pytest

from consistency_jax.errors import UserError
from consistency_jax.table import NORMALIZATIONS, Table, read_tables, write_tables

# One item, two languages, three candidates; the second language lacks the third.
TABLE = Table(
    ids=("Q1",),
    languages=("en", "日本語"),
    logp=np.array([[[-2.0, -3.0, -6.0], [-1.0, -8.0, 0.0]]], np.float32),
    length=np.array([[[1, 2, 3], [1, 4, 0]]], np.int32),
    bytes=np.array([[[4, 6, 8], [2, 16, 0]]], np.int32),
    mask=np.array([[[True, True, True], [True, True, False]]]),
    gold=np.array([1], np.int32),
    prompt_logp=np.array([[[-4.0, -4.0, -4.0], [-6.0, -7.0, 0.0]]], np.float32),
    prompt_length=np.array([[[3, 3, 3], [4, 2, 0]]], np.int32),
    neutral_logp=np.array([[[-5.0, -4.0, -6.5], [-1.0, -9.5, 0.0]]], np.float32),
    state=np.array([[[0.5, -1.0], [2.0, 0.25]]], np.float32),
)
INF = np.inf


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("sum", [[-2, -3, -6], [-1, -8, -INF]]),
        ("mean", [[-2, -1.5, -2], [-1, -2, -INF]]),
        ("mean_full", [[-6 / 4, -7 / 5, -10 / 6], [-7 / 5, -15 / 6, -INF]]),
        ("bytes", [[-0.5, -0.5, -0.75], [-0.5, -0.5, -INF]]),
        ("pmi", [[3, 1, 0.5], [0, 1.5, -INF]]),
    ],
)
def test_normalizations_by_hand(normalization: str, expected: list):
    scores = TABLE.scores(normalization)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, np.array([expected]))


def test_what_lies_outside_the_mask_is_never_a_score():
    logp = np.where(TABLE.mask, TABLE.logp, np.nan)
    for name in NORMALIZATIONS:
        np.testing.assert_array_equal(dataclasses.replace(TABLE, logp=logp).scores(name), TABLE.scores(name))


def test_wrong_normalizations_are_named():
    with pytest.raises(
        ValueError, match="unknown normalization 'words'; choose from sum, mean, mean_full, bytes, pmi"
    ):
        TABLE.scores("words")
    bare = dataclasses.replace(TABLE, prompt_logp=None, prompt_length=None, neutral_logp=None)
    with pytest.raises(ValueError, match="score with prompt=True"):
        bare.scores()
    with pytest.raises(ValueError, match="score with neutral=True"):
        bare.scores("pmi")
    assert TABLE.normalizations == NORMALIZATIONS
    assert bare.normalizations == ("sum", "mean", "bytes")


def assert_same(table: Table, other: Table):
    for field in dataclasses.fields(Table):
        own, others = getattr(table, field.name), getattr(other, field.name)
        assert type(own) is type(others), field.name
        np.testing.assert_array_equal(own, others, err_msg=field.name)
        assert getattr(own, "dtype", None) == getattr(others, "dtype", None), field.name


def test_a_file_gives_back_what_was_written(tmp_path):
    bare = dataclasses.replace(TABLE, prompt_logp=None, prompt_length=None, neutral_logp=None, state=None)
    TABLE.save(tmp_path / "folder" / "table.npz")
    assert_same(Table.load(tmp_path / "folder" / "table.npz"), TABLE)
    write_tables(tmp_path / "both.npz", {"test": TABLE, "test/unseen": bare})
    tables = read_tables(tmp_path / "both.npz")
    assert list(tables) == ["test", "test/unseen"]
    assert_same(tables["test"], TABLE)
    assert_same(tables["test/unseen"], bare)


def test_the_tables_of_a_run_are_no_single_one(tmp_path):
    write_tables(tmp_path / "base.npz", {"test": TABLE})
    with pytest.raises(ValueError, match="base.npz holds the tables test: .*read_tables"):
        Table.load(tmp_path / "base.npz")


def test_a_damaged_file_is_named_with_the_mend(tmp_path):
    path = tmp_path / "table.npz"
    TABLE.save(path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "empty": b"",
        "text": b"no table",
        "changed": whole[: middle - 8] + bytes(16) + whole[middle + 8 :],
    }
    for name, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"table.npz cannot be read as tables .* delete it and run again"
        ):
            pytest.fail(f"{name}: {Table.load(path)}")
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="cannot be read as tables"):
        Table.load(path)
    with pytest.raises(FileNotFoundError):
        Table.load(tmp_path / "nowhere.npz")


def test_it_says_what_it_is():
    table = small_table()
    assert repr(table) == (
        "Table(2 items x 2 languages (en, sw) x 3 candidates; 10 answers, ranked by sum, mean, bytes)"
    )
    assert repr(table)[:20] in table._repr_html_()


def test_as_a_data_frame():
    pandas = pytest.importorskip("pandas")
    table = small_table()
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == table.mask.sum()
    first = frame[(frame.id == "b") & (frame.language == "sw") & (frame.candidate == 1)].iloc[0]
    assert first.logp == table.logp[1, 1, 1]
    assert (first.length, first.bytes) == (table.length[1, 1, 1], table.bytes[1, 1, 1])
    for name in table.normalizations:
        assert first[f"score_{name}"] == pytest.approx(table.scores(name)[1, 1, 1])
    assert frame[frame.id == "a"].right.tolist() == [k == 1 for k in frame[frame.id == "a"].candidate]
    assert frame[frame.id == "b"].right.isna().all()
    assert set(table.to_pandas(1).id) == {"a"}
    several = dataclasses.replace(table, gold=np.array([[True, True, False], [False] * 3]))
    right = several.to_pandas()
    assert right[right.id == "a"].right.tolist() == [k < 2 for k in right[right.id == "a"].candidate]
    assert right[right.id == "b"].right.isna().all()


def small_table() -> Table:
    mask = np.ones((2, 2, 3), bool)
    mask[0, :, 2] = False
    logp = np.arange(12, dtype=np.float32).reshape(2, 2, 3) - 12
    length = np.full((2, 2, 3), 2, np.int32)
    return Table(("a", "b"), ("en", "sw"), logp, length, 3 * length, mask, np.array([1, -1], np.int32))


def test_an_address_is_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="ftp://x/t.npz: give a folder"):
        small_table().save("ftp://x/t.npz")
    assert list(tmp_path.iterdir()) == []
