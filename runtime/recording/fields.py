"""Frozen records as JSON and back, every field checked against its annotation.

A record is a dataclass of numbers, texts, tuples, mappings by text and other records; a `Rule` stands as its text. What
comes from a file is refused with the name of the field. Knows nothing about what the records mean.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lenses.errors import ConfigError
from lenses.text import quoted
from runtime.rules import Rule

R = TypeVar("R")
_MOST = 2**63
"""Counts and ids are smaller, seeds smaller than twice this."""


class FieldError(Exception):
    """A field is not what it is to be; the message begins with its name."""


def to_json(value: Any) -> Any:
    """A record, or what may stand in one, as a value for JSON."""
    if isinstance(value, Rule):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, list | tuple) else value


def of_json(kind: type[R], value: Any, name: str) -> R:
    """The record of this class that a value from JSON describes; raises FieldError."""
    found: R = _of_json(kind, value, name)
    return found


def _of_json(kind: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, name)
    if origin is Literal:
        _require(isinstance(value, str) and value in arguments, value, name, " or ".join(map(str, arguments)))
        return value
    if origin is tuple:
        return _tuple(arguments, value, name)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _require(isinstance(value, dict), value, name, "an object")
        keys, items = arguments
        return {_of_json(keys, key, name): _of_json(items, value[key], f"{name}.{key}") for key in value}
    if kind is Rule:
        return _rule(value, name)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, name)
    if kind is float:
        _require(type(value) in (int, float), value, name, "a number")
        return float(value)
    _require(
        type(value) is kind, value, name, {int: "a whole number", str: "a text"}.get(kind, "true or false")
    )
    _require(kind is not int or -_MOST <= value < 2 * _MOST, value, name, "a smaller number")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    refused: FieldError | None = None
    for kind in kinds:
        if kind is not type(None):
            try:
                return _of_json(kind, value, name)
            except FieldError as error:
                refused = refused or error
    assert refused is not None
    raise refused


def _tuple(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    _require(isinstance(value, list), value, name, "a list")
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    _require(len(value) == len(kinds), value, name, f"a list of {len(kinds)}")
    return tuple(
        _of_json(kind, item, f"{name}[{at}]")
        for at, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _rule(value: Any, name: str) -> Rule:
    _require(isinstance(value, str), value, name, "the text of a rule")
    try:
        return Rule.parse(value)
    except ConfigError as error:
        raise FieldError(f"{name}: {error}") from error


def _record(kind: Any, value: Any, name: str) -> Any:
    hints = get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]
    _require(isinstance(value, dict) and value.keys() == set(fields), value, name, f"{', '.join(fields)}")
    try:
        return kind(**{field: _of_json(hints[field], value[field], f"{name}.{field}") for field in fields})
    except ConfigError as error:
        raise FieldError(f"{name}: {error}") from error


def _require(holds: bool, value: Any, name: str, expected: str) -> None:
    if not holds:
        raise FieldError(f"{name} is {quoted(value)}, expected {expected}")
