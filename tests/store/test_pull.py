"""What arrives from a hub is what the hub announced, whole or not there, in its own
folder and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import resource
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from appliance.errors import BadModelFile, PullFailed, SetupError
from appliance.store.catalog import load_catalog
from appliance.store.event import StoreEvent
from appliance.store.hub.client import list_repository
from appliance.store.hub.records import Repository
from appliance.store.hub_folder import read_record
from appliance.store.models import ModelStore
from appliance.store.pull import Destination
from tests.store.hub_server import Fault, HubServer
from tests.store.pulling import NAME, REPO, DiskUsage, left_behind, pull
from tests.store.samples import Sample, write_sample


def test_a_file_arrives_with_a_record_of_where_it_is_from(
    hub: HubServer, repository: Repository, content: bytes, to: Destination
) -> None:
    events: list[StoreEvent] = []

    path = pull(repository, to, events.append)

    assert path == to.models_dir / "tiny-GGUF" / NAME
    assert path.read_bytes() == content
    assert left_behind(to) == [f"tiny-GGUF/{NAME}"]
    record = read_record(path.parent)
    assert record is not None
    assert (record.repo, record.files[NAME].commit) == (REPO, hub.commit(REPO))
    assert record.files[NAME].content_id == hashlib.sha256(content).hexdigest()
    assert (events[-1].text, events[-1].done_bytes, events[-1].total_bytes) == (
        f"downloading {NAME}",
        len(content),
        len(content),
    )


def test_what_is_there_is_not_fetched_again(
    hub: HubServer, repository: Repository, to: Destination
) -> None:
    path = pull(repository, to)
    hub.requests.clear()

    assert pull(repository, to) == path
    assert hub.requests == []

    path.write_bytes(b"JUNK" + path.read_bytes()[4:])  # as long as it should be
    assert pull(repository, to).read_bytes() == hub.repositories[REPO][NAME]


def test_a_new_version_takes_the_place_of_the_old_one(
    hub: HubServer, repository: Repository, to: Destination, tmp_path: Path
) -> None:
    pull(repository, to)
    newer = write_sample(tmp_path / "newer.gguf", Sample(tokens=2001)).read_bytes()
    hub.add(REPO, {NAME: newer})

    assert pull(list_repository(REPO), to).read_bytes() == newer


def test_a_cut_connection_goes_on_where_it_was(
    hub: HubServer, repository: Repository, content: bytes, to: Destination
) -> None:
    hub.order(NAME, Fault(cut_after=100_000), Fault(cut_after=50_000))

    assert pull(repository, to).read_bytes() == content
    assert hub.downloads() == [(NAME, None), (NAME, "bytes=100000-"), (NAME, "bytes=150000-")]


def test_a_hub_that_stays_away_is_given_up_and_what_has_arrived_is_kept(
    hub: HubServer, repository: Repository, content: bytes, to: Destination
) -> None:
    hub.order(NAME, Fault(cut_after=100_000), *[Fault(cut_after=0)] * 3)

    with pytest.raises(
        PullFailed,
        match=rf"download of {NAME} of {REPO} from .* stopped: .*downloaded so far is kept",
    ):
        pull(repository, to)
    [partial] = left_behind(to)
    assert partial.endswith(".partial")
    assert ModelStore(to.models_dir, load_catalog()).resolve(REPO).must_be_pulled

    hub.requests.clear()
    assert pull(repository, to).read_bytes() == content
    assert hub.downloads() == [(NAME, "bytes=100000-")]


def test_a_silent_hub_is_given_up_after_the_timeout(
    hub: HubServer, repository: Repository, to: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    hub.order(NAME, *[Fault(hold_after=0)] * 3)

    with pytest.raises(PullFailed, match=r"stopped: .*timed out"):
        pull(repository, to)


def test_a_hub_that_knows_no_ranges_begins_anew(
    hub: HubServer, repository: Repository, content: bytes, to: Destination
) -> None:
    hub.order(NAME, Fault(cut_after=100_000), Fault(ignores_range=True))

    assert pull(repository, to).read_bytes() == content


def test_a_server_error_is_asked_again(
    hub: HubServer, repository: Repository, content: bytes, to: Destination
) -> None:
    hub.order(NAME, Fault(status=500), Fault(status=503))

    assert pull(repository, to).read_bytes() == content


def test_another_content_than_announced_is_refused_and_removed(
    hub: HubServer, repository: Repository, content: bytes, to: Destination
) -> None:
    hub.order(NAME, Fault(change=lambda sent: sent[:-1] + b"X"))
    arrived, announced = (
        hashlib.sha256(data).hexdigest() for data in (content[:-1] + b"X", content)
    )

    with pytest.raises(
        PullFailed, match=f"has the SHA-256 {arrived}, but the hub announced {announced}"
    ):
        pull(repository, to)
    assert left_behind(to) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sent: sent + b"more", "is larger than the .* bytes"),
        (lambda sent: sent[:-4], "is shorter than"),
    ],
)
def test_another_size_than_announced_is_refused(
    change: Any, message: str, hub: HubServer, repository: Repository, to: Destination
) -> None:
    hub.order(NAME, *[Fault(change=change)] * 2)

    with pytest.raises(PullFailed, match=message):
        pull(repository, to)
    assert not list(to.models_dir.rglob("*.gguf"))


def test_a_file_that_is_no_model_gets_no_name(hub: HubServer, to: Destination) -> None:
    hub.add(REPO, {NAME: b"GGUF, so it says"})

    with pytest.raises(BadModelFile, match="not a usable GGUF file"):
        pull(list_repository(REPO), to)
    assert left_behind(to) == []


def test_too_little_room_is_reported_before_anything_is_fetched(
    hub: HubServer,
    repository: Repository,
    content: bytes,
    to: Destination,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: DiskUsage(free=100_000))

    with pytest.raises(
        SetupError, match=rf"takes {len(content) / 1e6:.1f} MB more, but .* has only 0\.1 MB free"
    ):
        pull(repository, to)
    assert hub.downloads() == []


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 100 kB; Python ignores the signal, so that writing fails
    as on a full disk.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_is_reported(
    repository: Repository, content: bytes, to: Destination
) -> None:
    with (
        full_disk(),
        pytest.raises(
            PullFailed,
            match=r"cannot be written: File too large\. .* so far is kept",
        ),
    ):
        pull(repository, to)
    assert not list(to.models_dir.rglob("*.gguf"))

    assert pull(repository, to).read_bytes() == content


def test_two_pulls_at_once_fetch_once(
    hub: HubServer, repository: Repository, content: bytes, to: Destination
) -> None:
    hub.order(NAME, Fault(hold_after=100_000))
    first = threading.Thread(target=pull, args=(repository, to))
    first.start()
    hub.held.wait()
    reported: list[str] = []

    def on_event(event: StoreEvent) -> None:
        reported.append(event.text)
        hub.released.set()

    assert pull(repository, to, on_event).read_bytes() == content
    first.join()
    folder = to.models_dir / "tiny-GGUF"
    assert reported == [f"waiting for another process that is pulling into {folder}"]
    # The held connection was closed early, hence the second request: of the first pull,
    # for the rest.
    assert hub.downloads() == [(NAME, None), (NAME, "bytes=100000-")]


def test_two_repositories_of_one_name_get_folders_of_their_own(
    hub: HubServer, repository: Repository, content: bytes, to: Destination
) -> None:
    hub.add("other/tiny-GGUF", {NAME: content})
    hub.add("org/reserved", {NAME: content})
    store = ModelStore(to.models_dir, load_catalog())

    ours, others, reserved = (
        pull(list_repository(repo), to) for repo in (REPO, "other/tiny-GGUF", "org/reserved")
    )

    assert ours.parent.name == "tiny-GGUF"
    assert others.parent.name.startswith("tiny-GGUF-")
    assert reserved.parent.name.startswith("reserved-")
    assert store.resolve("other/tiny-GGUF").files == (others,)
    assert store.resolve(f"{REPO}:q8_0").files == (ours,)
    assert store.resolve(f"{REPO}:Q2_K").must_be_pulled
