"""How much memory the same model takes mapped or read, plain or repacked: the peak, and
what is left after steps.

Usage: python -m bench.weights_in_memory MODEL.gguf
A child computes a prompt of 128 tokens behind 2,048 cells of f16, then steps; its
/proc/PID/status says the rest.
"""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import psutil

from appliance.llama.checks.stopwatch import Stopwatch, TimedContext, TimedModel, Workload
from bench.model_file import model_file

WORK = Workload(depth=2048, prompt_rows=128, num_steps=4, streams=4)
CONTEXT = TimedContext(
    kv_type="f16", threads=2, batch_threads=2, flash_attention=False, ubatch_rows=128
)
LIMIT_S = 600.0


def main(argv: list[str]) -> None:
    path = str(model_file(argv[0]))
    for use_extra_bufts, use_mmap in itertools.product((False, True), (True, False)):
        with Stopwatch() as stopwatch:
            stopwatch.round(TimedModel(path, use_extra_bufts, use_mmap), CONTEXT, WORK, LIMIT_S)
            [child] = psutil.Process().children()
            status = Path(f"/proc/{child.pid}/status").read_text()
        mib = {
            name: int(kib) / 1024
            for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE)
        }
        weights, way = "repacked" if use_extra_bufts else "plain", "mapped" if use_mmap else "read"
        print(
            f"{weights}, {way}: peak {mib['VmHWM']:.0f} MiB, "
            f"anonymous {mib['RssAnon']:.0f}, of files {mib['RssFile']:.0f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
