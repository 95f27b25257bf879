"""Zstandard, where Python or a package has it: Python from 3.14 on, `backports.zstd` before.

Knows no header and no limit.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

# What RFC 9659 lets a sender use, and so the most that a reader has to remember.
_WINDOW_LOG_MAX = 23
_LEVEL = 3  # the library's own


def _library() -> ModuleType | None:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_zstd = _library()
IS_THERE = _zstd is not None


def decompressor() -> Any:
    """With `decompress(data, max_length)`, `eof` and `unused_data`, as zlib's."""
    assert _zstd is not None, "see IS_THERE"
    options = {_zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
    return _zstd.ZstdDecompressor(options=options)


def error_type() -> type[Exception]:
    assert _zstd is not None, "see IS_THERE"
    found: type[Exception] = _zstd.ZstdError
    return found


def compressed(data: bytes) -> bytes:
    assert _zstd is not None, "see IS_THERE"
    packed: bytes = _zstd.compress(data, level=_LEVEL)
    return packed
