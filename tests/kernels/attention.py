"""Attention's kernels out of Python: compiled for one instruction set, called on arrays.

Knows ggml's tensors as far as the kernels read them, and the formats of cells.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
TYPES = {"f16": 1, "q4_0": 2, "q5_1": 7, "q8_0": 8, "f32": 0, "bf16": 30}
BLOCK_BYTES = {"q4_0": 18, "q5_1": 24, "q8_0": 34}

Floats = NDArray[np.float32]


class Tensor(ctypes.Structure):
    """struct ggml_tensor, as kernels/backend/ggml_abi.h has it."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_float * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


@dataclass(frozen=True)
class Attention:
    """One node. Arrays have ggml's axes backwards: the head's values come last."""

    q: Floats  # [streams, heads, rows, key_size]
    k: NDArray[np.generic]  # [streams, cells, kv_heads, key_size], or the bytes of a quantized type
    v: NDArray[np.generic]
    mask: NDArray[np.float16] | None = None  # [streams or 1, rows, cells]
    sinks: Floats | None = None  # [heads]
    k_type: str = "f16"
    v_type: str = "f16"
    scale: float = 0.125
    max_bias: float = 0.0
    softcap: float = 0.0

    def rows(self, chosen: slice | list[int]) -> Attention:
        """As if there were only these rows."""
        mask = None if self.mask is None else np.ascontiguousarray(self.mask[:, chosen])
        return replace(self, q=np.ascontiguousarray(self.q[:, :, chosen]), mask=mask)

    def cells(self, order: NDArray[np.int64]) -> Attention:
        """The same cells at other places."""
        assert self.mask is not None
        return replace(
            self,
            k=np.ascontiguousarray(self.k[:, order]),
            v=np.ascontiguousarray(self.v[:, order]),
            mask=np.ascontiguousarray(self.mask[:, :, order]),
        )

    def exact(self) -> NDArray[np.float64]:
        """In double precision: [streams, rows, heads, value_size]."""
        q, k, v = (
            self.q.astype(np.float64),
            dequantized(self.k, self.k_type).astype(np.float64),
            dequantized(self.v, self.v_type).astype(np.float64),
        )
        heads = q.shape[1]
        group = heads // k.shape[2]
        of_streams = np.arange(q.shape[0]) // (q.shape[0] // k.shape[0])
        k = np.repeat(k.transpose(0, 2, 1, 3), group, axis=1)[of_streams]
        v = np.repeat(v.transpose(0, 2, 1, 3), group, axis=1)[of_streams]
        scores = q @ k.swapaxes(2, 3) * self.scale
        if self.softcap:
            scores = self.softcap * np.tanh(scores / self.softcap)
        if self.mask is not None:
            slopes = np.array([self._slope(h) for h in range(heads)])[None, :, None, None]
            scores = scores + slopes * self.mask.astype(np.float64)[:, None]
        most = scores.max(axis=-1, keepdims=True)
        if self.sinks is not None:
            most = np.maximum(most, self.sinks[None, :, None, None])
        most = np.where(np.isfinite(most), most, 0)
        weights = np.exp(scores - most)
        total = weights.sum(axis=-1, keepdims=True)
        if self.sinks is not None:
            total = total + np.exp(self.sinks[None, :, None, None] - most)
        out = weights @ v / np.where(total > 0, total, 1)
        return np.asarray(out.transpose(0, 2, 1, 3))

    def _slope(self, head: int) -> float:
        if self.max_bias <= 0:
            return 1.0
        whole = 2 ** int(np.log2(self.q.shape[1]))
        if head < whole:
            return float(2 ** (-self.max_bias / whole * (head + 1)))
        return float(2 ** (-self.max_bias / 2 / whole * (2 * (head - whole) + 1)))


@dataclass
class Kernels:
    """The compiled library of one instruction set."""

    library: ctypes.CDLL
    view_seconds: float = field(default=0.0)

    def compute(
        self, work: Attention, *, threads: int = 1, layers: int = 1, times: int = 1
    ) -> Floats:
        """[streams, rows, heads, value_size]. Layers have the same inputs: for timing."""
        return self.timed([work] * layers, threads=threads, times=times)[0]

    def timed(
        self, layers: list[Attention], *, threads: int, times: int = 1
    ) -> tuple[Floats, float]:
        """The first layer's result, and the seconds of all layers together."""
        nodes = (Tensor * len(layers))()
        kept = [_fill(node, layer) for node, layer in zip(nodes, layers, strict=True)]
        assert all(self.library.supports(ctypes.byref(node)) for node in nodes)
        view = ctypes.c_double()
        seconds = self.library.compute(nodes, len(layers), threads, times, ctypes.byref(view))
        assert seconds >= 0, "memory was written that it had not asked for"
        self.view_seconds = view.value
        return kept[0][0], seconds

    def scratch_bytes(self, work: Attention, *, threads: int) -> int:
        node = Tensor()
        _kept = _fill(node, work)
        self.library.scratch_bytes.restype = ctypes.c_size_t
        return int(self.library.scratch_bytes(ctypes.byref(node), threads))

    def supports(self, work: Attention) -> bool:
        node = Tensor()
        _kept = _fill(node, work)
        return bool(self.library.supports(ctypes.byref(node)))


def _fill(node: Tensor, work: Attention) -> tuple[Floats, list[object]]:
    streams, heads, rows, _ = work.q.shape
    v_size = dequantized(work.v[:1, :1], work.v_type).shape[-1]
    out = np.full((streams, rows, heads, v_size), 7, np.float32)
    # rows lie beside heads in memory, as a model has them
    q = np.ascontiguousarray(work.q.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    sources = [
        _tensor(q, "f32"),
        _tensor(work.k.transpose(0, 2, 1, 3), work.k_type),
        _tensor(work.v.transpose(0, 2, 1, 3), work.v_type),
        None if work.mask is None else _tensor(work.mask[:, None], "f16"),
        None if work.sinks is None else _tensor(work.sinks[None, None, None], "f32"),
    ]
    described = _tensor(out, "f32")
    for name in ("type", "ne", "nb", "data"):
        setattr(node, name, getattr(described, name))
    for i, source in enumerate(sources):
        if source is not None:
            node.src[i] = ctypes.pointer(source)
    node.op_params[0:3] = [work.scale, work.max_bias, work.softcap]
    return out, [sources, q, work]


def _tensor(array: NDArray[np.generic], kind: str) -> Tensor:
    """Of a four-dimensional array whose last axis has no gaps."""
    tensor = Tensor()
    tensor.type = TYPES[kind]
    shape, strides = list(array.shape), list(array.strides)
    if kind in BLOCK_BYTES:
        tensor.nb[0] = BLOCK_BYTES[kind]
        shape[3] = shape[3] // BLOCK_BYTES[kind] * 32
    else:
        tensor.nb[0] = array.itemsize
    tensor.ne[:] = shape[::-1]
    tensor.nb[1:4] = strides[2::-1]
    tensor.data = array.ctypes.data
    return tensor


def quantized(values: NDArray[np.floating], kind: str) -> NDArray[np.generic]:
    """The last axis in blocks of 32, as ggml lays them out."""
    if kind in ("f16", "f32"):
        return values.astype({"f16": np.float16, "f32": np.float32}[kind])
    if kind == "bf16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    x = values.reshape(*values.shape[:-1], -1, 32).astype(np.float32)
    low = x.min(axis=-1, keepdims=True)
    high = np.abs(x).max(axis=-1, keepdims=True)
    if kind == "q8_0":
        d = (high / 127).astype(np.float16)
        codes = np.rint(x / np.where(d == 0, 1, d)).clip(-127, 127).astype(np.int8)
        parts = [d.view(np.uint8), codes.view(np.uint8)]
    elif kind == "q4_0":
        d = (-high / 8).astype(np.float16)
        codes = np.rint(x / np.where(d == 0, 1, d) + 8).clip(0, 15).astype(np.uint8)
        parts = [d.view(np.uint8), codes[..., :16] | codes[..., 16:] << 4]
    else:
        d = ((x.max(axis=-1, keepdims=True) - low) / 31).astype(np.float16)
        m = low.astype(np.float16)
        codes = np.rint((x - m) / np.where(d == 0, 1, d)).clip(0, 31).astype(np.uint8)
        fifth = np.packbits(codes >> 4, axis=-1, bitorder="little")
        nibbles = codes[..., :16] & 15 | (codes[..., 16:] & 15) << 4
        parts = [d.view(np.uint8), m.view(np.uint8), fifth, nibbles]
    return np.concatenate(parts, axis=-1).reshape(*values.shape[:-1], -1)


def dequantized(cells: NDArray[np.generic], kind: str) -> Floats:
    if kind in ("f16", "f32"):
        return cells.astype(np.float32)
    if kind == "bf16":
        return (cells.astype(np.uint32) << 16).view(np.float32)
    blocks = cells.reshape(*cells.shape[:-1], -1, BLOCK_BYTES[kind])
    d = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
    if kind == "q8_0":
        x = d * blocks[..., 2:].view(np.int8)
    elif kind == "q4_0":
        codes = np.concatenate([blocks[..., 2:] & 15, blocks[..., 2:] >> 4], axis=-1)
        x = d * (codes.astype(np.float32) - 8)
    else:
        m = np.ascontiguousarray(blocks[..., 2:4]).view(np.float16).astype(np.float32)
        fifth = np.unpackbits(blocks[..., 4:8], axis=-1, bitorder="little")
        codes = np.concatenate([blocks[..., 8:] & 15, blocks[..., 8:] >> 4], axis=-1) + 16 * fifth
        x = d * codes + m
    return x.reshape(*cells.shape[:-1], -1).astype(np.float32)


def build_module() -> ModuleType:
    """kernels/build.py, which is in no package."""
    name = "kernels_build"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "kernels" / "build.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def compiled(variant: str, folder: Path) -> Kernels:
    """The kernels of one instruction set. Raises the build's `NotBuilt`."""
    build = build_module()
    compiler = build.find_compiler()
    flags = [f"-DVARIANT={variant}", *shlex.split(build.VARIANTS[compiler.machine][variant])]
    sources = sorted((ROOT / "kernels" / "attention").glob("*.cpp"))
    sources += [
        ROOT / "kernels" / "threads" / "team.cpp",
        Path(__file__).with_name("attention_shim.cpp"),
    ]
    objects = [folder / f"{variant}-{source.stem}.o" for source in sources]
    for source, obj in zip(sources, objects, strict=True):
        command = [*compiler.command, *shlex.split(build.FLAGS), *flags]
        build.Unit(source, obj, (*command, "-MMD", "-c", "-o", str(obj), str(source))).compile()
    library = folder / f"libattention-{variant}.so"
    build._link(compiler, objects, library)
    loaded = ctypes.CDLL(str(library))
    loaded.compute.restype = ctypes.c_double
    assert ctypes.sizeof(Tensor) == loaded.tensor_bytes()
    return Kernels(loaded)
