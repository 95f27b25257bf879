"""Makes the golden data of MLX, as make.py does that of the others.

pip install "mlx[cpu]==0.32.4" numpy
python tests/convert/dequantize/golden/make_mlx.py

`expected` is what MLX computes of the scales in float32, as its products do.
"""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np

HERE = Path(__file__).parent


def make(name: str, dtype: mx.Dtype, group_size: int, bits: int) -> None:
    rng = np.random.default_rng(bits)
    values = rng.normal(0, 0.05, (32, 128)).astype(np.float32)
    values[0, 0] = 0.4  # one that stands out
    weight, scales, biases = mx.quantize(mx.array(values).astype(dtype), group_size, bits)
    exact = [part.astype(mx.float32) for part in (scales, biases)]
    expected = mx.dequantize(weight, *exact, group_size, bits)
    tensors = {"layer.weight": weight, "layer.scales": scales, "layer.biases": biases}
    settings = {"group_size": 64, "bits": 4, "layer": {"group_size": group_size, "bits": bits}}
    mx.save_safetensors(
        str(HERE / f"{name}.safetensors"),
        {**tensors, "expected": expected},
        {"quantization_config": json.dumps(settings)},
    )


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    make("mlx-2", mx.bfloat16, 64, 2)
    make("mlx-3", mx.float16, 64, 3)
    make("mlx-4", mx.bfloat16, 32, 4)
    make("mlx-4-f32", mx.float32, 128, 4)
    make("mlx-5", mx.bfloat16, 64, 5)
    make("mlx-6", mx.bfloat16, 64, 6)
    make("mlx-8", mx.float16, 64, 8)
