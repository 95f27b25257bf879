"""Reads what was measured of a GGUF: `MODEL.gguf.quality.json` beside it.

Knows no order.

`appliance-convert evaluate` writes these files and documents their format
(convert/quality/sidecar.py). One that is damaged, or of another content of its GGUF, is
logged and ignored.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

SUFFIX = ".quality.json"
_FORMAT = 1
_KV_TYPE = "f16"  # what a file's own quality is measured with
_MAX_BYTES = 1 << 20
_READ_BYTES = 1 << 20

_log = logging.getLogger(__name__)

_Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Nats = Annotated[float, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Setting:
    """What files must have been measured with alike to be compared."""

    reference_sha256: str
    text_sha256: str
    window_tokens: int
    num_windows: int


@dataclass(frozen=True)
class MeasuredFile:
    """A GGUF's content, and what was measured of it."""

    sha256: str
    divergences: dict[Setting, float]  # mean KL, nats per token


def read_measured(model: Path) -> MeasuredFile | None:
    """What is recorded of `model`, which exists;
    None where there is no record that can be used.
    """
    sidecar = model.with_name(model.name + SUFFIX)
    try:
        recorded, now = sidecar.stat(), model.stat()
    except OSError:  # usually there is none
        return None
    return _read(model, now.st_size, now.st_mtime_ns, sidecar, recorded.st_mtime_ns)


class _Content(msgspec.Struct):
    sha256: _Sha256


class _SidecarFile(msgspec.Struct):
    sha256: _Sha256
    num_bytes: _Positive
    modified_ns: int


class _Estimate(msgspec.Struct):
    value: _Nats


class _Divergence(msgspec.Struct):
    kl_mean: _Estimate


class _Quality(msgspec.Struct):
    divergence: _Divergence | None


class _Measurement(msgspec.Struct, kw_only=True):
    text: _Content
    window_tokens: _Positive
    num_windows: _Positive
    kv_type: str
    reference: _Content | None
    quality: _Quality


class _SidecarContent(msgspec.Struct):
    file: _SidecarFile
    measurements: list[_Measurement]


class _SidecarVersion(msgspec.Struct):
    format: int


# a plan is made several times over: it must not hash, nor complain, each time
@functools.lru_cache(maxsize=1024)
def _read(
    model: Path, num_bytes: int, modified_ns: int, sidecar: Path, _sidecar_modified_ns: int
) -> MeasuredFile | None:
    try:
        content = _decode(sidecar)
        is_fresh = content.file.num_bytes == num_bytes and (
            content.file.modified_ns == modified_ns or content.file.sha256 == _sha256(model)
        )
    except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        _log.warning("ignoring %s, which is not a usable quality record: %s", sidecar, error)
        return None
    if not is_fresh:
        _log.warning(
            "ignoring %s, which was measured on another version of %s", sidecar, model.name
        )
        return None
    return MeasuredFile(content.file.sha256, _divergences(content.measurements))


def _decode(sidecar: Path) -> _SidecarContent:
    with sidecar.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    version = msgspec.json.decode(data, type=_SidecarVersion).format
    if version != _FORMAT:
        raise ValueError(f"its format is {version}, but only {_FORMAT} is supported")
    return msgspec.json.decode(data, type=_SidecarContent)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _divergences(measurements: list[_Measurement]) -> dict[Setting, float]:
    divergences = {}
    for measured in measurements:
        reference, divergence = measured.reference, measured.quality.divergence
        if reference is not None and divergence is not None and measured.kv_type == _KV_TYPE:
            setting = Setting(
                reference.sha256, measured.text.sha256, measured.window_tokens, measured.num_windows
            )
            divergences[setting] = divergence.kl_mean.value
    return divergences
