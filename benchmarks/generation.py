"""Tokens a second of the sampler against torch `generate`, in one run on one machine. Prints one JSON line.

    python benchmarks/generation.py                       # a random Llama of 5 M parameters
    python benchmarks/generation.py --model=FOLDER        # a checkpoint

Both draw answers to the same prompts of random tokens, and no token ends one, so both make the same number of tokens;
the share of greedy tokens that are equal is printed too. Times are medians of whole calls after one to warm up. torch
gets every prompt n times, as its `num_return_sequences` would. Run it on a quiet machine: only ratios mean anything. On
a CPU that others use too, `cpu_ratio` (CPU seconds of both) with --torch_threads=1 is the steadier one.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
import transformers

from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.models.huggingface import load_pretrained


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="", help="a checkpoint folder; a random Llama without")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--torch_threads", type=int, default=0, help="0: as many as torch takes")
    sizes = {"prompts": 8, "n": 4, "prompt_tokens": 64, "max_tokens": 64}
    shape = {"hidden": 256, "layers": 6, "heads": 8, "kv_heads": 4, "mlp": 688, "vocab": 4000}
    for name, size in (sizes | shape).items():
        parser.add_argument(f"--{name}", type=int, default=size)
    print(json.dumps(measure(parser.parse_args())))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The record of one run."""
    transformers.utils.logging.disable_progress_bar()
    if args.torch_threads:
        torch.set_num_threads(args.torch_threads)
    with tempfile.TemporaryDirectory() as made:
        folder = args.model or make_llama(args, made)
        model = load_pretrained(folder)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rng = np.random.default_rng(0)
    # Neither side draws as the checkpoint's authors suggest.
    theirs.generation_config = transformers.GenerationConfig(eos_token_id=None, pad_token_id=0)
    shape = (args.prompts, args.prompt_tokens)
    prompts = rng.integers(3, model.config.vocab_size, shape).astype(np.int32)
    repeated = np.repeat(prompts, args.n, axis=0).astype(np.int64)
    tokens = args.prompts * args.n * args.max_tokens
    sampler = Sampler(dataclasses.replace(model, tokenizer=None, folder=None))  # no token ends an answer
    drawn = Sampling(max_tokens=args.max_tokens)
    greedy = dataclasses.replace(drawn, temperature=0)

    def ours(sampling: Sampling) -> list[list[np.ndarray]]:
        return sampler.generate_tokens(list(prompts), n=args.n, sampling=sampling, seed=0)

    def torchs(**settings: Any) -> np.ndarray:
        given = torch.tensor(repeated)
        with torch.no_grad():
            out = theirs.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=args.max_tokens,
                min_new_tokens=args.max_tokens,
                pad_token_id=0,
                top_k=0,
                **settings,
            )
        return out[:, args.prompt_tokens :].numpy()

    same = np.array([own[0] for own in ours(greedy)]) == torchs(do_sample=False)[:: args.n]
    ours_s, ours_cpu_s = seconds(lambda: ours(drawn), args.repeat)
    torch_s, torch_cpu_s = seconds(lambda: torchs(do_sample=True), args.repeat)
    return {
        "model": args.model or "random Llama",
        "parameters": model.config.num_params,
        "device": jax.devices()[0].device_kind,
        "answers": [args.prompts, args.n],
        "prompt_tokens": args.prompt_tokens,
        "max_tokens": args.max_tokens,
        "tokens_per_s": round(tokens / ours_s, 1),
        "torch_tokens_per_s": round(tokens / torch_s, 1),
        "ratio": round(torch_s / ours_s, 2),
        "cpu_ratio": round(torch_cpu_s / ours_cpu_s, 2),
        "greedy_tokens_equal": round(float(same.mean()), 4),
    }


def make_llama(args: argparse.Namespace, folder: str) -> str:
    """A random Llama in the folder, without any token that ends an answer."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=args.mlp,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        initializer_range=0.1,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def seconds(run: Callable[[], Any], repeat: int) -> tuple[float, float]:
    """Medians of a call's seconds and of its CPU seconds over all threads, the first not counted."""
    times = []
    for _ in range(repeat + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    walls, cpus = zip(*times[1:], strict=True)
    return statistics.median(walls), statistics.median(cpus)


if __name__ == "__main__":
    main()
