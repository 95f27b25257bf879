"""Products by our kernels: no further from the exact ones than ggml's, and each row its own."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from appliance.llama.checks import KernelLibrary, find_kernels
from tests.kernels.found import TYPES, Found


@pytest.fixture(scope="module")
def library() -> KernelLibrary:
    found = find_kernels()
    if isinstance(found, str):
        pytest.skip(f"our own kernels {found}")
    return found


@pytest.mark.parametrize("variant", ["avx512", "avx2", "baseline"])
def test_products_are_right_and_rows_independent(library: KernelLibrary, variant: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.products", str(library.path)],
        env=os.environ | {"APPLIANCE_KERNELS_VARIANT": variant, "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [msgspec.json.decode(line, type=Found) for line in done.stdout.splitlines()]
    assert {each.name.split()[0] for each in found} == set(TYPES)
    assert [each.name for each in found if not each.is_exact] == []
    # ggml rounds activations of 16-bit weights, and those of others as we do: by chance one
    # may be a little nearer.
    assert [each for each in found if each.ours > 1.05 * each.ggml + 1e-6] == []
