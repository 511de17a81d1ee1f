"""Programs in answers: alike where only comments, layout and chosen names differ."""

import pytest

from consistency_jax.selection.snippets import similarity, snippet

PYTHON = '''Sure:
```python
# adds
def add(a, b):
    """Adds."""
    total = a+b  # sum
    return total

print(add(1, 2))
```
'''


SAME = """```py
def somme(x,y):
  z = x + y
  return z
print( somme(1,2) )
```"""


def test_code_is_compared_without_comments_layout_and_chosen_names():
    assert snippet(PYTHON) == snippet(SAME)
    assert snippet(SAME.replace("x + y", "x - y")) != snippet(SAME)
    assert snippet(SAME.replace("print", "repr")) != snippet(SAME)  # a name that is not the author's
    c, again = (
        "```c\nint f(int a) { // a\n  return a + 1; }\n```",
        "```c\nint g(int b){return b+1;/* b */}```",
    )
    assert snippet(c) == snippet(again)
    assert snippet('```sh\necho "# no comment" # one\n```') == ("v0", '"# no comment"')
    assert snippet("```python\nthis is ( no python\n```") == snippet("```python\nthis is (no python # x\n```")
    assert snippet("n = 1\nprint(n)") == snippet("```python\nm = 1\nprint(m)\n```")
    indented = "1. So:\n" + "".join(f"   {line}\n" for line in SAME.splitlines())
    assert snippet(indented) == snippet(SAME)
    sums, most = ("```python\nprint(sum([1, 2]))\n```", "```\nprint(max([1, 2]))\n```")
    assert snippet(sums) != snippet(most)
    case = "```python\nmatch x:\n    case [a, *b]: print(a, b)\n```"
    assert snippet(case) == snippet(case.replace("a, *b", "p, *q").replace("(a, b)", "(p, q)"))
    assert snippet("Bonjour, tout le monde") is None
    assert snippet("word") is None
    assert snippet("") is None
    assert snippet("```python\ns = '\\d'\n```") is not None  # Python warns of it


def test_similarity_of_snippets():
    a, b, c = snippet(SAME), snippet(SAME.replace("x + y", "x - y")), snippet("```python\nprint(1)\n```")
    assert similarity(a, a) == 1
    assert similarity(a, b) == similarity(b, a) == pytest.approx(1 - 1 / len(a))  # one token of each
    assert similarity(a, c) < similarity(a, b)
