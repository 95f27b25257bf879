"""A repository on a hub: its list of files, and their bytes from any place on.

Knows no model and keeps nothing.

The only module that talks to a hub, through huggingface_hub's own client, so that
HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and its timeouts mean here what
they mean elsewhere; or to ModelScope, where MODELSCOPE_ENDPOINT is set. Its downloads are
not used, for since version 2 they begin anew after a kill. Not for the serving parent,
which need not hold such a client in memory: it pulls in a child.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_url
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import (
    get_session,
    hf_raise_for_status,
    http_stream_backoff,
)

from appliance import __version__
from appliance.errors import BadSettings, PullFailed
from appliance.store.hub.address import endpoint, headers, variable
from appliance.store.hub.records import HubFile, Repository, is_safe_name, is_sha1, is_sha256
from appliance.store.hub.refusals import TRANSIENT_ERRORS, as_our_errors, lost
from appliance.store.other_hubs import modelscope

FIRST_RETRY_S = 1.0  # after a status that says try again; doubled each time


@dataclass(frozen=True)
class HubBody:
    """What a hub sends of a file."""

    start: int  # the byte of the file that it begins with
    chunks: Iterator[bytes]  # as small as they come


def list_repository(repo: str, revision: str | None = None) -> Repository:
    """As it is at a branch, tag or commit; None: at the newest commit.

    Raises `BadSettings` where there is no such repository or we may not see it,
    `PullFailed` if it cannot be had.
    """
    if urlsplit(endpoint()).scheme not in ("http", "https"):
        raise BadSettings(f"{variable()} must begin with http:// or https:// (got {endpoint()!r}).")
    try:
        if modelscope.ENDPOINT:
            return _list_of_modelscope(repo, revision)
        with as_our_errors(repo, revision=revision):
            info = HfApi(library_name="appliance", library_version=__version__).model_info(
                repo,
                revision=revision,
                files_metadata=True,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            )
        return _repository(repo, info)
    except (ValueError, KeyError, TypeError, AttributeError, httpx2.InvalidURL) as error:
        raise PullFailed(
            f"{endpoint()} did not return a valid list of the files of {repo}: {error}. "
            f"Check {variable()}, or try again later."
        ) from error


def _list_of_modelscope(repo: str, revision: str | None) -> Repository:
    # main is what Hugging Face's kind of hub calls the branch; commits are its own, too
    is_elsewheres = revision == constants.DEFAULT_REVISION or is_sha1(revision)
    branch = None if is_elsewheres else revision
    with as_our_errors(repo, revision=branch):
        response = get_session().get(
            modelscope.list_url(repo, branch),
            headers=headers(),
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            follow_redirects=True,
        )
        hf_raise_for_status(response)
    listed = modelscope.read_list(response.json())
    found = [
        HubFile(str(file.name), num_bytes, str(file.sha256), "")
        for file in listed
        if isinstance(file.name, str)
        and is_safe_name(file.name)
        and isinstance(num_bytes := file.num_bytes, int)
        and num_bytes >= 0
        and is_sha256(file.sha256)
    ]
    return Repository(
        id=repo,
        commit=modelscope.state_of(listed),
        files=tuple(found),
        num_left_out=len(listed) - len(found),
        branch=branch,
    )


@contextlib.contextmanager
def open_body(
    repository: Repository, file: HubFile, start: int, stop: int | None = None
) -> Iterator[HubBody]:
    """The file's bytes from `start` up to `stop`, or its end; a hub that knows no
    ranges sends the whole file.

    Raises what `list_repository` does, and `TRANSIENT_ERRORS`, also while chunks are
    taken.
    """
    asked_with = headers()
    asked_with["Accept-Encoding"] = "identity"  # ranges and sizes are of the file itself
    if start or stop is not None:
        asked_with["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    url = _url(repository, file)
    with (
        as_our_errors(repository.id, file.name),
        http_stream_backoff(
            "GET",
            url,
            headers=asked_with,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            base_wait_time=FIRST_RETRY_S,
            retry_on_exceptions=(),
        ) as response,
    ):
        hf_raise_for_status(response)
        yield HubBody(_start(response, start), response.iter_bytes())


def _url(repository: Repository, file: HubFile) -> str:
    if modelscope.ENDPOINT:
        return modelscope.file_url(repository.id, file.name, repository.branch)
    return hf_hub_url(
        repository.id, file.name, revision=repository.commit, endpoint=constants.ENDPOINT
    )


class RemoteStream:
    """A file on a hub that is read forward,
    in ranges as large as they are asked for.
    """

    def __init__(self, repository: Repository, file: HubFile) -> None:
        self._repository = repository
        self._file = file
        self._position = 0

    def read(self, num_bytes: int, /) -> bytes:
        """Raises what `list_repository` does."""
        stop = min(self._position + num_bytes, self._file.num_bytes)
        data = b""
        try:
            while self._position + len(data) < stop:
                more = self._range(self._position + len(data), stop)
                if not more:
                    break
                data += more
        except TRANSIENT_ERRORS as error:
            raise lost(self._repository, self._file, error) from error
        self._position += len(data)
        return data

    def _range(self, start: int, stop: int) -> bytes:
        """From `start` on as much as one answer has,
        which may be less than was asked for.
        """
        received = bytearray()
        with open_body(self._repository, self._file, start, stop) as body:
            wanted = stop - body.start
            for chunk in body.chunks:
                received += chunk
                if len(received) >= wanted:
                    break
        return bytes(received[start - body.start : wanted])


def _repository(repo: str, info: ModelInfo) -> Repository:
    if not is_sha1(info.sha):
        raise PullFailed(
            f"{endpoint()} reports an invalid commit for {repo} ({info.sha!r}). Try again later."
        )
    siblings = info.siblings or []
    files = tuple(file for file in map(_file, siblings) if file is not None)
    return Repository(repo, info.sha, files, len(siblings) - len(files))


def _file(sibling: RepoSibling) -> HubFile | None:
    """None for what could not be checked, or would not be a file of ours."""
    sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
    sizes_agree = sibling.lfs is None or sibling.lfs.size == sibling.size
    if (
        not isinstance(sibling.rfilename, str)
        or not is_safe_name(sibling.rfilename)
        or not sizes_agree
    ):
        return None
    if not isinstance(sibling.size, int) or sibling.size < 0 or not is_sha1(sibling.blob_id):
        return None
    if sibling.lfs is not None and not is_sha256(sha256):
        return None
    return HubFile(sibling.rfilename, sibling.size, sha256, str(sibling.blob_id))


def _start(response: httpx2.Response, asked: int) -> int:
    """Where the body begins: 0 where the hub knows no ranges."""
    if response.status_code != 206:
        return 0
    match = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    start = int(match[1]) if match else -1
    if start != asked:
        raise PullFailed(
            f"{endpoint()} sent another range of bytes than requested. Try again later."
        )
    return start
