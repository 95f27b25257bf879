"""What a hub or the network answers instead of files, as our errors with the way out.

Asks nobody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from appliance.errors import BadSettings, PullFailed
from appliance.store.hub.address import endpoint, headers, variable
from appliance.store.hub.records import HubFile, Repository

# The connection is at fault, or the hub's end of it: asking again may help.
TRANSIENT_ERRORS = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


def lost(repository: Repository, file: HubFile, error: Exception) -> PullFailed:
    """The connection was lost, and asking again did not help."""
    return PullFailed(
        f"The download of {file.name} of {repository.id} from {endpoint()} stopped: "
        f"{_reason(error)}. Check the network and try again; what has been downloaded so far is "
        "kept."
    )


@contextlib.contextmanager
def as_our_errors(
    repo: str, name: str | None = None, *, revision: str | None = None
) -> Iterator[None]:
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
    except RevisionNotFoundError as error:
        raise BadSettings(
            f"{repo} has no revision {revision} at {endpoint()}. 'appliance pull {repo}' takes "
            "the newest."
        ) from error
    except RepositoryNotFoundError as error:
        raise _not_there(repo) from error
    except HfHubHTTPError as error:
        raise _refused(repo, what, error) from error
    except TRANSIENT_ERRORS as error:
        if name is not None:
            raise
        raise PullFailed(
            f"{endpoint()} cannot be reached ({_reason(error)}), and {repo} has not been "
            f"downloaded yet. Check the network, {variable()} and the proxy settings."
        ) from error
    except httpx2.HTTPError as error:
        raise PullFailed(
            f"{endpoint()} cannot be asked for {what}: {_reason(error)}. Check the network "
            f"and {variable()}."
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
        return PullFailed(f"{endpoint()} lists {what} but cannot find it. Try again later.")
    if status == 416:
        return PullFailed(
            f"{what} is shorter than {endpoint()} says. Try again later, or choose another "
            "repository."
        )
    return PullFailed(f"{endpoint()} returned HTTP status {status} for {what}. Try again later.")


def _not_there(repo: str) -> BadSettings:
    way = (
        "If it is private, check that your token has access to it"
        if _has_token()
        else "If it is private, set HF_TOKEN"
    )
    return BadSettings(
        f"There is no file, directory or known model {repo}, and {endpoint()} shows no "
        f"repository of that name. Check the spelling. {way}."
    )


def _not_allowed(repo: str, why: str) -> BadSettings:
    way = (
        "with the account that your token belongs to"
        if _has_token()
        else "and set HF_TOKEN to a token of your account"
    )
    return BadSettings(f"{repo} {why}. Request access at {endpoint()}/{repo} {way}.")


def _has_token() -> bool:
    return "authorization" in headers()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
