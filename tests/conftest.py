"""Fixtures shared by every test, and how programs are compiled for tests: nearly all of the suite's time is XLA's.

Most programs are compiled more than once: by each test that trains, and by each command that a test starts. This
process and those that it starts keep them in a folder that lasts as long as it does; another worker has another,
because JAX writes an entry in place, where a reader might see half of it.

They are compiled without most optimisations, in a third of the time. Those of tests marked `optimised` are not: what
users run, and what computes for longer than it compiles. The commands that such a test starts are compiled entirely as
users' are; its own process keeps its fused loops, for XLA reads XLA_FLAGS once. `make test-optimised` compiles
everything as users do.
"""

import atexit
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="consistency_jax_compiled_")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Fused loops by way of MLIR take three times as long to compile. A version that does not know the flag would end.
FUSED = (
    "--xla_cpu_use_fusion_emitters=false" if importlib.metadata.version("jaxlib").startswith("0.10.") else ""
)
# Of a worker they are those that this file gave the process that started it.
FLAGS = os.environ.get("XLA_FLAGS", "").removesuffix(FUSED).strip()
OPTIMISED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": FLAGS}
QUICK = OPTIMISED
if not os.environ.get("CONSISTENCY_OPTIMISED"):
    QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": f"{FLAGS} {FUSED}".strip()}
os.environ.update(QUICK)


@pytest.hookimpl(tryfirst=True)  # before the fixtures of a module
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Programs are compiled for a test as its mark says, by this process and by those that it starts."""
    wanted = OPTIMISED if item.get_closest_marker("optimised") else QUICK
    if any(os.environ[name] != value for name, value in wanted.items()):
        import jax

        os.environ.update(wanted)
        jax.config.update("jax_disable_most_optimizations", wanted["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1")
        jax.clear_caches()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of third-party data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CONSISTENCY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set CONSISTENCY_DATA to run this test")
    return folder


SMALL_TEXT = (
    "The capital of France is Paris . Madrid is the capital of Spain .",
    "Der Hauptstadt von Frankreich ist Paris . La capital de España es Madrid .",
    "Charles II of Spain was born in Madrid . Столица Франции : Париж",
    "カルロス2世はマドリードに生まれました。 卡洛斯二世出生于马德里。",
    "باريس هي عاصمة فرنسا पेरिस फ़्रांस की राजधानी है",
)


@pytest.fixture(scope="session")
def small_tokenizer():
    """A byte-level BPE of 400 tokens with BOS 0, which it puts, EOS 1 and padding 2, trained here: it needs no file."""
    import tokenizers
    import transformers

    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SMALL_TEXT * 4, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
    )


@pytest.fixture(scope="session")
def small_model(tmp_path_factory, small_tokenizer) -> Path:
    """A Hugging Face folder: a random Llama of two layers with `small_tokenizer`."""
    import jax

    from consistency_jax.models.decoder import DecoderConfig, init_params
    from consistency_jax.models.huggingface import Model, save_pretrained

    config = DecoderConfig(
        vocab_size=len(small_tokenizer), hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=64
    )
    folder = tmp_path_factory.mktemp("small_model")
    save_pretrained(Model(config, init_params(config, jax.random.key(0)), small_tokenizer), folder)
    return folder


@pytest.fixture(scope="session")
def real_model() -> Callable[[str], Path]:
    """NAME -> $CONSISTENCY_MODELS/NAME.gguf, which `python launch/fetch_model.py NAME` puts there."""

    def find(name: str) -> Path:
        path = Path(os.environ.get("CONSISTENCY_MODELS", "")) / f"{name}.gguf"
        if not path.is_file():
            pytest.skip(f"no {path.name} in $CONSISTENCY_MODELS")
        return path

    return find


@pytest.fixture(scope="session")
def questions(tmp_path_factory) -> Path:
    """A JSONL file of 40 made-up parallel items in three languages, three candidates each."""
    import json

    names = {
        "en": ("The capital of place {} is", (" Paris", " Madrid", " Rome")),
        "de": ("Die Hauptstadt von Ort {} ist", (" Paris", " Madrid", " Rom")),
        "ru": ("Столица места {} :", (" Париж", " Мадрид", " Рим")),
    }
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    with path.open("w", encoding="utf8") as file:
        for number in range(40):
            item = {
                "id": f"q{number}",
                "group": "capital",
                "gold": number % 3,
                "prompts": {language: text.format(number) for language, (text, _) in names.items()},
                "candidates": {language: list(answers) for language, (_, answers) in names.items()},
            }
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    return path


@pytest.fixture
def small_config(small_model, questions, tmp_path, monkeypatch):
    """A config that trains `small_model` on `questions` for a few steps, with a cache of its own."""
    from consistency_jax.config.defaults import default

    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    config = default()
    config.model.path = str(small_model)
    config.data.path = str(questions)
    config.total_steps = 6
    config.batching.items = 4
    config.batching.shapes = 1
    config.optimizer.learning_rate = 1e-3
    config.checkpoint.every = 2
    config.logging.every = 1
    config.evaluation.bootstrap = 50
    return config


@pytest.fixture
def serve():
    """serve(respond): a `served.Served` that is shut down behind the test."""
    from served import Served

    started: list[Served] = []

    def start(respond) -> Served:
        started.append(Served(respond))
        return started[-1]

    yield start
    for served in started:
        served.server.shutdown()
        served.server.server_close()


@pytest.fixture(scope="session")
def picture():
    """benchmarks/report_picture.py, which knows how to start a headless Chromium."""
    pytest.importorskip("selenium", reason="no selenium; it is in the test extra")
    path = ROOT / "benchmarks" / "report_picture.py"
    spec = importlib.util.spec_from_file_location("report_picture", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def chromium(picture):
    """A browser for pages; tests that need it skip where there is none."""
    opened = picture.browser(1200, 900)
    try:
        driver = opened.__enter__()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield driver
    opened.__exit__(None, None, None)


# Text that its box, or the mark of a chart, does not hold; what scrolls may be wider.
OVERFLOWING = """
    const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    const found = [];
    for (const e of document.querySelectorAll(`${arguments[0]} *`)) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
        const box = e.getBoundingClientRect(), name = `${e.tagName} ${e.textContent.trim().slice(0, 40)}`;
        if (!box.width || e.closest("math, script, style, option")) continue;
        if (e instanceof SVGElement) {
            const chart = e.ownerSVGElement.getBoundingClientRect();
            const cell = e.parentElement.querySelector(":scope > rect")?.getBoundingClientRect() ?? chart;
            const over = Math.max(chart.left - box.left, box.right - chart.right);
            const out = e.closest(".heat g") ? Math.max(cell.left - box.left, box.right - cell.right) : over;
            if (Math.max(over, out) > 1) found.push(`${name}: ${out}`);
            continue;
        }
        if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth && !scrolls(e)) found.push(name);
        if (box.right > document.documentElement.clientWidth + 1 && !scrolls(e)) found.push(`${name}: past the window`);
        const lines = box.height / parseFloat(getComputedStyle(e).lineHeight);
        if (e.tagName === "TH" && lines > 5) found.push(`${name}: ${lines} lines`);
    }
    return found;
"""


@pytest.fixture
def overflowing(chromium):
    """overflowing(selector): what is wider than its box inside these elements of the page that is open."""
    return lambda selector: chromium.execute_script(OVERFLOWING, selector)
