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
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import (
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    http_stream_backoff,
)

from appliance import __version__
from appliance.errors import BadSettings, PullFailed
from appliance.store.other_hubs import modelscope

FIRST_RETRY_S = 1.0  # after a status that says try again; doubled each time
# The connection is at fault, or the hub's end of it: asking again may help.
TRANSIENT_ERRORS = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)

_SHA1, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
_MAX_NAME_BYTES = 255  # of a part, as file systems have it
_MAX_DEPTH = 4
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')


@dataclass(frozen=True)
class HubFile:
    """A file as its hub describes it."""

    name: str  # its path in the repository
    num_bytes: int
    sha256: str | None  # of its content, where Git LFS keeps it
    git_sha1: str  # without a `sha256`, of its content as a git blob

    @property
    def content_id(self) -> str:
        return self.sha256 or self.git_sha1


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    id: str
    commit: str
    files: tuple[HubFile, ...]  # those with a safe name and a checksum
    num_left_out: int = 0  # the others
    # at a hub that has no commits of a whole repository, what was asked for in its place
    branch: str | None = None

    def find(self, name: str) -> HubFile | None:
        return next((file for file in self.files if file.name == name), None)


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
    if urlsplit(_endpoint()).scheme not in ("http", "https"):
        raise BadSettings(
            f"{_variable()} must begin with http:// or https:// (got {_endpoint()!r})."
        )
    try:
        if modelscope.ENDPOINT:
            return _list_of_modelscope(repo, revision)
        with _as_our_errors(repo):
            info = HfApi(library_name="appliance", library_version=__version__).model_info(
                repo,
                revision=revision,
                files_metadata=True,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            )
        return _repository(repo, info)
    except (ValueError, KeyError, TypeError, AttributeError, httpx2.InvalidURL) as error:
        raise PullFailed(
            f"{_endpoint()} did not return a valid list of the files of {repo}: {error}. "
            f"Check {_variable()}, or try again later."
        ) from error


def _list_of_modelscope(repo: str, revision: str | None) -> Repository:
    # the branch that is called main on a hub of Hugging Face's kind
    branch = None if revision == constants.DEFAULT_REVISION else revision
    with _as_our_errors(repo):
        response = get_session().get(
            modelscope.list_url(repo, branch),
            headers=_headers(),
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
        and _is_hash(_SHA256, file.sha256)
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
    headers = _headers()
    headers["Accept-Encoding"] = "identity"  # ranges and sizes are of the file itself
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    url = _url(repository, file)
    with (
        _as_our_errors(repository.id, file.name),
        http_stream_backoff(
            "GET",
            url,
            headers=headers,
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


def _headers() -> dict[str, str]:
    """With the token, if there is one; it is for Hugging Face's kind of hub only."""
    token = False if modelscope.ENDPOINT else None
    return build_hf_headers(token=token, library_name="appliance", library_version=__version__)


def _endpoint() -> str:
    return modelscope.ENDPOINT or constants.ENDPOINT


def _variable() -> str:
    """That says where the hub is."""
    return "MODELSCOPE_ENDPOINT" if modelscope.ENDPOINT else "HF_ENDPOINT"


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


def lost(repository: Repository, file: HubFile, error: Exception) -> PullFailed:
    """The connection was lost, and asking again did not help."""
    return PullFailed(
        f"The download of {file.name} of {repository.id} from {_endpoint()} stopped: "
        f"{_reason(error)}. Check the network and try again; what has been downloaded so far is "
        "kept."
    )


def is_safe_name(name: str) -> bool:
    """Whether a hub's name for a file is a plain path below its repository: nothing
    hidden, no way up, no odd sign.
    """
    parts = name.split("/")
    return len(parts) <= _MAX_DEPTH and all(
        part
        and not part.startswith((".", " "))
        and not part.endswith((".", " "))
        and _is_plain(part)
        for part in parts
    )


def _is_plain(part: str) -> bool:
    return (
        part.isprintable()
        and _NOT_IN_NAMES.search(part) is None
        and len(part.encode()) <= _MAX_NAME_BYTES
    )


def _repository(repo: str, info: ModelInfo) -> Repository:
    if not isinstance(info.sha, str) or _SHA1.fullmatch(info.sha) is None:
        raise PullFailed(
            f"{_endpoint()} reports an invalid commit for {repo} ({info.sha!r}). Try again later."
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
    if (
        not isinstance(sibling.size, int)
        or sibling.size < 0
        or not _is_hash(_SHA1, sibling.blob_id)
    ):
        return None
    if sibling.lfs is not None and not _is_hash(_SHA256, sha256):
        return None
    return HubFile(sibling.rfilename, sibling.size, sha256, str(sibling.blob_id))


def _is_hash(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _start(response: httpx2.Response, asked: int) -> int:
    """Where the body begins: 0 where the hub knows no ranges."""
    if response.status_code != 206:
        return 0
    match = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    start = int(match[1]) if match else -1
    if start != asked:
        raise PullFailed(
            f"{_endpoint()} sent another range of bytes than requested. Try again later."
        )
    return start


@contextlib.contextmanager
def _as_our_errors(repo: str, name: str | None = None) -> Iterator[None]:
    """Turns what huggingface_hub raises into our errors; what is transient passes where
    a file is read.
    """
    what = repo if name is None else f"{name} of {repo}"
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise PullFailed(
            f"{what} has not been downloaded yet, and HF_HUB_OFFLINE is set. Unset it, or pull "
            "where there is a network."
        ) from error
    except GatedRepoError as error:
        raise _not_allowed(repo, "requires its terms to be accepted first") from error
    except RepositoryNotFoundError as error:
        raise _not_there(repo) from error
    except HfHubHTTPError as error:
        raise _refused(repo, what, error) from error
    except TRANSIENT_ERRORS as error:
        if name is not None:
            raise
        raise PullFailed(
            f"{_endpoint()} cannot be reached ({_reason(error)}), and {repo} has not been "
            f"downloaded yet. Check the network, {_variable()} and the proxy settings."
        ) from error
    except httpx2.HTTPError as error:
        raise PullFailed(
            f"{_endpoint()} cannot be asked for {what}: {_reason(error)}. Check the network "
            f"and {_variable()}."
        ) from error


def _refused(repo: str, what: str, error: HfHubHTTPError) -> BadSettings | PullFailed:
    status = error.response.status_code
    if status == 401 or (status == 404 and what == repo):
        return _not_there(repo)
    if status == 403:
        return _not_allowed(
            repo,
            "cannot be read with this token" if _has_token() else "is not public",
        )
    if status == 404:
        return PullFailed(f"{_endpoint()} lists {what} but cannot find it. Try again later.")
    if status == 416:
        return PullFailed(
            f"{what} is shorter than {_endpoint()} says. Try again later, or choose another "
            "repository."
        )
    return PullFailed(f"{_endpoint()} returned HTTP status {status} for {what}. Try again later.")


def _not_there(repo: str) -> BadSettings:
    way = (
        "If it is private, check that your token has access to it"
        if _has_token()
        else "If it is private, set HF_TOKEN"
    )
    return BadSettings(
        f"There is no file, directory or known model {repo}, and {_endpoint()} shows no "
        f"repository of that name. Check the spelling. {way}."
    )


def _not_allowed(repo: str, why: str) -> BadSettings:
    way = (
        "with the account that your token belongs to"
        if _has_token()
        else "and set HF_TOKEN to a token of your account"
    )
    return BadSettings(f"{repo} {why}. Request access at {_endpoint()}/{repo} {way}.")


def _has_token() -> bool:
    return "authorization" in _headers()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
