"""Code in answers, made comparable: comments gone, layout gone, names that the author chose replaced in order.

Python goes through its own parser. Everything else, and Python that does not parse, is read token by token: comments by
the signs that the block's language tag uses, strings whole, and every identifier that is no keyword of a common
language renamed (names of libraries too, which the same code in both answers renames alike).
"""

import ast
import difflib
import re
import textwrap
import warnings
from collections.abc import Iterable

BLOCK = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:```|\Z)", re.MULTILINE | re.DOTALL)
PYTHON = ("python", "py", "python3")
_HASH = "sh bash shell ruby rb r perl pl julia jl yaml elixir ex"
HASH = (*PYTHON, "", *_HASH.split())
DASHES = ("sql", "haskell", "hs", "lua", "ada", "elm")
_KEYWORDS = """
    abstract and as async auto await begin bool boolean break byte case catch char class const continue def default
    defer del delete do double elif else elsif end ensure enum export extends extern false final finally float fn
    for foreach from func function global go goto if impl implements import in include inline instanceof int
    interface is lambda let long loop match mod module move mut namespace new next nil nonlocal not null or override
    package pass private protected pub public raise range register repeat require rescue return select self short
    signed sizeof static str string struct super switch template then this throw trait true try type typedef
    typename union unless unsigned until use using val var virtual void volatile when where while with yield None
    True False
    """
KEYWORDS = frozenset(_KEYWORDS.split())
_STRING = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
_TOKEN = rf"(?P<string>{_STRING})|(?P<name>[^\W\d]\w*)|(?P<number>\d[\w.]*)|(?P<sign>[^\w\s])"
_COMMENT = {"hash": r"#[^\n]*", "dashes": r"--[^\n]*|/\*.*?\*/", "slashes": r"//[^\n]*|/\*.*?\*/"}
_LEXERS = {
    kind: re.compile(rf"(?P<comment>{comment})|{_TOKEN}", re.DOTALL) for kind, comment in _COMMENT.items()
}


def snippet(text: str) -> tuple[str, ...] | None:
    """The tokens of the code in an answer, normalised; None where it has none.

    Code is what stands in fenced blocks (```), all of them in order; an answer without one is code where Python can
    parse it as more than one bare expression.
    """
    blocks = BLOCK.findall(text)
    if not blocks:
        tokens = _python(text)
        return tuple(tokens) if tokens else None
    tokens: list[str] = []
    for tag, code in blocks:
        tag, code = tag.lower(), textwrap.dedent(code)  # a list indents its blocks
        parsed = _python(code, bare=True) if tag in (*PYTHON, "") else None
        tokens += _lexed(code, tag) if parsed is None else parsed
    return tuple(tokens) or None


def similarity(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    """0 .. 1: twice the matching tokens over all tokens (Ratcliff and Obershelp); the same both ways round."""
    if a == b:
        return 1.0
    a, b = min(a, b), max(a, b)  # the matcher itself depends on the order
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


def _python(code: str, bare: bool = False) -> list[str] | None:
    """Tokens of Python with its own names replaced; None for what is no program, as bare expressions may not be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a stranger's code
            tree = ast.parse(code)
            if not tree.body or not bare and all(isinstance(node, ast.Expr) for node in tree.body):
                return None
            plain = ast.unparse(_Renamed(tree).visit(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return [match[0] for match in _LEXERS["hash"].finditer(plain)]


class _Renamed(ast.NodeTransformer):
    """Drops docstrings and renames what the program binds itself: functions, classes, arguments, variables."""

    def __init__(self, tree: ast.AST):
        self._names: dict[str, str] = {}
        for name in _bound(tree):
            self._names.setdefault(name, f"v{len(self._names)}")

    def visit(self, node: ast.AST) -> ast.AST:
        body = getattr(node, "body", None)
        documented = isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = body[1:] or [ast.Pass()]
        for field in ("name", "id", "arg", "attr", "asname"):
            value = getattr(node, field, None)
            imported = field == "name" and isinstance(node, ast.alias)
            if isinstance(value, str) and not imported:
                setattr(node, field, self._names.get(value, value))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [self._names.get(name, name) for name in node.names]
        return self.generic_visit(node)


def _bound(tree: ast.AST) -> Iterable[str]:
    """Names that a program binds, in the order of the text (as far as its tree tells)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name


def _lexed(code: str, tag: str) -> list[str]:
    """Tokens of any language, comments left out and identifiers renamed in order of appearance."""
    lexer = _LEXERS["hash" if tag in HASH else "dashes" if tag in DASHES else "slashes"]
    names: dict[str, str] = {}
    tokens = []
    for match in lexer.finditer(code):
        if match.lastgroup == "comment":
            continue
        token = match[0]
        if match.lastgroup == "name" and token not in KEYWORDS:
            token = names.setdefault(token, f"v{len(names)}")
        tokens.append(token)
    return tokens
