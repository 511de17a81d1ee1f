"""Answers of several languages become one question: what is right is what the first that tells it says."""

from consistency_jax.logs.answers import Scored, joined


def test_what_one_language_leaves_out_another_tells():
    told = Scored("Q", ("a", "b"), (-1.0, -2.0), (), "", "en:1")
    other = told._replace(right=(1,), where="sw:1")
    items, table = joined("task", {"en": {"q": told}, "sw": {"q": other}, "fr": {}}, "mend")
    assert items[0].gold == 1
    assert table.gold.tolist() == [1]
    assert table.mask[0].any(1).tolist() == [True, True, False]
