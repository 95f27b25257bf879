"""What a hub lists and refuses, and who gets the token: read as it is meant, or an
error that names the way out.
"""

from __future__ import annotations

from typing import Any

import huggingface_hub
import pytest

from appliance.errors import BadModelFile, BadSettings, PullFailed
from appliance.store.hub.client import list_repository
from appliance.store.hub.records import Repository
from appliance.store.hub_contents import find_descriptions
from appliance.store.pull import Destination
from tests.store.hub_server import HubServer
from tests.store.pulling import NAME, REPO, pull


def test_a_token_goes_to_the_hub_and_to_nobody_else(
    hub: HubServer, content: bytes, to: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {NAME: content})
    hub.token = "secret"
    with pytest.raises(
        BadSettings, match=r"no repository of that name.*If it is private, set HF_TOKEN"
    ):
        list_repository(REPO)
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.requests.clear()

    pull(list_repository(REPO), to)

    tokens = {request.path.split("/")[1]: request.token for request in hub.requests}
    assert tokens["org"] == "Bearer secret"
    assert tokens["lfs"] is None


def test_a_gated_repository_says_where_to_ask(hub: HubServer, repository: Repository) -> None:
    hub.gated.add(REPO)

    with pytest.raises(
        BadSettings, match=rf"{REPO} requires its terms .* Request access at {hub.url}/{REPO}"
    ):
        list_repository(REPO)


def test_a_repository_that_is_not_there(hub: HubServer) -> None:
    with pytest.raises(BadSettings, match=rf"known model org/absent, and {hub.url} shows no"):
        list_repository("org/absent")


def test_a_revision_is_asked_for_and_one_that_is_not_there_is_told(
    hub: HubServer, repository: Repository
) -> None:
    hub.absent_revisions.add("v9")
    assert list_repository(REPO, "v1").commit == repository.commit
    assert hub.requests[-1].path == f"/api/models/{REPO}/revision/v1"
    with pytest.raises(
        BadSettings, match=rf"{REPO} has no revision v9 at {hub.url}. 'appliance pull {REPO}' takes"
    ):
        list_repository(REPO, "v9")


def test_offline_is_reported(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(PullFailed, match=f"{REPO} has not been downloaded yet, and HF_HUB"):
        list_repository(REPO)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("endpoint", "error", "message"),
    [
        ("http://127.0.0.1:9", PullFailed, "cannot be reached"),
        ("ftp://127.0.0.1", BadSettings, "must begin with http:// or https://"),
    ],
)
def test_an_endpoint_that_is_none(
    endpoint: str,
    error: type[Exception],
    message: str,
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)

    with pytest.raises(error, match=message):
        list_repository(REPO)


@pytest.mark.parametrize(
    "listing", [[], {}, {"id": REPO, "sha": "main"}, {"id": REPO, "sha": 5, "siblings": [1]}]
)
def test_a_list_that_is_none(listing: object, hub: HubServer, repository: Repository) -> None:
    hub.lists[REPO] = lambda _true: listing

    with pytest.raises(PullFailed, match=REPO):
        list_repository(REPO)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.gguf",
        "/evil.gguf",
        "a/../../evil.gguf",
        ".evil.gguf",
        "a\\evil.gguf",
        "evil\n.gguf",
        "C:evil.gguf",
        "",
    ],
)
def test_a_name_that_leads_elsewhere_is_not_listed(
    name: str, hub: HubServer, repository: Repository
) -> None:
    hub.lists[REPO] = lambda true: {
        **true,
        "siblings": [{**row, "rfilename": name} for row in true["siblings"]],
    }

    assert list_repository(REPO).files == ()
    with pytest.raises(
        BadModelFile, match="2 files are ignored because they have no safe name or no checksum"
    ):
        find_descriptions(list_repository(REPO))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": None},
        {"size": -1},
        {"blobId": "abc"},
        {"lfs": {"sha256": "abc", "size": 5, "pointerSize": 1}},
    ],
)
def test_a_file_without_a_checksum_is_not_listed(
    wrong: dict[str, Any], hub: HubServer, repository: Repository
) -> None:
    hub.lists[REPO] = lambda true: {
        **true,
        "siblings": [{**row, **wrong} for row in true["siblings"]],
    }

    assert list_repository(REPO).files == ()
