"""A form with a file in it (multipart/form-data, RFC 7578), as it comes.

Knows no field by name and keeps nothing of the file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from appliance.errors import BadRequest, BodyTooLarge

MULTIPART = "multipart/form-data"
_MAX_PARTS = 32
_MAX_FIELD_BYTES = 4096
_MAX_OTHER_BYTES = 256 << 10  # of a body, beside its file


@dataclass
class Form:
    """All but the file's bytes."""

    fields: dict[str, str] = field(default_factory=dict)
    file_name: str | None = None  # None: no file came


async def read_form(
    parts: AsyncIterator[bytes],
    content_type: str,
    file_field: str,
    write: Callable[[bytes], Awaitable[None]],
) -> Form:
    """`write` gets the bytes of the part called `file_field`, in its order.

    Raises `BadRequest` for what is no such form, `BodyTooLarge` for one with more than
    some fields beside the file, and what `write` raises.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != MULTIPART.encode() or not boundary:
        raise BadRequest(
            "A file is sent as a form, with the header 'Content-Type: multipart/form-data; "
            "boundary=...'."
        )
    reading = _Reading(file_field)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": reading.begin_part,
            "on_header_field": reading.header_name,
            "on_header_value": reading.header_value,
            "on_header_end": reading.end_header,
            "on_headers_finished": reading.begin_data,
            "on_part_data": reading.data,
            "on_part_end": reading.end_part,
            "on_end": reading.end,
        },
    )
    num_others = 0
    async for part in parts:
        try:
            parser.write(part)
        except FormParserError as error:
            raise BadRequest(f"The form cannot be read: {error}.") from error
        file_bytes = reading.take_file_bytes()
        num_others += len(part) - len(file_bytes)
        if num_others > _MAX_OTHER_BYTES:
            raise BodyTooLarge(
                f"The form has more than {_MAX_OTHER_BYTES} bytes beside its file, which is the "
                "most that is taken."
            )
        if file_bytes:
            await write(file_bytes)
    if not reading.is_ended:
        raise BadRequest("The form ends before its last boundary: it is not whole.")
    return reading.form


class _Reading:
    """What the parser calls."""

    def __init__(self, file_field: str) -> None:
        self.form = Form()
        self.is_ended = False
        self._file_field = file_field
        self._num_parts = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = ""
        self._name = ""  # of the part
        self._value = bytearray()
        self._is_file = False
        self._file_bytes = bytearray()

    def take_file_bytes(self) -> bytes:
        taken = bytes(self._file_bytes)
        self._file_bytes.clear()
        return taken

    def begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > _MAX_PARTS:
            raise BadRequest(f"A form may have {_MAX_PARTS} parts, and this one has more.")
        self._disposition, self._name, self._is_file = "", "", False
        self._value.clear()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value.decode("utf-8", errors="replace")
        self._header_name.clear()
        self._header_value.clear()

    def begin_data(self) -> None:
        # the parser's own reading of it knows Latin-1 only
        shown = self._disposition.encode().decode("latin-1")
        _, options = parse_options_header(shown)
        self._name = _text(options.get(b"name", b""))
        if self._name == self._file_field:
            if self.form.file_name is not None:
                raise BadRequest(f"The form has two parts called '{self._file_field}': send one.")
            self.form.file_name = _text(options.get(b"filename", b""))
            self._is_file = True

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file_bytes += data[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise BadRequest(
                f"A field of a form may have {_MAX_FIELD_BYTES} bytes, and '{self._name[:100]}' "
                "has more."
            )

    def end_part(self) -> None:
        if not self._is_file:
            self.form.fields[self._name] = _text(bytes(self._value))

    def end(self) -> None:
        self.is_ended = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")
