"""What becomes of an error that crosses processes."""

from __future__ import annotations

import pytest

from appliance.errors import ApplianceError, HelperLost, Unavailable, WorkerLost, from_record
from appliance.fleet.serving.door_accounts import OwnerAway
from appliance.fleet.serving.remote_model import ReplicaLost


@pytest.mark.parametrize("kind", [WorkerLost, HelperLost, Unavailable, ApplianceError])
def test_an_error_is_of_its_kind_on_the_other_side(kind: type[ApplianceError]) -> None:
    crossed = from_record(kind("why", param="p").record())
    assert (type(crossed), crossed.message, crossed.param) == (kind, "why", "p")


@pytest.mark.parametrize(("kind", "parent"), [(ReplicaLost, WorkerLost), (OwnerAway, Unavailable)])
def test_a_kind_without_a_code_of_its_own_takes_nobodys_place(
    kind: type[ApplianceError], parent: type[ApplianceError]
) -> None:
    assert type(from_record(kind("why").record())) is parent
