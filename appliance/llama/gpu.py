"""Has llama.cpp put layers of a model on GPUs. Knows no memory and makes no choice."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import llama_cpp
from llama_cpp._ggml import libggml  # the binding offers no device list of its own

from appliance.errors import LoadFailed
from appliance.llama.rpc.backend import helper_device
from appliance.llama.rpc.names import is_helper

_SPLIT_MODES = {
    "layer": llama_cpp.LLAMA_SPLIT_MODE_LAYER,
    "row": llama_cpp.LLAMA_SPLIT_MODE_ROW,
    "none": llama_cpp.LLAMA_SPLIT_MODE_NONE,
}


@dataclass(frozen=True, kw_only=True)
class GpuLayers:
    """Which layers of a model go to which GPUs; without layers no GPU is opened."""

    num_layers: int = 0  # the last ones, the output layer among them
    devices: tuple[str, ...] = ()  # ggml's names of GPUs, and addresses of helpers
    split_mode: str = "layer"
    tensor_split: tuple[float, ...] = ()  # a proportion for each device
    main_gpu: int = 0


class GpuParams:
    """The C arrays behind llama.cpp's model parameters;
    must live until the model is loaded.

    Raises `LoadFailed` where this library or this machine has no such GPU: llama.cpp
    would quietly use the CPU.
    """

    def __init__(self, layers: GpuLayers) -> None:
        if layers.num_layers > 0 and not llama_cpp.llama_supports_gpu_offload():
            raise LoadFailed(
                f"{layers.num_layers} layers are to go to a GPU, but this build of llama.cpp "
                "has no GPU support. Rebuild it with ./install.sh --cuda, or set --gpu-layers 0."
            )
        self._layers = layers
        names = layers.devices if layers.num_layers > 0 else ()
        self._devices = (ctypes.c_void_p * (len(names) + 1))(*map(_device, names), None)
        self._tensor_split = (ctypes.c_float * llama_cpp.llama_max_devices())(*layers.tensor_split)

    def apply(self, params: llama_cpp.llama_model_params) -> None:
        """The list of devices ends with null;
        an empty one keeps llama.cpp from opening any GPU.
        """
        params.devices = ctypes.addressof(self._devices)
        params.n_gpu_layers = self._layers.num_layers
        params.split_mode = _SPLIT_MODES[self._layers.split_mode]
        params.main_gpu = self._layers.main_gpu
        params.tensor_split = self._tensor_split


def _device(name: str) -> int:
    if is_helper(name):
        return helper_device(name)
    libggml.ggml_backend_dev_by_name.argtypes = [ctypes.c_char_p]
    # opaque; ctypes would cut it to an int
    libggml.ggml_backend_dev_by_name.restype = ctypes.c_void_p
    handle: int | None = libggml.ggml_backend_dev_by_name(name.encode())
    if handle is None:
        raise LoadFailed(
            f"The GPU {name} is no longer available. Run 'appliance fit --device' to see which are."
        )
    return handle
