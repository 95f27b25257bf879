"""Finds the CPU path that lives, with the embedded model in all its quantizations. Knows no plan and no serving."""

from __future__ import annotations

from appliance.cli.prepare import prepare_model
from appliance.fit.device import Device
from appliance.llama.selftest import CpuPaths, find_cpu_paths
from appliance.settings import ServeSettings

STATE_FILE_NAME = "cpu_paths.json"


def cpu_paths(settings: ServeSettings, device: Device) -> CpuPaths:
    """Probed once per CPU and library (seconds), remembered in the state directory.

    The embedded model stands for all: it is small, and there in one file for each family of kernels.
    """
    embedded = prepare_model(settings.for_default_model())
    threads = settings.threads or device.threads
    files = [header.path for header in embedded.headers]
    return find_cpu_paths(files, threads, settings.state_dir / STATE_FILE_NAME)
