"""What arrives from a hub is what the hub announced, whole or not there, in its own
folder and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from appliance.errors import BadModelFile, BadSettings, PullFailed, SetupError
from appliance.store.catalog import load_catalog
from appliance.store.event import StoreEvent
from appliance.store.hub import HubFile, Repository, list_repository
from appliance.store.hub_contents import find_descriptions, find_gguf_files, find_weights
from appliance.store.hub_folder import read_record
from appliance.store.hub_id import HubId, matching, parse_hub_id
from appliance.store.models import ModelStore
from appliance.store.pull import Destination, pull_checkpoint, pull_gguf
from tests.convert.checkpoints import Shape, write_checkpoint
from tests.store.hub_server import Fault, HubServer
from tests.store.samples import Sample, write_sample

REPO = "org/tiny-GGUF"
NAME = "tiny-Q8_0.gguf"


@dataclass(frozen=True)
class DiskUsage:
    """As of `shutil.disk_usage`."""

    free: int


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return write_sample(tmp_path / "sample.gguf", Sample(tokens=2000)).read_bytes()


@pytest.fixture
def repository(hub: HubServer, content: bytes) -> Repository:
    hub.add(REPO, {NAME: content, "README.md": b"# Tiny"})
    return list_repository(REPO)


@pytest.fixture
def to(tmp_path: Path) -> Destination:
    return Destination(tmp_path / "models", frozenset({"reserved"}))


def pull(repository: Repository, to: Destination, on_event: Any = lambda event: None) -> Path:
    file = repository.find(NAME)
    assert file is not None
    return pull_gguf(repository, file, to, on_event)


def left_behind(to: Destination) -> list[str]:
    return sorted(
        str(path.relative_to(to.models_dir))
        for path in to.models_dir.rglob("*")
        if path.is_file() and path.name not in (".lock", "hub.json")
    )


# --- one file -------------------------------------------------------------------------


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


# --- the list -------------------------------------------------------------------------


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


def test_what_of_a_repository_is_a_model() -> None:
    names = ["a-Q8_0.gguf", "q2/a-Q2_K.gguf", "mmproj-F16.gguf", "b-00001-of-00002.gguf", "x.py"]
    found = find_gguf_files(
        Repository("org/a", "0" * 40, tuple(HubFile(name, 1, None, "0" * 40) for name in names))
    )

    assert [file.name for file in found.whole] == ["a-Q8_0.gguf", "q2/a-Q2_K.gguf"]
    assert [file.name for file in found.parts] == ["b-00001-of-00002.gguf"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("org/repo", HubId("org/repo")),
        ("org/Qwen2.5-0.5B:UD-Q4_K_XL", HubId("org/Qwen2.5-0.5B", "UD-Q4_K_XL")),
        ("repo", None),
        ("a/b/c", None),
        ("./repo", None),
        ("../repo", None),
        ("org/model.gguf", None),
        ("org/repo:", None),
        ("https://huggingface.co/org", None),
    ],
)
def test_what_is_a_repository(text: str, meant: HubId | None) -> None:
    assert parse_hub_id(text) == meant


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ("q4_k_m", ["a-Q4_K_M.gguf", "a-UD-Q4_K_M.gguf"]),
        ("UD-Q4_K_M", ["a-UD-Q4_K_M.gguf"]),
        ("Q2_K", ["a-Q2_K.gguf"]),
        ("Q8_0", ["plain.gguf"]),  # by its type: no name says so
        ("0", []),
    ],
)
def test_which_files_a_choice_means(choice: str, meant: list[str]) -> None:
    types = {
        "a-Q4_K_M.gguf": "Q4_K_M",
        "a-UD-Q4_K_M.gguf": "Q4_K_M",
        "a-Q2_K.gguf": "Q2_K",
        "a-IQ2_K.gguf": None,
    }

    assert matching(choice, {**types, "plain.gguf": "Q8_0"}) == meant


# --- checkpoints ----------------------------------------------------------------------


@pytest.fixture
def sharded(hub: HubServer, tmp_path: Path) -> Repository:
    """With files that nobody needs, one of them dangerous."""
    source = write_checkpoint(tmp_path / "source", Shape(), num_shards=2)
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    hub.add(
        "org/tiny",
        {
            **files,
            "pytorch_model.bin": b"pickle",
            "modeling.py": b"import os",
            "extra.safetensors": b"",
        },
    )
    return list_repository("org/tiny")


def test_of_a_checkpoint_only_what_is_read_is_fetched(
    hub: HubServer, sharded: Repository, to: Destination
) -> None:
    folder = pull_checkpoint(sharded, {"Q8_0": 1000}, to, lambda event: None)

    fetched = {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors.index.json",
    } | {f"model-0000{index}-of-00002.safetensors" for index in (1, 2)}
    there = {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()}
    assert there == {name: hub.repositories["org/tiny"][name] for name in there}
    assert (
        set(there)
        == {name for name, _ in hub.downloads()}
        == fetched & set(hub.repositories["org/tiny"])
    )
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"]

    hub.requests.clear()
    pull_checkpoint(sharded, {"Q2_K": 1000}, to, lambda event: None)
    assert hub.requests == []
    assert ModelStore(to.models_dir, load_catalog()).resolve("org/tiny").types == ("Q8_0", "Q2_K")


def test_half_a_checkpoint_is_none_and_is_completed_later(
    hub: HubServer, sharded: Repository, to: Destination
) -> None:
    second = "model-00002-of-00002.safetensors"
    hub.order(second, *[Fault(status=404)])

    with pytest.raises(PullFailed, match=f"lists {second} of org/tiny but cannot find it"):
        pull_checkpoint(sharded, {"Q8_0": 1000}, to, lambda event: None)
    assert not (to.models_dir / "tiny" / "checkpoint").exists()
    assert ModelStore(to.models_dir, load_catalog()).resolve("org/tiny").must_be_pulled

    hub.requests.clear()
    assert (
        pull_checkpoint(sharded, {"Q8_0": 1000}, to, lambda event: None) / "checkpoint" / second
    ).exists()
    assert hub.downloads() == [(second, None)]


def test_room_is_needed_for_the_checkpoint_and_for_what_it_becomes(
    hub: HubServer, sharded: Repository, to: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: DiskUsage(free=50_000_000))

    with pytest.raises(
        SetupError,
        match=r"The checkpoint and what it is converted to take 60\.\d MB more, but .* 50\.0",
    ):
        pull_checkpoint(sharded, {"Q8_0": 60_000_000}, to, lambda event: None)
    assert not [name for name, _ in hub.downloads() if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"config.json": b"{}", "pytorch_model.bin": b""},
            "neither GGUF files nor a checkpoint.*never downloaded",
        ),
        ({"README.md": b""}, "neither GGUF files nor a checkpoint"),
    ],
)
def test_a_repository_without_a_model(
    files: dict[str, bytes], message: str, hub: HubServer
) -> None:
    hub.add("org/none", files)

    with pytest.raises(BadModelFile, match=message):
        find_descriptions(list_repository("org/none"))


@pytest.mark.parametrize(
    "weight_map", [None, {}, [], {"a": "../b.safetensors"}, {"a": "b.bin"}, {"a": 5}]
)
def test_an_index_that_is_none(weight_map: object) -> None:
    repository = Repository("org/a", "0" * 40, ())

    with pytest.raises(BadModelFile, match="is not a valid index"):
        find_weights(repository, json.dumps({"weight_map": weight_map}).encode())
