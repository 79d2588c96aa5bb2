"""A configuration as text: its plain values, and what `--help` says of its keys."""

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml


def to_dict(config: Any) -> Any:
    """A config as plain YAML values: dataclasses become dicts, tuples lists, paths text."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_dict(value) for value in config]
    if isinstance(config, enum.Enum):
        return config.value
    return str(config) if isinstance(config, Path) else config


def describe(cls: type) -> str:
    """The text of `--help`: every key with its type, default and the comment beside it in the source."""
    title = (inspect.getdoc(cls) or cls.__name__).splitlines()[0]
    lines = [title, "", "--config FILE", "    YAML file with the keys below as nested sections", ""]
    for key, kind, default, comment in keys_of(cls, ""):
        lines.append(f"--{key} {name_of(kind)} {default}".rstrip())
        if comment:
            lines.append(f"    {comment}")
    return "\n".join(lines) + "\n"


def keys_of(cls: type, where: str) -> Iterator[tuple[str, Any, str, str]]:
    """(dotted key, type, default as text, comment) of every leaf; `N` stands for an index into a list."""
    hints = typing.get_type_hints(cls)
    comments = _comments(cls)
    for field in dataclasses.fields(cls):
        kind, name = hints[field.name], join(where, field.name)
        section, is_list = _section_of(kind)
        if section is not None:
            yield from keys_of(section, f"{name}.N" if is_list else name)
            continue
        default = "(required)"
        if field.default is not dataclasses.MISSING:
            shown = yaml.safe_dump(to_dict(field.default), default_flow_style=True).splitlines()[0]
            default = f"(default: {shown})"
        elif field.default_factory is not dataclasses.MISSING:
            default = f"(default: {to_dict(field.default_factory())})"
        yield name, kind, default, comments.get(field.name, "")


def _section_of(kind: Any) -> tuple[type | None, bool]:
    """(the dataclass inside `kind`, whether it is a list of them): X, X | None and tuple[X, ...] hold one."""
    if dataclasses.is_dataclass(kind):
        return typing.cast(type, kind), False
    origin = typing.get_origin(kind)
    for member in typing.get_args(kind):
        if origin in (typing.Union, types.UnionType, tuple, list) and member is not Ellipsis:
            section, is_list = _section_of(member)
            if section is not None:
                return section, is_list or origin in (tuple, list)
    return None, False


def _comments(cls: type) -> dict[str, str]:
    """{field: comment at the end of its line} from the source of a dataclass and its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            for match in re.finditer(r"^ +(\w+) *:[^#\n]*#\s*(.+)$", inspect.getsource(base), re.MULTILINE):
                found[match[1]] = match[2]
    return found


def name_of(kind: Any) -> str:
    """A type in words, for messages and `--help`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(name_of(member) for member in arguments)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if (origin or kind) in (tuple, list):
        members = [name_of(member) for member in arguments if member is not Ellipsis]
        return f"list of {', '.join(members)}" if members else "list"
    if (origin or kind) is dict:
        return "section of key: value"
    if kind is types.NoneType:
        return "null"
    if dataclasses.is_dataclass(kind):
        return f"section with the keys {', '.join(field.name for field in dataclasses.fields(kind))}"
    return {str: "text", Path: "path", bool: "true or false"}.get(kind, getattr(kind, "__name__", str(kind)))


def join(where: str, name: str) -> str:
    """The dotted key of a name below another key."""
    return f"{where}.{name}" if where else name
