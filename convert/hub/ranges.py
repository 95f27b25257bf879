"""Bytes of a file on a hub, from any place on, of one commit and no other.

Knows no checkpoint and keeps nothing.

Every answer is held against the list of files: the commit that the hub says it is of
(`X-Repo-Commit`), the hash of the file (`X-Linked-ETag` where Git LFS keeps it, else `ETag`;
https://huggingface.co/docs/huggingface_hub/package_reference/file_download) and its size
(`Content-Range`, RFC 9110, 14.4). A hash over parts in any order cannot be computed, so the
bytes themselves are not compared with it.
"""

from __future__ import annotations

import re
import time

import httpx2
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

from convert.errors import HubLost, HubRefused, SourceChanged
from convert.hub.repository import (
    LIBRARY,
    TRANSIENT_ERRORS,
    HubFile,
    Repository,
    as_our_errors,
    reason,
)

PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0)  # before asking again where nothing came since the last time
FIRST_RETRY_S = 1.0  # after a status that says try again; doubled each time
_HASH = re.compile(r'(?:W/)?"?([0-9a-f]{64}|[0-9a-f]{40})"?')


def read_range(repository: Repository, file: HubFile, start: int, stop: int) -> bytearray:
    """The bytes from `start` up to `stop`, asked for again where the connection is lost.

    Raises `HubLost` where that does not help, `SourceChanged` where the file is another by
    now, `HubRefused` where the hub sends no ranges.
    """
    received = bytearray()
    pauses_s = iter(PAUSES_S)
    while len(received) < stop - start:
        num_bytes_so_far = len(received)
        try:
            _receive(repository, file, (start, stop), received)
            failure: Exception = ConnectionError("the hub ended its response too early")
        except TRANSIENT_ERRORS as error:
            failure = error
        if len(received) > num_bytes_so_far:
            pauses_s = iter(PAUSES_S)
            continue
        pause_s = next(pauses_s, None)
        if pause_s is None:
            raise HubLost(
                f"The connection to {constants.ENDPOINT} was lost while {file.name} of "
                f"{repository.repo} was read: {reason(failure)}. Check the network and give the "
                "same command again: it goes on where it stopped."
            ) from failure
        time.sleep(pause_s)
    return received


def _receive(
    repository: Repository, file: HubFile, wanted: tuple[int, int], received: bytearray
) -> None:
    """Appends what one answer has of the bytes that are missing. Raises `TRANSIENT_ERRORS` too."""
    start, stop = wanted[0] + len(received), wanted[1]
    headers = build_hf_headers(library_name=LIBRARY)
    headers["Accept-Encoding"] = "identity"  # ranges and sizes are of the file itself
    headers["Range"] = f"bytes={start}-{stop - 1}"
    url = hf_hub_url(
        repository.repo, file.name, revision=repository.commit, endpoint=constants.ENDPOINT
    )
    try:
        with http_stream_backoff(
            "GET",
            url,
            headers=headers,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            base_wait_time=FIRST_RETRY_S,
            retry_on_exceptions=(),
        ) as response:
            with as_our_errors(repository.repo):
                hf_raise_for_status(response)
            _check(repository, file, response, (start, stop))
            for chunk in response.iter_bytes():
                received += chunk[: stop - wanted[0] - len(received)]
                if len(received) == stop - wanted[0]:
                    return
    except TRANSIENT_ERRORS:
        raise
    except httpx2.HTTPError as error:
        raise HubLost(f"{url} cannot be read: {reason(error)}. Try again later.") from error


def _check(
    repository: Repository, file: HubFile, response: httpx2.Response, wanted: tuple[int, int]
) -> None:
    """That what comes is of the file that was listed, from where it was asked for."""
    what = f"{file.name} of {repository.repo}"
    answers = [*response.history, response]
    for answer in answers:
        commit = answer.headers.get("X-Repo-Commit", repository.commit)
        if commit != repository.commit:
            raise _changed(what, f"commit {repository.commit}", f"commit {commit}")
    linked = [answer.headers.get("X-Linked-ETag") for answer in answers]
    # behind a redirect, an ETag is that of another server, which may count as it likes
    tags = [tag for tag in linked if tag] or ([] if response.history else [_etag(response)])
    for match in map(_HASH.fullmatch, tags):
        if match is not None and match[1] != file.content_id:
            raise _changed(what, f"hash {file.content_id}", f"hash {match[1]}")
    if response.status_code == 200 and wanted == (0, file.num_bytes):
        return  # who knows no ranges sends what is wanted, too
    found = re.fullmatch(
        r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", response.headers.get("Content-Range", "")
    )
    if response.status_code != 206 or found is None or int(found[1]) != wanted[0]:
        raise HubRefused(
            f"{constants.ENDPOINT} does not send parts of {what}, so it cannot be converted while "
            f"it is read. Download it first: appliance pull {repository.repo}"
        )
    if int(found[2]) != file.num_bytes:
        raise _changed(what, f"{file.num_bytes} bytes", f"{found[2]} bytes")


def _etag(response: httpx2.Response) -> str:
    return str(response.headers.get("ETag", ""))


def _changed(what: str, old: str, new: str) -> SourceChanged:
    return SourceChanged(
        f"{what} changed while it was read: the hub's list says {old}, and now it sends {new}. "
        "Convert it again from the beginning."
    )
