"""What holds wherever layers go, whatever the model and the GPUs: as properties, and as
llama.cpp would read it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.fit.plan.offload import Gpu, GpuOverrides, Offload, SplitMode
from appliance.fit.plan.placement import Demand
from appliance.fit.plan.placing.layer_assignment import place
from appliance.fit.plan.placing.layers import LayerBytes
from tests.fit.plan.placement_inputs import AUTO, MIB

mib = st.integers(0, 400).map(lambda n: n * MIB)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    blocks = draw(st.lists(st.tuples(mib, mib), min_size=1, max_size=12))
    output, inputs, largest = draw(mib), draw(mib), draw(mib)
    weights = (*(weights for weights, _ in blocks), output)
    layers = LayerBytes(
        weights, (*(kv for _, kv in blocks), 0), largest, draw(st.sampled_from([0, output]))
    )
    file_bytes = sum(weights) + inputs if layers.tied_bytes == 0 else sum(weights)
    return Demand(
        layers=layers,
        all_weights_bytes=file_bytes,
        compute_bytes=draw(mib),
        attention_bytes=draw(mib),
        input_bytes=draw(mib),
    )


gpu_lists = st.lists(st.integers(0, 4000), min_size=1, max_size=4).map(
    lambda sizes: [
        Gpu(name=f"CUDA{at}", description="", free_bytes=size * MIB, splits_rows=True)
        for at, size in enumerate(sizes)
    ]
)
overrides = st.one_of(
    st.builds(
        GpuOverrides,
        gpu_layers=st.none() | st.integers(0, 14),
        split_mode=st.sampled_from(SplitMode),
    ),
    st.builds(GpuOverrides, most_layers=st.integers(0, 14)),
)


@given(demands(), gpu_lists, overrides)
def test_no_gpu_is_filled_beyond_its_headroom_and_nothing_is_lost(
    need: Demand, gpus: list[Gpu], gpu_overrides: GpuOverrides
) -> None:
    placement = place(need, gpus, gpu_overrides)

    for share in placement.shares:
        assert share.total_bytes <= share.gpu.free_bytes - share.gpu.headroom_bytes
    copied = need.layers.tied_bytes if placement.shares else 0
    in_vram = sum(share.weights_bytes for share in placement.shares)
    assert in_vram + placement.host.weights_bytes == need.all_weights_bytes + copied
    assert sum(share.kv_bytes for share in placement.shares) + placement.host.kv_bytes == sum(
        need.layers.kv_bytes
    )
    assert sum(share.num_layers for share in placement.shares) == placement.offload.gpu_layers
    assert placement.offload.gpu_layers <= gpu_overrides.most_layers


@given(demands(), gpu_lists, st.data())
def test_more_free_memory_never_means_fewer_layers(
    need: Demand, gpus: list[Gpu], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(gpus) - 1))
    more = list(gpus)
    more[at] = replace(gpus[at], free_bytes=gpus[at].free_bytes + data.draw(mib))

    fewer_layers = place(need, gpus, AUTO).offload.gpu_layers
    assert place(need, more, AUTO).offload.gpu_layers >= fewer_layers


@given(demands(), gpu_lists, st.data())
def test_llama_cpp_reads_our_split_as_we_meant_it(
    need: Demand, gpus: list[Gpu], data: st.DataObject
) -> None:
    proportions = data.draw(
        st.just(()) | st.tuples(*[st.sampled_from([0.5, 1.0, 3.0]) for _ in gpus])
    )
    placement = place(need, gpus, GpuOverrides(tensor_split=proportions))
    if placement.shares:
        assert llama_cpp_layers(placement.offload, placement.num_layers) == [
            s.num_layers for s in placement.shares
        ]


def llama_cpp_layers(offload: Offload, num_layers: int) -> list[int]:
    """How many layers each device gets by `get_layer_buft_list` in llama.cpp's
    src/llama-model.cpp, in float32.
    """
    ends = np.cumsum(np.array(offload.tensor_split, np.float32), dtype=np.float32)
    ends /= ends[-1]
    first = max(num_layers - offload.gpu_layers, 0)
    devices = [
        int(
            np.searchsorted(
                ends, np.float32(layer - first) / np.float32(offload.gpu_layers), side="right"
            )
        )
        for layer in range(first, num_layers)
    ]
    return [devices.count(at) for at in range(len(offload.devices))]
