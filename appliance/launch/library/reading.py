"""What a model's file says of it, for `ModelFacts`. Loads nothing and asks no hub."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from appliance.errors import ApplianceError
from appliance.fit.plan.embedding import embeds
from appliance.gateway.library.facts import MetadataValue, ModelFacts
from appliance.launch.files import find_source
from appliance.launch.spec import ModelSpec
from appliance.store.chat_templates.reading import read_chat_template
from appliance.store.gguf_header import GgufHeader
from appliance.store.gguf_values import MetadataArray
from appliance.store.hub_folder import read_record
from appliance.store.split import read_model_header

_TEMPLATE = "tokenizer.chat_template"
_GAP_TOKENS = ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id")
_DIGEST_CHARS = 64
_MAX_TEXT_CHARS = 4096  # of a value among the metadata: licences are long


def facts_of(spec: ModelSpec) -> ModelFacts:
    """Empty where there is no file that can be read.

    Of several quantizations the one that `spec` names, else the largest.
    """
    try:
        files = find_source(spec).files
        headers = [header for file in files if (header := _header(file)) is not None]
    except ApplianceError:
        return ModelFacts()
    named = [header for header in headers if header.quantization == spec.settings.quant]
    header = max(named or headers, key=lambda each: each.num_file_bytes, default=None)
    if header is None:
        return ModelFacts()
    return _facts(header, spec)


class KnownFacts:
    """`facts_of` a model, read once: in the thread that asks, for it is the header alone. As
    long as there is no file, it is looked for each time.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._facts = ModelFacts()

    def __call__(self) -> ModelFacts:
        if not self._facts.num_bytes:
            self._facts = facts_of(self._spec)
        return self._facts


def _header(file: Path) -> GgufHeader | None:
    try:
        return read_model_header(file)
    except ApplianceError:
        return None


def _facts(header: GgufHeader, spec: ModelSpec) -> ModelFacts:
    architecture = _text(header, "general.architecture")
    own_template = spec.settings.chat_template
    status = header.path.stat()
    return ModelFacts(
        architecture=architecture,
        num_params=sum(math.prod(tensor.shape) for tensor in header.tensors),
        quantization=header.quantization,
        num_bytes=header.num_file_bytes,
        digest=_digest(header, status.st_mtime_ns),
        modified_s=status.st_mtime,
        licence=_text(header, "general.license"),
        chat_template=_text(header, _TEMPLATE)
        if own_template is None
        else read_chat_template(own_template),
        fills_gaps=any(key in header.metadata for key in _GAP_TOKENS),
        embeds=embeds(header),
        train_ctx=_whole(header, f"{architecture}.context_length"),
        metadata={key: _short(value) for key, value in header.metadata.items() if key != _TEMPLATE},
    )


def _digest(header: GgufHeader, mtime_ns: int) -> str:
    """The hash by which a hub knows the file, else one of its path, size and time: to
    read gigabytes for it would take minutes.
    """
    record = read_record(header.path.parent)
    arrived = None if record is None else record.files.get(header.path.name)
    if arrived is not None and len(arrived.content_id) == _DIGEST_CHARS:
        return arrived.content_id
    identity = f"{header.path}\0{header.num_file_bytes}\0{mtime_ns}"
    return hashlib.sha256(identity.encode("utf-8", errors="surrogateescape")).hexdigest()


def _short(value: object) -> MetadataValue:
    if isinstance(value, MetadataArray) or not isinstance(value, str | int | float | bool):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    return value[:_MAX_TEXT_CHARS] if isinstance(value, str) else value


def _text(header: GgufHeader, key: str) -> str:
    value = header.metadata.get(key)
    return value if isinstance(value, str) else ""


def _whole(header: GgufHeader, key: str) -> int:
    value = header.metadata.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
