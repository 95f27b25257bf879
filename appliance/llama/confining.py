"""What a process keeps that computes with a model's files and gives up all other rights.

Knows no system call, and not what for the model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.confinement.confine import Confinement, Needs, confine
from appliance.llama.loading.weight_files import files_of, is_in_parts
from appliance.protocol.kernel_use import KernelUse


def confine_to_model(
    model: Path,
    kernels: KernelUse,
    *,
    draft: Path | None = None,
    adapters: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    uses_gpus: bool = False,
    ports: Sequence[int] = (),
) -> Confinement:
    """For good, before anything of the model is read and any thread is started; `writable`
    are folders, `ports` those of helpers.
    """
    models = [model] if draft is None else [model, draft]
    libraries = [Path(kernels.library).parent] if kernels.library else []
    readable = (*(path for one in models for path in files_of(one)), *adapters, *libraries)
    return confine(
        Needs(
            readable=readable,
            listable=[one.parent for one in models if is_in_parts(one)],
            writable=writable,
            uses_gpus=uses_gpus,
            ports=ports,
        )
    )
