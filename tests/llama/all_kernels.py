"""Computing with all kernels of our own, however quick they are on this machine."""

from __future__ import annotations

from appliance.llama.checks import find_kernels
from appliance.llama.kernels.loading import all_of, use_kernels


def use_all_kernels() -> None:
    """In a child process, before its first model, where the library is there."""
    library = find_kernels()
    assert not isinstance(library, str), f"our own kernels {library}"
    use_kernels(all_of(library))
