"""The adapters of a model: those that are set, and those in its folder.

Loads nothing and knows no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import BadModelFile, BadSettings
from appliance.fit.plan.embedding import embeds
from appliance.gateway.adapters import ModelAdapters, ServedAdapter
from appliance.protocol.adapters import AdapterFile, AdapterKind
from appliance.settings import ModelSettings
from appliance.settings.adapter_values import ADAPTER_NAME
from appliance.store.gguf_header import GgufHeader
from appliance.store.servable import gguf_files
from appliance.store.tensors.adapter_files import CONTROL_VECTOR, kind_of, read_adapter

ADAPTERS_FOLDER = "adapters"  # of the models directory, with a folder for each model
MAX_ADAPTERS = 64


@dataclass(frozen=True, kw_only=True)
class NamedAdapterFile:
    """An adapter, as it is named; its file was not looked into but for its kind."""

    name: str
    kind: AdapterKind
    path: Path
    scale: float = 1.0


def find_adapters(
    settings: ModelSettings, models_dir: Path, model_id: str
) -> tuple[NamedAdapterFile, ...]:
    """Those that are set first. What is set goes before what is found under its name.

    Raises `BadSettings` for too many, `BadModelFile` for a file that is not there or no
    adapter.
    """
    found: dict[str, NamedAdapterFile] = {}
    for kind, options in (
        (AdapterKind.LORA, settings.lora),
        (AdapterKind.CONTROL_VECTOR, settings.control_vector),
    ):
        for one in options:
            path = Path(one.path)
            if (actual := _kind(path)) is not kind:
                raise BadSettings(f"{path} is a {actual.words}, and no {kind.words}.")
            found[one.name] = NamedAdapterFile(name=one.name, kind=kind, path=path, scale=one.scale)
    for path in gguf_files(models_dir / ADAPTERS_FOLDER / model_id):
        if ADAPTER_NAME.fullmatch(path.stem) is None:
            raise BadSettings(
                f"{path} names an adapter that no request could: rename the file (letters, digits, "
                "'.', '_' and '-', at most 64), or give it a name with --lora or --control-vector "
                "and move it."
            )
        if path.stem not in found:
            found[path.stem] = NamedAdapterFile(name=path.stem, kind=_kind(path), path=path)
    if len(found) > MAX_ADAPTERS:
        raise BadSettings(f"A model has at most {MAX_ADAPTERS} adapters (got {len(found)}).")
    return tuple(found.values())


def fitting(
    adapters: Sequence[NamedAdapterFile], headers: Sequence[GgufHeader]
) -> tuple[AdapterFile, ...]:
    """The same, their files checked against the model's.

    Raises `BadModelFile` for one that is damaged or another model's.
    """
    if adapters and any(embeds(header) for header in headers):
        raise BadModelFile(
            f"{headers[0].path.name} makes embeddings, which adapters cannot be applied to yet. "
            f"Leave out {adapters[0].name}, or merge it: "
            "appliance-convert SRC --merge-lora ADAPTER --out DIR"
        )
    return tuple(_checked(one, headers) for one in adapters)


def served_adapters(adapters: Sequence[NamedAdapterFile]) -> ModelAdapters:
    """The same, as clients see them."""
    return ModelAdapters(
        [ServedAdapter(name=one.name, kind=one.kind, scale=one.scale) for one in adapters]
    )


def _checked(one: NamedAdapterFile, headers: Sequence[GgufHeader]) -> AdapterFile:
    checked = read_adapter(one.path, headers)
    return AdapterFile(
        name=one.name,
        kind=one.kind,
        path=str(one.path),
        scale=one.scale,
        num_bytes=checked.num_bytes,
        offsets=checked.offsets,
    )


def _kind(path: Path) -> AdapterKind:
    is_vector = kind_of(path) == CONTROL_VECTOR
    return AdapterKind.CONTROL_VECTOR if is_vector else AdapterKind.LORA
