"""All settings of `appliance serve` and,
in part, of `appliance fit`, and how they agree.

Knows no source.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from appliance.errors import BadSettings
from appliance.loopback import socket_path
from appliance.settings.auto_options import AutoOptions
from appliance.settings.cache_options import CacheOptions
from appliance.settings.cost_options import CostOptions
from appliance.settings.model import ModelSettings
from appliance.settings.served_models import NamedOptions, ServedModelsOptions
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
    "rpc",
    "batch_threads",
    "ubatch_rows",
    "flash_attention",
    "kernels",
    "mmap",
    "slots",
    "max_batch_rows",
    "prompt_lookup",
    "repeatable",
    "exact",
    "cache_reuse",
    "draft",
    "lora",
    "control_vector",
    "set",
    "models_dir",
    "state_dir",
)


@dataclass(frozen=True, kw_only=True)
class ServeSettings(
    CostOptions,
    CacheOptions,
    ServerOptions,
    AutoOptions,
    ServedModelsOptions,
    ModelSettings,
    NamedOptions,
):
    """One declaration per option: the field's name gives flag, TOML key and variable,
    `Option` the rest.

    Raises `BadSettings` where options contradict each other.
    """

    per_model: ClassVar[type] = ModelSettings  # what may be set for one model: see `load`

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tls_key is not None and self.tls_cert is None:
            raise BadSettings("--tls-key needs --tls-cert FILE, the certificate it belongs to.")
        if self.tls_cert is not None and socket_path(self.host) is not None:
            raise BadSettings(
                "--tls-cert is for addresses: nobody can listen in on a Unix socket. Leave it out, "
                "or choose another --host."
            )

    @property
    def first_model(self) -> str | None:
        """The model as it was named; None is the default one."""
        return self.model[0] if self.model else None

    def for_model(self, *names: str | None) -> ModelSettings:
        """The settings of the model that has these names (id, or as it was named).

        Raises `BadSettings` where what is set for it contradicts itself.
        """
        values = {field.name: getattr(self, field.name) for field in fields(ModelSettings)}
        own = {entry.key: entry.value for entry in self.set if entry.model in names}
        try:
            return ModelSettings(**{**values, **own})
        except BadSettings as error:
            name = next(name for name in names if name is not None)
            raise BadSettings(f"{name}: {error.message}") from error
