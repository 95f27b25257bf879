"""Which rights a worker keeps, by what its parent decided.

Knows no system call.
"""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.errors import LoadFailed
from appliance.llama.confining import confine_to_model
from appliance.llama.rpc.names import endpoints_of, is_helper
from appliance.worker.config import WorkerConfig

_log = logging.getLogger(__name__)


def confine_worker(config: WorkerConfig) -> None:
    """For good, before anything of the model is read, and any thread is started.

    Raises `LoadFailed` where it is demanded, and the kernel cannot do all of it.
    """
    if config.confine == "off":
        return
    confinement = confine_to_model(
        Path(config.model_path),
        config.kernels,
        draft=None if config.draft is None else Path(config.draft.model_path),
        adapters=[Path(adapter.path) for adapter in config.adapters],
        writable=[Path(name) for name in (config.prefix_dir, config.step_times_dir) if name],
        uses_gpus=any(not is_helper(name) for name in config.offload.devices),
        ports=sorted({port for _, port in endpoints_of(config.offload.devices)}),
    )
    if config.confine == "on" and not confinement.is_whole:
        raise LoadFailed(
            f"--confine on is not possible here: {'; '.join(confinement.gaps)}. Use --confine auto "
            "to serve with what is possible."
        )
    _log.info("this worker is %s", confinement)
