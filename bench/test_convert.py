"""One pass against two steps: a checkpoint into three quantizations, ours beside
llama.cpp's own way.

The two steps are what people do today: write the checkpoint's own type as one GGUF,
then `llama_model_quantize` once per type. The first step is done by our own converter
here (one type, `--no-verify`), which takes less time and memory than the script it
stands for, so the comparison is on the safe side. Both use all cores; our time includes
verifying.

    pytest bench/test_convert.py -k 1GB -s        about six minutes on two idle cores, 6 GB of disk
    pytest bench/test_convert.py -k small -s      seconds; asserts what does not depend on size

How many bytes are saved is arithmetic: the three files are about 2.05 bytes a weight,
the intermediate is 2 more from a BF16 checkpoint and 4 from a F32 one. Hence a limit
for each.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.convert.checkpoints import Shape, tensor_sizes, write_checkpoint

pytestmark = pytest.mark.timeout(3600)  # a machine that is not idle takes many times as long

TYPES = ("Q8_0", "Q4_K_M", "Q2_K")
SMALL = Shape(
    hidden=512, feed_forward=1408, num_layers=2, num_heads=8, num_kv_heads=2, vocab=1024, tied=False
)
WIDE = Shape(hidden=2048, feed_forward=5632, num_heads=16, num_kv_heads=4, vocab=16_384, tied=False)

MAX_TIME_RATIO = 1.0
MAX_RSS_RATIO = 0.5
MIN_CPU_USE = 0.9


@dataclass(frozen=True)
class Case:
    """A checkpoint to convert in both ways."""

    shape: Shape
    max_bytes_ratio: float  # most that we may write, of what the two steps write
    is_large: bool


CASES = {
    "small": Case(SMALL, 0.55, is_large=False),
    "1GB-BF16": Case(replace(WIDE, num_layers=10), 0.52, is_large=True),
    "1GB-F32": Case(replace(WIDE, num_layers=4, stored_type="F32"), 0.45, is_large=True),
}

QUANTIZE = """
import sys
import llama_cpp as api
source, target, file_type, num_threads = sys.argv[1:]
params = api.llama_model_quantize_default_params()
params.ftype, params.nthread = getattr(api, "LLAMA_FTYPE_MOSTLY_" + file_type), int(num_threads)
assert api.llama_model_quantize(source.encode(), target.encode(), params) == 0
"""


@dataclass(frozen=True)
class Run:
    """What one way took."""

    elapsed_s: float
    written_bytes: int
    peak_rss_bytes: int  # of its largest process
    cpu_use: float | None = None  # share of all cores while it quantized


# A small process between: the kernel counts in a child's peak what its parent held when
# it forked.
MEASURE = """
import os, resource, sys
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status = os.waitpid(pid, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_one_pass_against_two_steps(
    case: Case, tmp_path: Path, benchmark: BenchmarkFixture
) -> None:
    source = write_random(tmp_path / "source", case.shape)
    ours = benchmark.pedantic(  # type: ignore[no-untyped-call] # pytest-benchmark leaves this one method untyped
        one_pass, (source, tmp_path / "ours"), rounds=1
    )
    theirs = two_steps(source, tmp_path / "theirs", case.shape.stored_type)
    ratios = {
        "time": ours.elapsed_s / theirs.elapsed_s,
        "bytes written": ours.written_bytes / theirs.written_bytes,
        "peak RSS": ours.peak_rss_bytes / theirs.peak_rss_bytes,
    }
    benchmark.extra_info.update({**ratios, "ours": vars(ours), "theirs": vars(theirs)})
    print(
        f"\nours:   {ours}\ntheirs: {theirs}\nratios: "
        f"{', '.join(f'{name} {r:.2f}' for name, r in ratios.items())}"
    )
    assert ratios["bytes written"] <= case.max_bytes_ratio
    if case.is_large:
        assert ratios["time"] <= MAX_TIME_RATIO
        assert ratios["peak RSS"] <= MAX_RSS_RATIO
        assert ours.cpu_use is not None
        assert ours.cpu_use > MIN_CPU_USE


def write_random(directory: Path, shape: Shape) -> Path:
    """A checkpoint of this shape; its weights repeat a block of random ones, which no
    quantizer notices.
    """
    write_checkpoint(directory, replace(SMALL, num_layers=1, vocab=shape.vocab))
    config = json.loads((directory / "config.json").read_text())
    config |= {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
    }
    (directory / "config.json").write_text(json.dumps(config))
    values = np.random.default_rng(5).normal(0, 0.02, 4_000_037).astype(np.float32)
    is_bf16 = shape.stored_type == "BF16"
    block = ((values.view(np.uint32) >> 16).astype("<u2") if is_bf16 else values).tobytes()
    header, offset = {}, 0
    for name, size in tensor_sizes(shape).items():
        end = offset + math.prod(size) * (2 if is_bf16 else 4)
        header[name] = {"dtype": shape.stored_type, "shape": size, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for start in range(0, offset, len(block)):
            file.write(block[: offset - start])
    return directory


def one_pass(source: Path, out: Path) -> Run:
    """Our command as users run it.

    CPU use is taken between its first and its last line of progress.
    """
    command = [
        sys.executable,
        "-m",
        "convert",
        str(source),
        "--out",
        str(out),
        "--name",
        "m",
        "--json",
    ]
    started_s = time.monotonic()
    with measured([*command, "--types", ",".join(TYPES)], out, subprocess.PIPE) as child:
        assert child.stdout is not None
        marks = []
        for line in child.stdout:
            if json.loads(line)["event"] == "progress":
                (process,) = psutil.Process(child.pid).children()
                marks.append((time.monotonic(), sum(process.cpu_times()[:2])))
    assert child.returncode == 0
    (from_s, from_cpu_s), (to_s, to_cpu_s) = marks[0], marks[-1]
    cpu_use = (to_cpu_s - from_cpu_s) / (to_s - from_s) / _num_cores() if to_s > from_s else None
    return Run(time.monotonic() - started_s, _bytes_in(out), _peak_of(out), cpu_use)


def two_steps(source: Path, out: Path, own_type: str) -> Run:
    """The checkpoint's own type, then llama.cpp once per type."""
    convert = [sys.executable, "-m", "convert", str(source), "--out", str(out), "--name", "m"]
    steps = [[*convert, "--types", own_type, "--no-verify"]]
    steps += [
        [
            sys.executable,
            "-c",
            QUANTIZE,
            *(str(out / f"m-{name}.gguf") for name in (own_type, to)),
            to,
            str(_num_cores()),
        ]
        for to in TYPES
    ]
    peaks, started_s = [], time.monotonic()
    for step in steps:
        with measured(step, out, subprocess.DEVNULL) as child:
            assert child.wait() == 0
        peaks.append(_peak_of(out))
    return Run(time.monotonic() - started_s, _bytes_in(out), max(peaks))


def measured(command: list[str], out: Path, stdout: int) -> subprocess.Popen[str]:
    """Starts `command`; `_peak_of(out)` knows its peak memory when it has ended."""
    wrapper = [sys.executable, "-c", MEASURE, str(out.with_suffix(".peak")), *command]
    return subprocess.Popen(wrapper, stdout=stdout, stderr=subprocess.DEVNULL, text=True)


def _peak_of(out: Path) -> int:
    return int(out.with_suffix(".peak").read_text()) * 1024


def _bytes_in(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))
