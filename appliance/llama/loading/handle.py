"""Has llama.cpp load a model's file. Knows nothing of what is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import llama_cpp

from appliance.errors import LoadFailed
from appliance.llama import library
from appliance.llama.gpu import GpuLayers, GpuParams
from appliance.llama.loading.progress import LoadProgress
from appliance.llama.loading.tables import give_back
from appliance.llama.loading.weight_files import read_in_huge_pages
from appliance.protocol.file_range import FileRange


def load_handle(
    path: Path,
    *,
    use_extra_bufts: bool,
    vocab_only: bool,
    is_mapped: bool,
    is_dry: bool,
    with_heads: bool,
    gpu: GpuLayers,
    tables: Sequence[FileRange] = (),
) -> llama_cpp.llama_model_p:
    """What llama.cpp calls the loaded model. `is_mapped`: weights stay in the mapped file;
    `is_dry`: nothing is allocated; `with_heads`: those that predict further tokens too.
    `tables`: parts of the mapped file that are read as they are used. Raises `LoadFailed`.
    """
    library.start()
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = use_extra_bufts
    params.vocab_only = vocab_only
    params.load_mode = (
        llama_cpp.LLAMA_LOAD_MODE_AUTO if is_mapped else llama_cpp.LLAMA_LOAD_MODE_NONE
    )
    params.no_alloc = is_dry
    params.load_mtp = with_heads
    if tables:  # of those that the architecture marks, nothing is read before
        params.lazy_mode = llama_cpp.LLAMA_LAZY_MODE_ON
    gpu_params = GpuParams(gpu)
    gpu_params.apply(params)
    library.take_errors()
    if is_mapped and not use_extra_bufts and not vocab_only:  # else weights are copied from it
        read_in_huge_pages(path, tables)
    # the record of parameters keeps it alive
    params.progress_callback = llama_cpp.llama_progress_callback(_reporting(path))
    handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not handle:
        raise LoadFailed(
            f"llama.cpp could not load {path}: {library.take_errors() or 'no reason given'}"
        )
    if tables:
        give_back(path, tables)
    return handle


def _reporting(path: Path) -> Callable[[float, object], bool]:
    progress = LoadProgress(f"loading {path.name}")

    def report(share: float, _user_data: object) -> bool:
        progress(share)
        return True  # go on

    return report
