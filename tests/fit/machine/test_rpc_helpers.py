"""What is asked of RPC helpers, and what is said of those that cannot be used."""

from __future__ import annotations

import socket

import pytest

from appliance.fit.machine.accelerators import RPC
from appliance.fit.machine.rpc_helpers import ask_helpers, endpoint_of
from appliance.fit.machine.rpc_protocol import RpcConnection, RpcError
from tests.fit.machine.fake_helper import FakeHelper, running

GIB = 1 << 30


def test_each_device_of_a_helper_is_one_here() -> None:
    memory = [(2 * GIB, 4 * GIB), (GIB, 8 * GIB)]
    with running(FakeHelper(memory=memory)) as helper:
        found = ask_helpers([f"localhost:{helper.port}"])
    assert (found.missing, found.refused) == ((), ())
    assert [
        (one.name, one.description, one.kind, one.memory_free_bytes, one.memory_total_bytes)
        for one in found.devices
    ] == [
        (helper.address, f"RPC helper localhost:{helper.port}", RPC, 2 * GIB, 4 * GIB),
        (f"{helper.address}#1", f"RPC helper localhost:{helper.port}", RPC, GIB, 8 * GIB),
    ]
    for device in found.devices:
        assert device.link is not None
        assert device.link.round_trip_s > 0
        assert device.link.bytes_per_s > 0
        assert device.link.copy_bytes_per_s > 0
    allocations = [size for command, size in helper.commands if command == 0]
    frees = [size for command, size in helper.commands if command == 4]
    assert (allocations, frees) == ([12, 12], [8, 8]), "what was allocated is given back"


def test_a_helper_without_room_is_listed_all_the_same() -> None:
    helper = FakeHelper(memory=[(0, GIB)])
    helper.has_room = False
    with running(helper):
        [device] = ask_helpers([helper.address]).devices
    assert device.link is not None
    assert (device.link.bytes_per_s, device.link.copy_bytes_per_s) == (0.0, 0.0)


@pytest.mark.parametrize("version", [(6, 1, 0), (7, 1, 0), (7, 0, 1)])
def test_another_version_is_refused_by_both_names(version: tuple[int, int, int]) -> None:
    with running(FakeHelper(version, [(GIB, GIB)])) as helper:
        found = ask_helpers([helper.address])
    spoken = ".".join(map(str, version))
    assert (found.devices, found.missing) == ((), ())
    assert found.refused == (
        f"the helper {helper.address} speaks RPC {spoken}, and this llama.cpp speaks 7.0.0. "
        "Install the same version of the appliance on both machines",
    )


def test_one_that_is_gone_is_missing_and_the_others_are_taken() -> None:
    with running(FakeHelper(memory=[(GIB, GIB)])) as helper:
        found = ask_helpers(["127.0.0.1:1", helper.address])
    assert [device.name for device in found.devices] == [helper.address]
    assert found.missing == ("the helper 127.0.0.1:1 cannot be reached (Connection refused)",)


def test_one_that_is_in_use_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        [words] = ask_helpers([address], timeout_s=0.05).missing
    assert words == (
        f"the helper {address} accepts connections but does not answer: a helper serves one "
        "model of one server at a time, and this one may be in use"
    )


def test_what_answers_something_else_is_no_helper() -> None:
    with running(FakeHelper(memory=[])) as helper:
        [words] = ask_helpers([helper.address]).missing
    assert words == f"the helper {helper.address} says that it has 0 devices"


def test_names_become_addresses() -> None:
    assert endpoint_of("localhost:50052") == ("127.0.0.1", 50052)
    with pytest.raises(RpcError, match="has no IPv4 address"):
        endpoint_of("no-such-host.invalid:50052")


def test_a_tensor_has_the_size_that_llama_cpp_packs() -> None:
    helper = FakeHelper(memory=[(GIB, GIB)])
    with running(helper), RpcConnection("127.0.0.1", helper.port, 5) as connection:
        buffer = connection.allocate(0, 64)
        assert buffer is not None
        connection.write(buffer, bytes(10))
        connection.copy_halves(buffer)
    # rpc_tensor is 296 bytes; a write adds a flag, an offset and the data
    assert helper.commands[-2:] == [(6, 296 + 1 + 8 + 10), (9, 2 * 296)]
