"""What each KV type costs:
bytes per token, perplexity, decode speed on the embedded model.

Run: python -m bench.kv_types MODEL.gguf TEXT [--windows N] [--types TYPE,TYPE] [--kernels]

Decodes windows of 512 tokens one token at a time, so that every K and V is read back in
its type; the perplexity is that of each window's second half. Each type is measured in
a child process of its own; speed is relative to the first, which is measured again at
the end. `--kernels` computes with all kernels of our own, and flash attention.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

from appliance.engine.batch import Batch
from appliance.fit.plan.kv_cache import kv_cell_bytes
from appliance.fit.plan.shape import read_shape
from appliance.fit.tuning.choices import uses_flash_attention
from appliance.llama.checks import KernelLibrary, find_kernels
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.gguf_header import read_header
from bench.model_file import model_file

WINDOW = 512
TYPES = "f16,q8_0,q5_1,q4_0,q8_0/q5_1,q8_0/q4_0,f16/q4_0,q4_0/q8_0"


def measure(
    path: Path, text: Path, num_windows: int, kv_type: str, *, with_kernels: bool
) -> dict[str, float]:
    """In a child: mean negative log-likelihood in nats,
    and tokens decoded per second.
    """
    from appliance.llama.context import Context, ContextConfig
    from appliance.llama.kernels.loading import all_of, use_kernels
    from appliance.llama.model import Model

    if with_kernels:
        library = find_kernels()
        if not isinstance(library, KernelLibrary):
            sys.exit(f"Our own kernels {library}.")
        use_kernels(all_of(library))
    model = Model(path, use_extra_bufts=False)
    context = Context(
        model,
        ContextConfig(
            sizes=ContextSizes(
                kv_cells=WINDOW,
                slots=1,
                max_rows=64,
                kv_type=kv_type,
                threads=2,
                flash_attention=with_kernels or uses_flash_attention(kv_type),
                batch_threads=2,
                ubatch_rows=64,
            )
        ),
    )
    tokens = model.tokenize(text.read_text()[: num_windows * WINDOW * 8], parse_special=False)
    losses: list[float] = []
    elapsed_s = 0.0
    for start in range(0, num_windows * WINDOW, WINDOW):
        window = tokens[start : start + WINDOW]
        for position, token in enumerate(window[:-1]):
            batch = Batch()
            batch.add(token, position, 0, wants_logits=True)
            started_s = time.perf_counter()
            context.decode(batch)
            elapsed_s += time.perf_counter() - started_s
            if position >= WINDOW // 2:
                logits = context.logits(0).astype("float64")
                top = logits.max()
                losses.append(top + math.log(sum_exp(logits - top)) - logits[window[position + 1]])
        context.clear(0)
    return {
        "loss": sum(losses) / len(losses),
        "tokens_per_s": num_windows * (WINDOW - 1) / elapsed_s,
    }


def sum_exp(values: object) -> float:
    import numpy as np

    return float(np.exp(values).sum())


def measured(args: argparse.Namespace, kv_type: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.kv_types", args.model, args.text]
    command += ["--windows", str(args.windows), "--measure", kv_type]
    if args.kernels:
        command.append("--kernels")
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    values: dict[str, float] = json.loads(result.stdout)
    return values


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kv_types")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    path = model_file(args.model)
    if args.measure:
        values = measure(
            path, Path(args.text), args.windows, args.measure, with_kernels=args.kernels
        )
        print(json.dumps(values))
        return
    shape = read_shape(read_header(path))
    types = args.types.split(",")
    rows = [measured(args, kv_type) for kv_type in (*types, types[0])]
    usual_speed = (rows[0]["tokens_per_s"] + rows[-1]["tokens_per_s"]) / 2
    print(f"| K/V | bytes per token | perplexity | decode, relative to {types[0]} |")
    print("|---|---|---|---|")
    for kv_type, row in zip(types, rows, strict=False):
        speed = row["tokens_per_s"] / usual_speed
        print(
            f"| {kv_type} | {kv_cell_bytes(shape, kv_type)} | {math.exp(row['loss']):.4f} | "
            f"{speed:.2f} |"
        )
    spread = abs(rows[0]["tokens_per_s"] - rows[-1]["tokens_per_s"]) / usual_speed
    print(f"\n{types[0]} first and last differed by {spread:.0%}.")


if __name__ == "__main__":
    main(sys.argv[1:])
