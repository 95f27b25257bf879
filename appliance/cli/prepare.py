"""From settings to a plan: finds the model, converts it if need be, and asks fit. Knows no serving."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TextIO

from appliance.fit.budget import memory_budget
from appliance.fit.device import Device
from appliance.fit.plan import Plan, Wishes, make_plan
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
    return PreparedModel(source.name, tuple(read_servable_header(path) for path in files))


def plan_model(settings: ServeSettings, model: PreparedModel, device: Device, *, use_extra_bufts: bool) -> Plan:
    """The plan for serving `model` on `device`. Raises `BadSettings` or `NothingFits`."""
    wishes = Wishes(
        slots=settings.slots,
        max_batch_rows=settings.max_batch_rows,
        ctx=settings.ctx,
        kv_cells=settings.kv_cells,
        quant=settings.quant,
        kv_type=settings.kv_type,
        ram=settings.ram,
        threads=settings.threads,
    )
    budget = memory_budget(device, settings.ram)
    return make_plan(model.headers, wishes, device, budget, use_extra_bufts=use_extra_bufts)


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
