"""The report of texts that do not come back from their tokens."""

import tokenizers
import transformers

from consistency_jax.data.items import ParallelItem
from consistency_jax.data.trees.round_trip import round_trip
from consistency_jax.evaluation.splits import split_of
from consistency_jax.models.huggingface import load_pretrained


def lowercasing(small_tokenizer):
    backend = tokenizers.Tokenizer.from_str(small_tokenizer.backend_tokenizer.to_str())
    backend.normalizer = tokenizers.normalizers.Lowercase()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def items(count: int = 6) -> list[ParallelItem]:
    return [
        ParallelItem(
            f"q{n}",
            "",
            {"en": f"the number {n} is", "de": f"die Zahl {n} ist", "ru": "<mask> город"},
            {"en": (" odd", " Even"), "de": (" eins", " Zwei"), "ru": ("париж" if n % 2 else "Париж", "рим")},
            context={"en": "</s> numbers"},
        )
        for n in range(count)
    ]


def test_a_byte_level_tokenizer_changes_nothing(small_tokenizer):
    found = round_trip(small_tokenizer, items(), ("en", "de", "ru"))
    assert (found.checked, found.changed) == (18, {})


def test_changed_texts_are_counted_by_language_with_the_first(small_tokenizer):
    found = round_trip(lowercasing(small_tokenizer), items(), ("en", "de", "ru", "absent"))
    assert found.checked == 18
    assert found.changed == {"de": 6, "ru": 3}
    assert found.first == {
        "de": ("q0", "die Zahl 0 ist e", "die zahl 0 ist e"),
        "ru": ("q0", "Париж город", "париж город"),
    }
    line = str(found)
    assert "9 of 18 sampled texts" in line
    assert "(de 6, ru 3)" in line
    assert "item 'q0' in 'de'" in line
    assert "\n" not in line


def test_a_sample_covers_every_language(small_tokenizer):
    found = round_trip(lowercasing(small_tokenizer), items(100), ("en", "de", "ru"), sample=30)
    assert found.checked <= 30
    assert set(found.changed) == {"de", "ru"}


def test_a_split_says_so_in_one_line(small_config, questions, capsys):
    import dataclasses

    from consistency_jax.data.sources import load_items

    model = load_pretrained(small_config.model.path)
    loaded = load_items("jsonl", path=questions)
    split_of(small_config, "test", loaded, model, "joint")
    assert "read back" not in capsys.readouterr().out
    model = dataclasses.replace(model, tokenizer=lowercasing(model.tokenizer))
    split_of(small_config, "test", loaded, model, "joint")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("data: split 'test': 120 of 120 sampled texts do not read back")
