"""What llama.cpp was built for is seen by its files, without loading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.llama.checks import may_have_gpus


@pytest.mark.parametrize(
    ("files", "may_have"),
    [
        (
            ("libggml-base.so", "libggml-base.so.0", "libggml-cpu.so", "libggml.so", "libllama.so"),
            False,
        ),
        (("libggml-base.so", "libggml-cpu-haswell.so", "libggml-blas.so"), False),
        (("libggml-base.so", "libggml-cpu.so", "libggml-cuda.so"), True),
        (("libggml-base.dylib", "libggml-cpu.dylib", "libggml-metal.dylib"), True),
        (("ggml-base.dll", "ggml-cpu.dll", "ggml-vulkan.dll"), True),
        (("libllama.so",), True),  # all in one file: only asking tells
    ],
)
def test_whether_a_library_may_have_gpus_is_seen_by_its_files(
    tmp_path: Path, files: tuple[str, ...], may_have: bool
) -> None:
    for name in files:
        (tmp_path / name).touch()

    assert may_have_gpus(tmp_path) is may_have
