"""All settings of `appliance serve` and, in part, of `appliance fit`, and how they agree.

Knows no source.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from appliance.errors import BadSettings
from appliance.settings.model_options import ModelOptions
from appliance.settings.request_options import MAX_SLOTS, RequestOptions
from appliance.settings.server_options import ServerOptions

# The options that decide which file of a model is served, and where it is kept.
FIT_OPTIONS = (
    "model",
    "ctx",
    "kv_cells",
    "quant",
    "kv_type",
    "ram",
    "threads",
    "gpu_layers",
    "split_mode",
    "tensor_split",
    "main_gpu",
    "batch_threads",
    "ubatch_rows",
    "flash_attention",
    "mmap",
    "slots",
    "max_batch_rows",
    "prompt_lookup",
    "draft",
    "models_dir",
    "state_dir",
)


@dataclass(frozen=True, kw_only=True)
class ServeSettings(ServerOptions, RequestOptions, ModelOptions):
    """One declaration per option: the field's name gives flag, TOML key and variable,
    `Option` the rest.

    Raises `BadSettings` where options contradict each other.
    """

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_computing()
        if not (is_loopback(self.host) or self.api_key_file is not None or self.insecure):
            raise BadSettings(
                f"--host {self.host} can be reached from other machines and no API key is asked "
                "for. Give --api-key-file FILE, or --insecure if that is what you want, or listen "
                "on 127.0.0.1."
            )

    def for_default_model(self) -> ServeSettings:
        """The same machine and directories, for the model that comes with us, in all
        its quantizations.
        """
        return replace(self, model=(), quant=None)

    def for_model(self, argument: str | None) -> ServeSettings:
        """The same for this model alone; None is the default one."""
        return replace(self, model=() if argument is None else (argument,))

    @property
    def first_model(self) -> str | None:
        """The model as it was named; None is the default one."""
        return self.model[0] if self.model else None

    def _check_sizes(self) -> None:
        if not 1 <= self.port <= 65535:
            raise BadSettings(f"--port {self.port} is no port: allowed are 1 to 65535.")
        if self.slots is not None and not 1 <= self.slots <= MAX_SLOTS:
            raise BadSettings(
                f"--slots {self.slots} is not possible: allowed are 1 to {MAX_SLOTS}."
            )
        if self.slots is not None and self.max_batch_rows < self.slots:
            raise BadSettings(
                f"--max-batch-rows {self.max_batch_rows} is less than --slots {self.slots}: every "
                "running answer needs one row of each step."
            )
        if self.ctx is not None and self.kv_cells is not None and self.kv_cells < self.ctx:
            raise BadSettings(
                f"--kv-cells {self.kv_cells} is less than --ctx {self.ctx}: one request of the "
                "full context would not fit. Give at least as many cells as tokens of context."
            )

    def _check_computing(self) -> None:
        if self.flash_attention is False and self.kv_type not in (None, "f16"):
            raise BadSettings(
                f"--flash-attention off is not possible with --kv-type {self.kv_type}: only flash "
                "attention reads quantized KV. Give --kv-type f16, or leave out one of them."
            )
        if self.ubatch_rows is not None and self.ubatch_rows > self.max_batch_rows:
            raise BadSettings(
                f"--ubatch-rows {self.ubatch_rows} is more than --max-batch-rows "
                f"{self.max_batch_rows}, the most there are in a step."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`: 127.0.0.0/8, ::1 or the name localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # another name: may resolve to anything
