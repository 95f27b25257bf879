"""The settings of one model, and how they agree. Knows no source and no other model."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.errors import BadSettings
from appliance.settings.adapter_options import AdapterOptions
from appliance.settings.chat_options import ChatOptions
from appliance.settings.model_options import ModelOptions
from appliance.settings.sharing_options import SharingOptions


@dataclass(frozen=True, kw_only=True)
class ModelSettings(AdapterOptions, ChatOptions, SharingOptions, ModelOptions):
    """What can be set for one model: flag, TOML key or `NAME:key=value`.

    Raises `BadSettings` where options contradict each other.
    """

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_computing()
        self._check_adapters()

    def _check_sizes(self) -> None:
        if self.slots is not None and self.max_batch_rows < self.slots:
            raise BadSettings(
                f"--max-batch-rows must be at least --slots (got {self.max_batch_rows} and "
                f"{self.slots}): every running answer needs one row of each step."
            )
        if self.ctx is not None and self.kv_cells is not None and self.kv_cells < self.ctx:
            raise BadSettings(
                f"--kv-cells must be at least --ctx (got {self.kv_cells} and {self.ctx}): "
                "otherwise a request of the full context would not fit."
            )

    def _check_computing(self) -> None:
        if self.flash_attention is False and self.kv_type not in (None, "f16"):
            raise BadSettings(
                f"--flash-attention off does not work with --kv-type {self.kv_type}: only flash "
                "attention reads quantized KV. Use --kv-type f16, or leave out one of them."
            )
        if self.ubatch_rows is not None and self.ubatch_rows > self.max_batch_rows:
            raise BadSettings(
                f"--ubatch-rows must be at most --max-batch-rows (got {self.ubatch_rows} and "
                f"{self.max_batch_rows}): a step has no more rows than that."
            )

    def _check_adapters(self) -> None:
        names = [each.name for each in (*self.lora, *self.control_vector)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadSettings(f"Two adapters have the name {twice!r}. Give each its own.")
