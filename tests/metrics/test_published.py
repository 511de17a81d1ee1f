"""The published evaluation, done slowly with torch on a real checkpoint and rows of BMLAMA-17: the same figures.

Its steps: the mean NLL over all tokens of each full sentence, BOS skipped; candidates sorted by it; RankC with softmax
weights over sets; the share of equal first answers; and, among facts that either language gets right, those that
both do (correct overlap).
"""

import random
from pathlib import Path

import numpy as np
import pytest

from consistency_jax.data.items import MASK, doubled_candidates
from consistency_jax.data.sources import load_items
from consistency_jax.metrics import agreement_if_either_right, clc, clc_values, correct, top1_agreement
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.scoring.tables import score

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LANGUAGES = ("en", "fr", "ja", "uk")


@pytest.fixture(scope="module")
def checkpoint(data_folder) -> Path:
    folder = data_folder / "checkpoints" / "hf_stories260K"
    if not folder.is_dir() or not (data_folder / "bmlama17").is_dir():
        pytest.skip(f"needs {folder} and bmlama17 beside it")
    return folder


@pytest.fixture(scope="module")
def items(data_folder, checkpoint) -> list:
    rows = load_items("bmlama17", path=data_folder / "bmlama17", languages=list(LANGUAGES), split=None)
    # Doubled candidates tie exactly, and the published sort then goes by the place in the file.
    return random.Random(0).sample([item for item in rows if not doubled_candidates(item)], 16)


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_pretrained(checkpoint)


@pytest.fixture(scope="module")
def published(checkpoint, model, items) -> list[list[list[float]]]:
    """[item][language][candidate]: the mean NLL of the full sentence, one sentence after the other."""
    transformers.utils.logging.disable_progress_bar()
    reference = transformers.AutoModelForCausalLM.from_pretrained(checkpoint).double().eval()
    transformers.utils.logging.enable_progress_bar()

    def losses(texts: list[str]) -> list[float]:
        found = []
        for text in texts:
            tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[model.tokenizer.bos_token_id, *tokens]])
            with torch.no_grad():
                log_p = torch.log_softmax(reference(input_ids=ids).logits[0, :-1], -1)
            found.append(-float(log_p.gather(1, ids[0, 1:, None]).mean()))
        return found

    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # one sentence is little work, and threads that wait for a busy core cost seconds
    values = [
        [losses([item.prompts[l].replace(MASK, c) for c in item.candidates[l]]) for l in LANGUAGES]
        for item in items
    ]
    torch.set_num_threads(threads)
    return values


@pytest.fixture(scope="module")
def table(model, items):
    return score(model, items, languages=LANGUAGES, boundary="joint", prompt=True)


def slow_rankc(losses_a: list[float], losses_b: list[float]) -> float:
    count = len(losses_a)
    first, second = (sorted(range(count), key=losses.__getitem__) for losses in (losses_a, losses_b))
    raw = [np.exp(count - j) for j in range(count)]
    return sum(
        raw[j] / sum(raw) * len(set(first[: j + 1]) & set(second[: j + 1])) / (j + 1) for j in range(count)
    )


def test_scores_are_the_published_losses(published, table):
    scores = table.scores("mean_full")
    for n, l in np.ndindex(scores.shape[:2]):
        own = scores[n, l, table.mask[n, l]]
        np.testing.assert_allclose(own, -np.array(published[n][l]), atol=2e-5)  # float32 against float64


def test_figures_are_the_published_ones(published, table, items):
    scores, gold, mask = table.scores("mean_full"), table.gold, table.mask
    best = np.array([[int(np.argmin(losses)) for losses in row] for row in published])
    right = best == np.array([item.gold for item in items])[:, None]
    both, either = agreement_if_either_right(scores, gold, mask)
    values, same = clc_values(scores, mask), top1_agreement(scores, mask)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    for column, (i, j) in enumerate(pairs):
        slow = np.mean([slow_rankc(row[i], row[j]) for row in published])
        assert values[:, column].mean() / 100 == pytest.approx(slow, abs=1e-6)
        assert same[:, column].mean() == pytest.approx(np.mean(best[:, i] == best[:, j]), abs=1e-6)
        assert either[:, column].sum() == (right[:, i] | right[:, j]).sum()
        assert both[:, column].sum() == (right[:, i] & right[:, j]).sum()
        # Agreement among the facts that either gets right, and correct overlap, are one figure.
        chosen = right[:, i] | right[:, j]
        overlap = (right[:, i] & right[:, j]).sum() / max(chosen.sum(), 1)
        assert both[:, column].sum() / max(either[:, column].sum(), 1) == pytest.approx(overlap, abs=1e-6)
        assert (best[chosen, i] == best[chosen, j]).sum() == (right[:, i] & right[:, j]).sum()
    assert either.sum() > 0
    consistency = clc(scores, mask, languages=LANGUAGES)
    slow = [100 * np.mean([slow_rankc(row[i], row[j]) for row in published]) for i, j in pairs]
    assert consistency.all_pairs == pytest.approx(np.mean(slow), abs=1e-6)
    assert consistency.anchor_pairs == pytest.approx(np.mean(slow[:3]), abs=1e-6)
    np.testing.assert_array_equal(correct(scores, gold, mask), right)
