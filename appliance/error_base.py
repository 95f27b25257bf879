"""What every error of the appliance has, and what of it crosses processes.

Knows none of them: they are in `appliance.errors`, by which everybody else names these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class PromptSize:
    """Of a prompt that does not fit, for programs that shorten it."""

    num_tokens: int  # at least; a text that cannot fit is not tokenized
    ctx: int  # tokens of prompt and answer together


@dataclass(frozen=True)
class ErrorRecord:
    """An error as it crosses a process boundary."""

    code: str  # of the class
    message: str
    param: str | None = None  # the offending field of the request
    prompt_size: PromptSize | None = None


class ApplianceError(Exception):
    """Base of every error raised on purpose;
    `str(error)` says what is wrong and the way out.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = 1
    retry_after_s: int | None = None  # None: what the status alone implies
    prompt_size: PromptSize | None = None  # where it is that which is wrong

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def record(self) -> ErrorRecord:
        return ErrorRecord(
            code=self.code, message=self.message, param=self.param, prompt_size=self.prompt_size
        )


def _walk(cls: type[ApplianceError]) -> dict[str, type[ApplianceError]]:
    """A class without a code of its own is its parent's where it crosses processes."""
    found = {cls.code: cls} if "code" in vars(cls) else {}
    for child in cls.__subclasses__():
        found.update(_walk(child))
    return found


def from_record(record: ErrorRecord) -> ApplianceError:
    """The exception that `record` describes;
    an unknown code becomes a plain `ApplianceError`.
    """
    error = _walk(ApplianceError).get(record.code, ApplianceError)(
        record.message, param=record.param
    )
    error.prompt_size = record.prompt_size
    return error
