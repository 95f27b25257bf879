"""What a repository on a hub has, at one commit.

Knows no checkpoint and reads no file.

Asked through huggingface_hub's own client, so that HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and
its timeouts mean here what they mean elsewhere. What a hub says is somebody's: names that are
no plain paths, and files without a size or a hash, are left out.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from convert.errors import HubLost, HubRefused
from convert.hub.names import HubName

# The connection is at fault, or the hub's end of it: asking again may help.
TRANSIENT_ERRORS = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
LIBRARY = "appliance-convert"
_PART = re.compile(r"[^\x00-\x1f\x7f\\/:*?\"<>|. ][^\x00-\x1f\x7f\\/:*?\"<>|]{0,200}")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class HubFile:
    """A file as its hub describes it."""

    name: str  # its path in the repository
    num_bytes: int
    content_id: str  # SHA-256 where Git LFS keeps it, else git's SHA-1 of it


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]


def read_repository(name: HubName) -> Repository:
    """Asks the hub for its list of files.

    Raises `HubRefused` where there is no such repository or we may not see it, `HubLost` where
    the hub cannot be reached.
    """
    with as_our_errors(name.repo, name.revision):
        info = HfApi(library_name=LIBRARY).model_info(
            name.repo,
            revision=name.revision,
            files_metadata=True,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
    commit = info.sha
    if not isinstance(commit, str) or not _HASH.fullmatch(commit):
        raise HubRefused(
            f"{constants.ENDPOINT} names no commit of {name.repo} (got {commit!r}), without which "
            "nobody can tell whether it changes while it is read. Download it first: appliance "
            f"pull {name.repo}"
        )
    files = tuple(file for file in map(_file, info.siblings or []) if file is not None)
    return Repository(name.repo, commit, files)


def _file(sibling: RepoSibling) -> HubFile | None:
    name, num_bytes = sibling.rfilename, sibling.size
    content_id = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
    is_plain = isinstance(name, str) and all(_PART.fullmatch(part) for part in name.split("/"))
    is_known = isinstance(content_id, str) and _HASH.fullmatch(content_id) is not None
    if not is_plain or not is_known or not isinstance(num_bytes, int) or num_bytes < 0:
        return None
    return HubFile(name, num_bytes, str(content_id))


@contextlib.contextmanager
def as_our_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns what huggingface_hub raises into our errors; `TRANSIENT_ERRORS` become `HubLost`."""
    where = constants.ENDPOINT
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubRefused(f"{repo} is on a hub, and HF_HUB_OFFLINE is set. Unset it.") from error
    except GatedRepoError as error:
        raise HubRefused(
            f"{repo} requires its terms to be accepted first. Do so at {where}/{repo}, and set "
            "HF_TOKEN to a token of that account."
        ) from error
    except RevisionNotFoundError as error:
        raise HubRefused(
            f"{repo} has no revision {revision} at {where}. Without it, the newest is taken."
        ) from error
    except RepositoryNotFoundError as error:
        raise HubRefused(
            f"There is no folder {repo}, and {where} shows no repository of that name. Check the "
            "spelling; if it is private, set HF_TOKEN to a token that may see it."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubRefused(
                f"{where} does not show {repo} to us (HTTP status {status}). Set HF_TOKEN to a "
                "token that may see it."
            ) from error
        raise HubLost(
            f"{where} returned HTTP status {status} for {repo}. Try again later."
        ) from error
    except httpx2.HTTPError as error:
        raise HubLost(
            f"{where} cannot be reached ({reason(error)}). Check the network and HF_ENDPOINT."
        ) from error


def reason(error: Exception) -> str:
    return str(error) or type(error).__name__
