"""Items on disk are the items that were read, and are read again when anything that they depend on has changed."""

from pathlib import Path

import numpy as np
import pytest

from consistency_jax.data import stored_items
from consistency_jax.data.facts import FACTS, fact, item_arrays, items_digest, with_one_right
from consistency_jax.data.items import DataError, Items, ItemSequence, ParallelItem
from consistency_jax.data.stored_items import StoredItems, store, stored_or_read
from consistency_jax.evaluation.splits import evenly


def many(count: int = 100) -> Items:
    """Items that differ in all that items can."""
    made = []
    for n in range(count):
        languages = [name for name, every in (("ja", 3), ("en", 1), ("sw", 7)) if n % every == 0]
        made.append(
            ParallelItem(
                f"q{n}",
                f"g{n % 4}",
                {name: f"質問 {n} {name}" for name in languages},
                {name: tuple(f" {name}{k}" for k in range(2 + n % 2)) for name in languages},
                gold=None if n % 5 == 0 else n % 2,
                context={"en": "é\u2028"} if n % 6 == 0 else None,
                written=n % 2 == 0,
                also=(2,) if n % 10 == 1 else (),
                targets={},
                where=f"file:{n}",
            )
        )
    return Items(made, skipped=["file:7: bad"], warnings=["odd"])


@pytest.fixture
def stored(tmp_path: Path) -> StoredItems:
    store(tmp_path / "items", many())
    return StoredItems(tmp_path / "items")


def test_items_on_disk_are_those_in_memory(stored, monkeypatch):
    expected = many()
    monkeypatch.setattr(stored_items, "RECORDS", 7)
    assert list(stored) == expected
    assert [item.where for item in stored] == [item.where for item in expected]
    assert (stored.skipped, stored.warnings) == (expected.skipped, expected.warnings)
    assert (len(stored), stored[3], stored[-1]) == (100, expected[3], expected[-1])
    assert list(stored[5:50:9]) == expected[5:50:9]
    assert stored.languages == expected.languages == ("ja", "en", "sw")
    for item, other in zip(stored, expected, strict=True):
        assert [type(value) for value in vars(item).values()] == [type(v) for v in vars(other).values()]
    with pytest.raises(IndexError, match="item 100 of 100"):
        stored[100]


@pytest.mark.parametrize("places", [range(100), [5, 1, 1, 99], np.arange(1, 100, 2), []])
def test_some_of_them_are_those_of_a_list(stored, places):
    expected, own = many().take(places), stored.take(places)
    assert isinstance(own, StoredItems)
    assert list(own) == expected
    assert own.languages == expected.languages
    for languages in (("sw", "en"), ("xx",)):
        for a, b in zip(item_arrays(own, languages), item_arrays(expected, languages), strict=True):
            np.testing.assert_array_equal(a, b)
    for name in FACTS.keys() - {"there", "prompts"}:  # which are by language
        np.testing.assert_array_equal(fact(own, name), fact(expected, name))
    assert items_digest([(own, ("en",))]) == items_digest([(expected, ("en",))])
    assert list(with_one_right(own)) == with_one_right(expected)
    own.skipped.append("more")
    assert stored.skipped == ["file:7: bad"]


def test_equal_is_the_same_items_of_the_same_folder(stored, tmp_path):
    assert stored == StoredItems(tmp_path / "items") == stored.take(range(100))
    assert stored != stored.take(range(99))
    assert stored != many()


def test_a_large_set_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    file, reads = tmp_path / "data.jsonl", []
    file.write_text("1")

    def found(path: Path | str | None = file, **settings: object) -> ItemSequence:
        return stored_or_read(path, settings, lambda: reads.append(file.read_text()) or many())

    assert type(found()) is type(found()) is Items  # a small one
    assert len(reads) == 2
    monkeypatch.setattr(stored_items, "LARGE", 1)
    for _ in range(2):
        assert type(found()) is StoredItems
        assert list(found()) == many()
    assert len(reads) == 3
    found(split="train")
    assert len(reads) == 4
    file.write_text("2, changed")
    found()
    found()
    assert reads[4:] == ["2, changed"]
    folders = list((tmp_path / "cache" / "items").iterdir())
    assert sorted(len(list(folder.iterdir())) for folder in folders) == [3, 3]  # nothing of before is left
    # Where no file tells when the data change.
    for path in (None, "me/set", "data/{language}.tsv", "x" * 300, "~nobody-here/x"):
        assert type(found(path)) is Items
    code = tmp_path / "reader.py"
    code.write_text("a")
    for text in ("a", "b"):
        code.write_text(text)
        before = len(reads)
        stored_or_read(file, {}, lambda: reads.append("") or many(), code=code)
        assert len(reads) == before + 1


def test_a_small_part_of_a_large_file_is_in_memory_and_read_once_too(tmp_path, monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    file, reads = tmp_path / "data.jsonl", []
    file.write_text("x" * 2_000_000)
    monkeypatch.setattr(stored_items, "LARGE", 1_000_000)
    for _ in range(2):
        own = stored_or_read(file, {}, lambda: reads.append(1) or many())
        assert (type(own), list(own), own.skipped) == (Items, many(), many().skipped)
    assert reads == [1]


def test_files_in_folders_and_of_options_are_watched(tmp_path, monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stored_items, "LARGE", 1)
    real, folder, beside = tmp_path / "real", tmp_path / "folder", tmp_path / "beside"
    for own in (real, folder / "sub", beside):
        own.mkdir(parents=True)
        (own / "a").write_text("1")
    (folder / "link").symlink_to(real)
    (real / "round").symlink_to(folder)  # and so on without end
    reads = []
    for changed in (folder / "sub" / "b", real / "a", beside / "c"):
        changed.write_text("another")
        for _ in range(2):
            options = {"english": str(beside), "list": ("a",), "prompt": "x" * 300}
            stored_or_read(folder, {}, lambda: reads.append(1) or many(), options=options)
    assert len(reads) == 3


def test_of_two_runs_at_once_one_writes(tmp_path, monkeypatch):
    """The second begins while the first has read and not yet written, and is done before."""
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stored_items, "LARGE", 1)
    (tmp_path / "data").write_text("1")
    inner = []

    def found(read=many) -> ItemSequence:
        return stored_or_read(tmp_path / "data", {}, read)

    outer = found(lambda: inner.append(found()) or many())
    assert type(outer) is type(inner[0]) is StoredItems
    assert list(outer) == list(inner[0]) == list(found(lambda: [])) == many()
    [folder] = (tmp_path / "cache" / "items").iterdir()
    (folder / "0.array_record.1.partial").write_text("of one that was killed")
    (tmp_path / "data").write_text("22")
    found()
    assert sorted(path.suffix for path in folder.iterdir()) == ["", ".array_record", ".npz"]  # and the lock


def test_what_an_evenly_spread_part_of_it_is(stored, monkeypatch):
    for large, kind in ((1, StoredItems), (2**25, Items)):
        monkeypatch.setattr(stored_items, "LARGE", large)
        own = evenly(stored, 7)
        assert (type(own), list(own)) == (kind, evenly(many(), 7))


def test_a_cache_that_cannot_be_written_is_told_and_no_more(tmp_path, monkeypatch, capsys):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stored_items, "LARGE", 1)
    own = stored_or_read(tmp_path / "cache", {}, many)
    assert (type(own), own) == (Items, many())
    assert "note: 100 items cannot be kept in " in capsys.readouterr().err


def test_what_is_no_plain_text_is_refused(tmp_path):
    for name, value in (("id", np.str_("a")), ("gold", np.int64(1)), ("prompts", {"en": np.str_("q")})):
        item = ParallelItem(
            **({"id": "a", "group": "", "prompts": {}, "candidates": {}, "where": "f:1"} | {name: value})
        )
        with pytest.raises(DataError, match="f:1: a text or number is of a type of its own. Mend the reader"):
            store(tmp_path, Items([item]))


def test_a_damaged_folder_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stored_items, "LARGE", 1)
    (tmp_path / "data").write_text("1")
    reads = []

    def found() -> ItemSequence:
        return stored_or_read(str(tmp_path / "data"), {}, lambda: reads.append(1) or many())

    def damage(pattern: str, data: bytes | None) -> Path:
        [path] = (tmp_path / "cache" / "items").glob(f"*/{pattern}")
        path.unlink() if data is None else path.write_bytes(data)
        return path

    found()
    for pattern in ("facts.npz", "*.array_record"):
        for data in (b"", None):  # None: a run that was killed while it wrote
            damage(pattern, data)
            before = len(reads)
            assert list(found()) == many()
            assert len(reads) == before + 1
    [path] = (tmp_path / "cache" / "items").glob("*/*.array_record")
    damage("*.array_record", b"\0" * path.stat().st_size)
    with pytest.raises(DataError, match=r"array_record: it is damaged .* Delete it: the data set is then"):
        list(found())
