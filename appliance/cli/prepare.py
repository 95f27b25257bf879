"""From settings to a plan: finds the model, converts it if need be, and asks fit. Knows no serving."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from appliance.cli.gpus import gpu_wish
from appliance.errors import BadModelFile
from appliance.fit.budget import memory_budget
from appliance.fit.device import Device
from appliance.fit.offload import GpuWish
from appliance.fit.plan import Candidate, Plan, make_plan, weigh
from appliance.fit.tuning import Tuning
from appliance.fit.wishes import Wishes
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.conversion import ConversionEvent
from appliance.store.gguf_header import GgufHeader
from appliance.store.models import ModelStore, prepare_files, read_servable_header


@dataclass(frozen=True)
class PreparedModel:
    """A model whose files are there and sound: one header per file."""

    name: str
    headers: tuple[GgufHeader, ...]


def prepare_model(settings: ServeSettings) -> PreparedModel:
    """Finds the model that `settings` name and converts it where needed, telling progress on stderr.

    Raises `BadSettings`, `BadModelFile`, `ConversionFailed` or `SetupError`.
    """
    store = ModelStore(settings.models_dir, load_catalog())
    source = store.resolve(settings.model)
    files = prepare_files(source, settings.quant, ConversionLines(sys.stderr))
    return PreparedModel(source.name, _servable_headers(files))


def _servable_headers(files: Sequence[Path]) -> tuple[GgufHeader, ...]:
    """Of the sound files: a damaged one is told and left out. Raises `BadModelFile` if there is no other."""
    headers: list[GgufHeader] = []
    complaints: list[BadModelFile] = []
    for path in files:
        try:
            headers.append(read_servable_header(path))
        except BadModelFile as error:
            complaints.append(error)
    if complaints and not headers:
        raise complaints[0]
    for complaint in complaints:
        print(f"left out: {complaint.message}", file=sys.stderr)
    return tuple(headers)


def plan_model(
    settings: ServeSettings, model: PreparedModel, device: Device, tuning: Tuning, wish: GpuWish | None = None
) -> Plan:
    """The plan for serving `model` on `device`; `wish` takes the place of what `settings` say of GPUs.

    Raises `BadSettings` or `NothingFits`.
    """
    budget = memory_budget(device, settings.ram)
    return make_plan(model.headers, _wishes(settings, wish or gpu_wish(settings)), device, budget, tuning)


def weigh_model(settings: ServeSettings, model: PreparedModel, device: Device) -> tuple[Candidate, ...]:
    """What each choice would take where none fits. Raises `BadSettings`."""
    return weigh(model.headers, _wishes(settings, gpu_wish(settings)), device, memory_budget(device, settings.ram))


def _wishes(settings: ServeSettings, gpu: GpuWish) -> Wishes:
    return Wishes(
        slots=settings.slots,
        max_batch_rows=settings.max_batch_rows,
        ctx=settings.ctx,
        kv_cells=settings.kv_cells,
        quant=settings.quant,
        kv_type=settings.kv_type,
        ram=settings.ram,
        threads=settings.threads,
        max_body_bytes=settings.max_body_bytes,
        gpu=gpu,
    )


class ConversionLines:
    """Tells a conversion's progress: one line that is overwritten on a terminal, a line per tenth elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._told_tenth = 0

    def __call__(self, event: ConversionEvent) -> None:
        if event.total_bytes == 0:
            self._out.write(f"{event.text}\n")
        elif self._out.isatty():
            end = "\n" if event.done_bytes >= event.total_bytes else ""
            self._out.write(f"\r{self._line(event)}{end}")
        elif 10 * event.done_bytes // event.total_bytes > self._told_tenth:
            self._told_tenth = 10 * event.done_bytes // event.total_bytes
            self._out.write(f"{self._line(event)}\n")
        self._out.flush()

    @staticmethod
    def _line(event: ConversionEvent) -> str:
        return f"{event.text}: {100 * event.done_bytes // event.total_bytes:3d} % of {event.total_bytes / 1e6:.1f} MB"
