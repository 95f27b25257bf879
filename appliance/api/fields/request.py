"""The bases of all request bodies, and how what they hold is read. Knows no field of any.

Null means absent everywhere, and a whole number may be written as a float; nothing else
is converted: `"0.5"` is not a number and `1` not a boolean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

MAX_INT32 = 2**31 - 1
TokenId = Annotated[int, Field(ge=0, le=MAX_INT32)]
TokenCount = Annotated[int, Field(ge=1, le=MAX_INT32)]


class RequestModel(BaseModel):
    """Base of all request bodies: NaN, infinities and unknown fields are refused.

    What is unknown in a body itself is taken off before, unless the server or the body is
    to be strict: see `appliance.api.transport.body`.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True
    )

    # of a body: fields that hold parameters too, of which unknown ones are taken off alike
    nested_parameters: ClassVar[Mapping[str, type[RequestModel]]] = MappingProxyType({})
    # of a body: what is unknown is refused always, for who misspells it has asked for less
    refuses_unknown: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: object) -> object:
        return _read_fields(cls, data) if isinstance(data, dict) else data


class LabelledModel(RequestModel):
    """Part of a body in which clients leave labels of their own, which change nothing:
    what is unknown is dropped.
    """

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True)
class _Names:
    by_sent: Mapping[str, str]  # every name that may be sent -> its field's
    of_whole_numbers: frozenset[str]  # the sent names whose field takes integers only


@cache
def names_of(model: type[BaseModel]) -> _Names:
    """The names by which a model's fields may be sent."""
    by_sent = {}
    whole = set()
    for name, field in model.model_fields.items():
        alias = field.validation_alias or field.alias or name
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        sent = [choice for choice in choices if isinstance(choice, str)]
        by_sent.update(dict.fromkeys(sent, name))
        kinds = {*_kinds(field.annotation)}
        if int in kinds and float not in kinds:
            whole.update(sent)
    return _Names(by_sent, frozenset(whole))


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that a value, or an item of a list, may have."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (Union, UnionType, list):
        for each in get_args(annotation):
            yield from _kinds(each)
    else:
        yield annotation


def _read_fields(model: type[RequestModel], data: Mapping[str, Any]) -> dict[str, Any]:
    names = names_of(model)
    keeps_unknown = model.model_config.get("extra") == "forbid"
    read: dict[str, Any] = {}
    sent_as: dict[str, str] = {}
    for name, value in data.items():
        if value is None:
            continue
        field = names.by_sent.get(name)
        if field is None:
            # One complaint is enough: a million unknown fields would cost gigabytes of them.
            if keeps_unknown:
                read[name] = value
                keeps_unknown = False
            continue
        other = sent_as.setdefault(field, name)
        if other == name:
            read[name] = _whole(value) if name in names.of_whole_numbers else value
        elif read[other] != value:
            raise _named_twice(name, other)
    return read


def _whole(value: Any) -> Any:
    """JSON does not tell 7.0 from 7, and some clients write all their numbers so."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list) and not {*map(type, value)}.isdisjoint((float, list)):
        return [_whole(each) for each in value]
    return value


def _named_twice(name: str, other: str) -> ValidationError:
    error = PydanticCustomError(
        "invalid_value",
        "'{other}' is another name of this parameter: send only one of them.",
        {"other": other},
    )
    return ValidationError.from_exception_data(
        "request", [InitErrorDetails(type=error, loc=(name,), input=None)]
    )
