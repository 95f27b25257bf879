"""How llama.cpp is set up for GPUs and mapping, and what it reports as allocated; in
child processes.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from appliance.llama.buffers import Buffers
from tests.conftest import Embedded

PROGRAM = """
import json, logging, sys
from pathlib import Path
from appliance.errors import LoadFailed
from appliance.llama import library
from appliance.llama.context import Context, ContextConfig
from appliance.llama.gpu import GpuLayers
from appliance.llama.model import Model
from appliance.protocol.context_sizes import ContextSizes

path, use_mmap, layers = Path(sys.argv[1]), sys.argv[2] == "mmap", int(sys.argv[3])
lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("appliance.llama.library").setLevel(logging.DEBUG)
logging.getLogger("appliance.llama.library").addHandler(Keep())
try:
    gpu = GpuLayers(num_layers=layers, devices=("NOGPU0",), tensor_split=(1.0,))
    model = Model(path, use_extra_bufts=False, use_mmap=use_mmap, gpu=gpu)
    sizes = ContextSizes(
        kv_cells=1024, slots=1, max_rows=64, kv_type="f16", threads=1, batch_threads=1,
        ubatch_rows=64,
    )
    config = ContextConfig(sizes=sizes, offload_kv=True, offload_ops=True)
    context = Context(model, config)
except LoadFailed as error:
    print(json.dumps({"error": error.message}))
else:
    mode = next(line for line in lines if "load_mode" in line)
    print(json.dumps({"mode": mode, "buffers": library.buffers.all()}))
"""


def load(embedded: Embedded, mapping: str, layers: int) -> dict[str, object]:
    command = [sys.executable, "-c", PROGRAM, str(embedded.files["Q8_0"]), mapping, str(layers)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    answer: dict[str, object] = json.loads(child.stdout)
    return answer


def test_a_gpu_that_llama_cpp_does_not_have_is_refused_not_left_out(embedded: Embedded) -> None:
    """llama.cpp itself would ignore the layers, and the model would be in RAM that
    nobody has planned for.
    """
    error = str(load(embedded, "mmap", 2)["error"])
    assert "./install.sh --cuda" in error or "The GPU NOGPU0 is no longer available" in error


@pytest.mark.parametrize(
    ("mapping", "mode", "weights"), [("mmap", "mmap", "CPU_Mapped"), ("copy", "none", "CPU")]
)
def test_weights_are_mapped_or_copied_as_told(
    embedded: Embedded, mapping: str, mode: str, weights: str
) -> None:
    answer = load(embedded, mapping, 0)
    buffers = answer["buffers"]
    assert isinstance(buffers, dict)
    assert f"load_mode = {mode})" in str(answer["mode"])
    assert buffers[weights] > 0.98 * embedded.files["Q8_0"].stat().st_size - (1 << 20)
    assert not any("GPU" in name or "CUDA" in name for name in buffers), (
        "no GPU is opened without layers"
    )


def test_buffers_are_summed_by_where_they_are() -> None:
    buffers = Buffers()
    for line in (
        "load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB",
        "sched_reserve:      CUDA0 compute buffer size =   258.50 MiB",
        "load_tensors:   CPU_Mapped model buffer size =   281.81 MiB",
        "load_tensors: offloaded 33/33 layers to GPU",
    ):
        buffers.note(line)

    assert buffers.on(("CUDA0", "CUDA1")) == {
        "CUDA0": int(4403.49 * 2**20) + 512 * 2**20 + int(258.5 * 2**20),
        "CUDA1": 0,
    }
