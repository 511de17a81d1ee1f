"""Groups of languages and items."""

from consistency_jax.metrics import item_groups, language_pairs, pairs_within


def test_pairs_of_groups():
    pairs = list(zip(*language_pairs(5)))
    within = pairs_within(5, [0, 3, 4])
    assert {p for p, own in zip(pairs, within) if own} == {(0, 3), (0, 4), (3, 4)}
    assert not pairs_within(5, [2]).any()
    assert not pairs_within(5, []).any()
    assert pairs_within(5, range(5)).all()


def test_items_by_group():
    groups = item_groups(["b", "a", "b", "", "c", "a", "b"])
    assert list(groups) == ["b", "a", "", "c"]
    assert [rows.tolist() for rows in groups.values()] == [[0, 2, 6], [1, 5], [3], [4]]
    assert item_groups([]) == {}
