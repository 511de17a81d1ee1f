"""Items of every kind, and how close scores of them must be."""

from consistency_jax.data.items import MASK, ParallelItem
from consistency_jax.data.packing.rows import Shape, lay_out, tree_sizes
from consistency_jax.data.trees.forest import Forest

LANGUAGES = ("en", "es", "ja")


LENGTH = 96  # tokens: longer than any string here


CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32 sums of up to forty log-probabilities, in another order


def make_item(name: str, texts: dict[str, tuple[str, ...]], **others) -> ParallelItem:
    prompts = {language: text for language, (text, *_) in texts.items()}
    candidates = {language: tuple(answers) for language, (_, *answers) in texts.items()}
    return ParallelItem(name, "", prompts, candidates, **others)


ITEMS = [
    make_item(
        "plain",
        {
            "en": ("The capital of France is", " Paris", " Madrid", " Rome"),
            "es": ("La capital de España es", " París", " Madrid", " Roma"),
            "ja": ("首都は", "パリ", "マドリード", "ローマ"),
        },
        gold=0,
    ),
    make_item(  # one language less, one candidate less, and a context in one language
        "ragged",
        {"en": ("The capital is", " Paris", " Madrid"), "ja": ("都は", "マドリード", "ローマ")},
        context={"en": "Spain is a country ."},
    ),
    make_item(  # first tokens shared by some, and by all; candidates that are prefixes of others
        "prefixes",
        {
            "en": ("The capital is", " Paris", " Paris is the capital", " Paris was", " Madrid"),
            "es": ("La capital es", " Madrid es la capital", " Madrid", " Madrid es", " Madrid es la ciudad"),
        },
        gold=3,
    ),
    make_item(  # a gap within the sentence, and at its start
        "cloze",
        {
            "en": (f"Charles II was born in {MASK} , Spain .", "Madrid", "Paris"),
            "es": (f"{MASK} es la capital de España .", "Madrid", "París"),
            "ja": (f"カルロス2世は{MASK}で生まれました。", "マドリード", "パリ"),
        },
        gold=0,
    ),
    make_item("one candidate", {"es": ("La capital de Francia es", " París")}),
]


SHAPE = (len(ITEMS), len(LANGUAGES), 4)


def tight_shape(trees: Forest, prompt: bool = False) -> Shape:
    return lay_out(tree_sizes(trees, prompt=prompt), LENGTH).shape
