"""The exception tree: what can go wrong,
and which HTTP status, code and exit code it becomes.

Knows no part of the appliance that raises these, and no wire format that shows them.

    ApplianceError                      500 internal_error
    ├── BadRequest                      400 invalid_request
    │   ├── BadKey                      400 bad_key             exit 2
    │   ├── PreviousResponseNotFound    400 previous_response_not_found
    │   ├── PromptTooLong               400 context_length_exceeded
    │   ├── RequestAtFault              400 request_at_fault
    │   └── TemplateFailed              400 chat_template_error
    ├── Unauthorized                    401 invalid_api_key
    ├── NotAllowed                      403 not_allowed
    ├── ForeignHost                     403 foreign_host
    ├── ForeignOrigin                   403 foreign_origin
    ├── ModelNotFound                   404 model_not_found
    ├── NotFound                        404 not_found           exit 2
    ├── HeadTooSlow                     408 head_too_slow
    ├── BodyTooSlow                     408 body_too_slow
    ├── BodyTooLarge                    413 body_too_large
    ├── KeyExists                       409 key_exists          exit 2
    ├── StreamGone                      410 stream_gone
    ├── UnknownCoding                   415 unknown_coding
    ├── HeadTooLarge                    431 head_too_large
    ├── QueueFull                       429 queue_full
    │   └── RateLimited                 429 rate_limit_exceeded
    ├── Unavailable                     503 unavailable
    │   ├── MemoryPressure              503 memory_pressure
    │   ├── ModelLoading                503 model_loading
    │   ├── ModelNotReady               503 model_not_ready
    │   ├── ModelUnavailable            503 model_unavailable
    │   ├── WorkerLost                  503 worker_lost
    │   │   └── HelperLost              503 helper_lost
    │   └── ShuttingDown                503 shutting_down
    ├── SlowReader                      503 slow_reader
    ├── TimeIsUp                        504 request_timeout
    ├── StorageFailed                   500 storage_failed
    │   ├── StorageBusy                 503 storage_busy
    │   └── StorageFull                 507 storage_full
    ├── DecodeFailed                    500 decode_failed
    │   └── ConstraintFailed            400 constraint_failed
    └── SetupError                      500 setup_error         exit 2
        ├── BadSettings                 500 bad_settings        exit 2
        ├── BadDatabase                 500 bad_database        exit 2
        ├── BadModelFile                500 bad_model_file      exit 2
        ├── ConversionFailed            500 conversion_failed   exit 1
        ├── PullFailed                  500 pull_failed         exit 1
        ├── LoadFailed                  500 load_failed         exit 1
        ├── NoUsableCpuPath             500 no_usable_cpu_path  exit 1
        └── NothingFits                 500 nothing_fits        exit 3
"""

from __future__ import annotations

import math

from appliance.error_base import ApplianceError as ApplianceError
from appliance.error_base import ErrorRecord as ErrorRecord
from appliance.error_base import PromptSize as PromptSize
from appliance.error_base import from_record as from_record


class BadRequest(ApplianceError):
    """The request itself is wrong; `param` names the field."""

    status = 400
    code = "invalid_request"


class BadKey(BadRequest):
    """No API key can be made or changed like this."""

    code = "bad_key"
    exit_code = 2


class PreviousResponseNotFound(BadRequest):
    """The response that a request continues is not stored, or is another caller's."""

    code = "previous_response_not_found"


class PromptTooLong(BadRequest):
    """The prompt leaves no room for a single new token in the context.

    Agents shorten a conversation when they recognise the words: "maximum context length
    is N tokens" and "reduce the length of the messages" (OpenAI's, vLLM's, Groq's). The
    first number behind the limit is that of the tokens sent: some read it from there.
    """

    code = "context_length_exceeded"

    @classmethod
    def of(cls, num_prompt_tokens: int, limit: int) -> PromptTooLong:
        """`limit`: the most tokens that a prompt can have, one less than the context."""
        return cls.because(
            f"the prompt has {num_prompt_tokens} tokens, and at most {limit} fit, for an answer "
            "needs at least one. Please reduce the length of the messages or of the prompt, or "
            "serve with a larger --ctx.",
            PromptSize(num_prompt_tokens, limit + 1),
        )

    @classmethod
    def because(cls, reason: str, size: PromptSize) -> PromptTooLong:
        """`reason` reads after "However, ..."."""
        error = cls(f"This model's maximum context length is {size.ctx} tokens. However, {reason}")
        error.prompt_size = size
        return error


class RequestAtFault(BadRequest):
    """The worker died of this request, as it seems: twice."""

    code = "request_at_fault"


class TemplateFailed(BadRequest):
    """The model's chat template refused the messages, or the model has none."""

    code = "chat_template_error"


class Unauthorized(ApplianceError):
    status = 401
    code = "invalid_api_key"


class NotAllowed(ApplianceError):
    """The server was told not to let clients do this."""

    status = 403
    code = "not_allowed"


class ForeignHost(ApplianceError):
    """The request names a host that is not this server."""

    status = 403
    code = "foreign_host"


class ForeignOrigin(ApplianceError):
    """The request comes from a web page that may not use this server."""

    status = 403
    code = "foreign_origin"


class ModelNotFound(ApplianceError):
    status = 404
    code = "model_not_found"


class NotFound(ApplianceError):
    """What was asked for by its id is not there, or is another caller's."""

    status = 404
    code = "not_found"
    exit_code = 2


class KeyExists(ApplianceError):
    """An API key has this name already, or had it."""

    status = 409
    code = "key_exists"
    exit_code = 2


class HeadTooSlow(ApplianceError):
    """The client did not finish sending the head of its request in time."""

    status = 408
    code = "head_too_slow"


class HeadTooLarge(ApplianceError):
    status = 431
    code = "head_too_large"


class BodyTooSlow(ApplianceError):
    """The client did not finish sending the body of its request in time."""

    status = 408
    code = "body_too_slow"


class BodyTooLarge(ApplianceError):
    status = 413
    code = "body_too_large"


class UnknownCoding(ApplianceError):
    """The body is packed in a way that nobody here unpacks."""

    status = 415
    code = "unknown_coding"


class StreamGone(ApplianceError):
    """Nothing is left of the stream that a client came back to."""

    status = 410
    code = "stream_gone"

    @classmethod
    def unknown(cls) -> StreamGone:
        """Whether there never was such a stream, or it is somebody else's, is not told."""
        return cls(
            "There is no stream to go on with: it was interrupted too long ago, or is not known "
            "here. Send the request without the header 'Last-Event-ID' to begin anew."
        )


class QueueFull(ApplianceError):
    """The queue is full; the same request may be accepted later."""

    status = 429
    code = "queue_full"


class RateLimited(QueueFull):
    """The caller has used what its key may use for now."""

    code = "rate_limit_exceeded"

    @classmethod
    def after(cls, wait_s: float, reason: str) -> RateLimited:
        """`reason`: a sentence."""
        error = cls(f"{reason} Try again in {max(1, math.ceil(wait_s))} s.")
        error.retry_after_s = max(1, math.ceil(wait_s))
        return error


class Unavailable(ApplianceError):
    status = 503
    code = "unavailable"


class MemoryPressure(Unavailable):
    """The prompt is too long while the machine is short of memory."""

    code = "memory_pressure"
    retry_after_s = 20

    @classmethod
    def of(cls, num_new_tokens: int, limit: int, reason: str) -> MemoryPressure:
        return cls(
            f"Memory is short ({reason}), so a prompt may add at most {limit} tokens that are not "
            f"in the KV cache yet, and this one adds {num_new_tokens}. Shorten it or try again "
            "later. To prevent this, serve with a smaller --ctx, --slots or --ram, or stop other "
            "programs that use memory on this machine."
        )


class ModelLoading(Unavailable):
    """Still, and its queue is full or this request has waited as long as it may."""

    code = "model_loading"
    retry_after_s = 10


class ModelNotReady(Unavailable):
    code = "model_not_ready"


class ModelUnavailable(Unavailable):
    """The model could not be loaded; the next attempt is not before `retry_after_s`."""

    code = "model_unavailable"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class WorkerLost(Unavailable):
    """The worker process died with this request in flight."""

    code = "worker_lost"


class HelperLost(WorkerLost):  # with a machine that computed some of the model's layers
    code = "helper_lost"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class SlowReader(ApplianceError):
    """The client read its answer so slowly
    that the limit on unread events was reached.
    """

    status = 503
    code = "slow_reader"


class TimeIsUp(ApplianceError):
    """The request was not complete within the time that it had."""

    status = 504
    code = "request_timeout"


class StorageFailed(ApplianceError):
    """What the server keeps on disk could not be read or written."""

    code = "storage_failed"


class StorageBusy(StorageFailed):
    """Another process has kept the file to itself for too long."""

    status = 503
    code = "storage_busy"
    retry_after_s = 5


class StorageFull(StorageFailed):
    status = 507
    code = "storage_full"


class DecodeFailed(ApplianceError):
    """llama.cpp reported an error for a batch that should have worked."""

    code = "decode_failed"


class CacheFull(DecodeFailed):
    """llama.cpp found no cells for a batch, and computed nothing of it."""


class ConstraintFailed(DecodeFailed):
    """The answer can no longer satisfy the format
    that its request asks for, and ends there.
    """

    status = 400
    code = "constraint_failed"


class SetupError(ApplianceError):
    """The appliance cannot start as asked."""

    code = "setup_error"
    exit_code = 2


class BadSettings(SetupError):
    code = "bad_settings"


class BadDatabase(SetupError):
    """A file of the state folder is damaged, or of a newer version of this program."""

    code = "bad_database"


class BadModelFile(SetupError):
    code = "bad_model_file"


class ConversionFailed(SetupError):
    """A checkpoint could not be converted, although it may be sound."""

    code = "conversion_failed"
    exit_code = 1


class PullFailed(SetupError):
    """A repository could not be downloaded from its hub, although it may be sound."""

    code = "pull_failed"
    exit_code = 1


class LoadFailed(SetupError):  # llama.cpp refused a model or a context
    code = "load_failed"
    exit_code = 1


class AdapterFailed(LoadFailed):  # which its model is not to blame for
    code = "adapter_failed"


class NoUsableCpuPath(SetupError):
    code = "no_usable_cpu_path"
    exit_code = 1


class NothingFits(SetupError):
    code = "nothing_fits"
    exit_code = 3
