"""LoRA adapters and control vectors of a loaded model, applied to a context.

Knows no names and no requests.

llama.cpp takes LoRA adapters before the context is made, whose graphs have room for them
then, and control vectors as numbers for all layers together. Changing either has the
next decode reserve its graph anew.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet
from appliance.errors import AdapterFailed, DecodeFailed
from appliance.llama import library
from appliance.llama.model import Model
from appliance.protocol.adapters import AdapterFile, AdapterKind

_Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _ControlVector:
    """Of each layer that has any, float32 [embedding]."""

    directions: Mapping[int, _Vector]


class Adapters:
    """Those of one model, by their number: their place in `files`.

    Raises `AdapterFailed` for a file that llama.cpp refuses, or that has changed.
    """

    def __init__(self, model: Model, files: Sequence[AdapterFile]) -> None:
        self._width: int = llama_cpp.llama_model_n_embd(model.handle)
        self._num_layers: int = llama_cpp.llama_model_n_layer(model.handle)
        self._loras: dict[int, Any] = {}
        self._vectors: dict[int, _ControlVector] = {}
        self._current = NO_ADAPTERS
        self.files = tuple(files)
        for number, file in enumerate(files):
            if file.kind is AdapterKind.LORA:
                self._loras[number] = _load_lora(model, file)
            else:
                self._vectors[number] = self._read_vector(file)

    @property
    def num(self) -> int:
        return len(self._loras) + len(self._vectors)

    def use(self, context: Any, adapters: AdapterSet) -> None:
        """From now on the context computes with these.

        Raises `DecodeFailed`.
        """
        if adapters == self._current:
            return
        loras = [(self._loras[n], scale) for n, scale in adapters.scales if n in self._loras]
        vectors = [(self._vectors[n], scale) for n, scale in adapters.scales if n in self._vectors]
        had_vectors = any(number in self._vectors for number, _ in self._current.scales)
        self._set_loras(context, loras)
        if vectors or had_vectors:
            self._set_vectors(context, vectors)
        self._current = adapters

    @staticmethod
    def _set_loras(context: Any, loras: Sequence[tuple[Any, float]]) -> None:
        num_loras = len(loras)
        handles = (llama_cpp.llama_adapter_lora_p_ctypes * num_loras)(*(each for each, _ in loras))
        scales = (ctypes.c_float * num_loras)(*(scale for _, scale in loras))
        if llama_cpp.llama_set_adapters_lora(context, handles, num_loras, scales) != 0:
            raise DecodeFailed(f"llama.cpp refused the adapters: {library.take_errors()}")

    def _set_vectors(self, context: Any, vectors: Sequence[tuple[_ControlVector, float]]) -> None:
        """llama.cpp has numbers for the layers from 1 on."""
        width = self._width
        if not vectors:
            status = llama_cpp.llama_set_adapter_cvec(context, None, 0, width, -1, -1)
        else:
            total = np.zeros((self._num_layers - 1, width), np.float32)
            for vector, scale in vectors:
                for layer, direction in vector.directions.items():
                    total[layer - 1] += np.float32(scale) * direction
            data = total.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            status = llama_cpp.llama_set_adapter_cvec(
                context, data, total.size, width, 1, self._num_layers
            )
        if status != 0:
            raise DecodeFailed(f"llama.cpp refused the control vector: {library.take_errors()}")

    def _read_vector(self, file: AdapterFile) -> _ControlVector:
        directions = {}
        for layer, offset in file.offsets.items():
            numbers = np.fromfile(file.path, "<f4", self._width, offset=offset)
            if numbers.size != self._width or not 0 < layer < self._num_layers:
                raise AdapterFailed(f"{file.path} is no longer the file that was checked.")
            directions[layer] = numbers.astype(np.float32)
        return _ControlVector(directions)


def _load_lora(model: Model, file: AdapterFile) -> Any:
    """It lives as long as the model, which frees it."""
    library.take_errors()
    handle = llama_cpp.llama_adapter_lora_init(model.handle, file.path.encode())
    if not handle:
        raise AdapterFailed(
            f"llama.cpp could not load the adapter {file.path}: "
            f"{library.take_errors() or 'no reason given'}"
        )
    return handle
