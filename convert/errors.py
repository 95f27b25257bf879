"""What a conversion refuses, and the exit code that says so.

Knows no part that raises these.

ConvertError                exit 1  our fault
├── ChildDied                       native code took a child down (child.py)
├── HubLost             exit 3  the connection to the hub was lost: the same again goes on
└── BadInput                exit 2  theirs: the message says what is wrong and the way out
    ├── MissingFile                 a file or tensor the checkpoint should have
    ├── DamagedCheckpoint           truncated shard, lying header, NaN
    ├── UnsupportedModel            an architecture, tokenizer or option that is not known here
    ├── HubRefused                  no such repository, not for us, or no checkpoint
    ├── SourceChanged               the repository is another than when it was begun
    ├── UnknownType                 no such quantization
    ├── Unrepresentable             weights too large for the type (quantize.py)
    ├── NotEnoughDisk               the outputs do not fit
    ├── NotEnoughMemory             --max-ram is too small for this checkpoint
    ├── VerificationFailed          the file tokenizes otherwise than the checkpoint
    ├── QualityFailed               the file predicts something else than the unquantized model
    └── Refused                     native code in a child refused what it was given (child.py)
"""

from __future__ import annotations

from typing import ClassVar


class ConvertError(Exception):
    """Base of everything raised on purpose by `convert`; `kind` names the class in
    `--json` output.
    """

    kind: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = 1


class HubLost(ConvertError):
    kind = "hub_lost"
    exit_code = 3


class BadInput(ConvertError):
    kind = "bad_input"
    exit_code = 2


class MissingFile(BadInput):
    kind = "missing_file"


class DamagedCheckpoint(BadInput):
    kind = "damaged_checkpoint"


class UnsupportedModel(BadInput):
    kind = "unsupported_model"


class HubRefused(BadInput):
    kind = "hub_refused"


class SourceChanged(BadInput):
    kind = "source_changed"


class UnknownType(BadInput):
    kind = "unknown_type"


class NotEnoughDisk(BadInput):
    kind = "not_enough_disk"


class NotEnoughMemory(BadInput):
    kind = "not_enough_memory"


class VerificationFailed(BadInput):
    kind = "verification_failed"


class QualityFailed(BadInput):
    kind = "quality_failed"
