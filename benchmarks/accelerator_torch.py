"""torch's side of accelerator.py: each function is a part, and gives its record."""

import statistics
import time
from pathlib import Path
from typing import Any

from accelerator import STEPS, WARMUP, questions, summary


def random_model(model: str) -> Any:
    """The same model in torch on the GPU, random, bfloat16, PyTorch's own attention."""
    import torch
    import transformers

    from consistency_jax.models.huggingface import read_config
    from consistency_jax.models.published import PUBLISHED

    hf = PUBLISHED[model] if model in PUBLISHED else read_config(Path(model))
    if "text_config" in hf:  # the text part alone, as we load it; what its file leaves out are the defaults
        config = transformers.Gemma3Config(text_config=hf["text_config"]).text_config
    else:
        values = {key: value for key, value in hf.items() if key not in ("architectures", "model_type")}
        config = transformers.AutoConfig.for_model(hf["model_type"], **values)
    config.dtype = torch.bfloat16
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )


def padded(sequences: list[tuple[list[int], list[int]]], device: Any) -> tuple[Any, Any, Any]:
    """(ids, attention mask, mask of the answers' tokens) of prompts with answers, padded at the right."""
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in sequences)
    ids = torch.zeros((len(sequences), width), dtype=torch.long)
    attention, answers = torch.zeros_like(ids), torch.zeros(ids.shape, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(sequences):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        attention[row, :end] = 1
        answers[row, len(prompt) : end] = True
    return ids.to(device), attention.to(device), answers.to(device)


def logps(model: Any, ids: Any, attention: Any, answers: Any) -> Any:
    """f32[B]: sums over the answers' tokens, from logits of every position."""
    import torch

    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
    target = ids[:, 1:]
    rows = [  # row by row: a log-softmax of all at once would double the peak
        torch.log_softmax(row, -1).gather(-1, t[:, None])[:, 0] for row, t in zip(logits, target, strict=True)
    ]
    return (torch.stack(rows).float() * answers[:, 1:]).sum(-1)


def device() -> dict[str, Any]:
    import torch
    import transformers

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "device": name,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def peak() -> float:
    """GiB."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


def wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def train(model: str, items: int) -> dict[str, Any]:
    import torch

    net = random_model(model).train()
    where = next(net.parameters()).device
    micro = 4  # items at once, as published; more are accumulated
    asked = questions("mmlu", 2 * items * (STEPS + WARMUP), net.config.vocab_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    walls, fed = [], 0
    for step in range(STEPS + WARMUP):
        own = asked[2 * items * step : 2 * items * (step + 1)]
        wait()
        start = time.perf_counter()
        for at in range(0, 2 * items, 2 * micro):
            part = own[at : at + 2 * micro]
            # first language chosen, rejected, second language chosen, rejected
            sequences = [(p, a[k]) for side in (part[::2], part[1::2]) for k in (0, 1) for p, a in side]
            batch = padded(sequences, where)
            fed += batch[0].numel()
            chosen1, rejected1, chosen2, rejected2 = logps(net, *batch).chunk(4)
            reference = torch.ones_like(chosen1)  # precomputed
            shift1, shift2 = chosen1 - rejected1 - reference, chosen2 - rejected2 - reference
            loss = ((shift1 - reference).abs() + (shift2 - reference).abs()).mean()
            (loss * (min(micro, items) / items)).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())
        wait()
        walls.append(time.perf_counter() - start)
    return summary(
        walls[WARMUP:],
        items_per_s=items / statistics.median(walls[WARMUP:]),
        peak_gib=peak(),
        fed_tokens=fed // len(walls),
        **device(),
    )


def score(model: str, data: str, prompts: int) -> dict[str, Any]:
    import torch

    net = random_model(model).eval()
    where = next(net.parameters()).device
    asked = questions(data, prompts, net.config.vocab_size)
    sequences = sorted(
        ((p, a) for p, answers in asked for a in answers), key=lambda s: -len(s[0]) - len(s[1])
    )
    size = 32 if data == "mmlu" else 256
    walls = []
    with torch.no_grad():
        for _ in range(3):
            wait()
            start = time.perf_counter()
            for at in range(0, len(sequences), size):
                logps(net, *padded(sequences[at : at + size], where)).cpu()
            wait()
            walls.append(time.perf_counter() - start)
    median = statistics.median(walls[1:])
    return summary(walls[1:], items_per_s=prompts / median, peak_gib=peak(), **device())


def sample(model: str) -> dict[str, Any]:
    import torch

    net = random_model(model).eval()
    where = next(net.parameters()).device
    ids = torch.randint(3, net.config.vocab_size, (64, 128), device=where).repeat_interleave(8, 0)
    walls = []
    with torch.no_grad():
        for _ in range(3):
            wait()
            start = time.perf_counter()
            net.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                min_new_tokens=128,
                max_new_tokens=128,
                pad_token_id=0,
            )
            wait()
            walls.append(time.perf_counter() - start)
    median = statistics.median(walls[1:])
    return summary(walls[1:], items_per_s=64 * 8 * 128 / median, peak_gib=peak(), **device())
