"""The catalog of hub models is compared with what a hub has."""

from __future__ import annotations

import pytest

from appliance.cli.catalog import check
from appliance.store.known.check import disagreements
from appliance.store.known.hub_models import HubModel
from tests.store.hub_server import HubServer
from tests.store.pulling import REPO


def model(hub: HubServer, **sizes: int) -> HubModel:
    return HubModel(
        name="tiny",
        repository=REPO,
        revision="main",
        kind="chat",
        licence="MIT",
        languages=("en",),
        parameters=1000,
        active_parameters=1000,
        ctx=None,
        sizes=sizes,
    )


def test_what_the_hub_has_otherwise_is_told(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(REPO, {"tiny-Q8_0.gguf": b"x" * 1000, "tiny-Q4_K_M.gguf": b"y" * 500})
    right, wrong = model(hub, Q8_0=1020, Q4_K_M=500), model(hub, Q8_0=900, Q6_K=800)

    assert list(disagreements(right)) == []
    assert list(disagreements(wrong)) == [
        "Q8_0 takes 0.00 GiB, not 0.00 GiB.",
        f"{REPO} has no Q6_K.",
    ]
    monkeypatch.setattr(check, "load_hub_models", lambda: (right,))
    assert (check.main([]), capsys.readouterr().out) == (0, "tiny: as the hub has it\n")


def test_a_repository_that_is_not_there_disagrees(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "load_hub_models", lambda: (model(hub, Q8_0=1),))

    assert check.main(["tiny"]) == 1
    assert f"tiny: There is no file, directory or known model {REPO}" in capsys.readouterr().out
    assert check.main(["another"]) == 0
