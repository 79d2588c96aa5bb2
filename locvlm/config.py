"""One YAML file and overrides on the command line, read strictly into frozen dataclasses.

    train/stage2.py --config train/configs/demo_stage2.yaml --training.learning_rate 1e-5 --data.flip=true

Reading is strict where YAML is not: an unknown key is an error that names the nearest known one; `true` is no
number and `1` no truth value; `1e-5`, which YAML reads as text, becomes a float where the field is one and is
refused everywhere else; a key given twice is an error. `extends: other.yaml` merges the file over another one
(sections are merged key by key, lists are replaced).
"""

import dataclasses
import difflib
import enum
import re
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from locvlm.config_text import describe, join, keys_of, name_of, to_dict

T = TypeVar("T")

_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LAUNCHER_ARGUMENTS = ("--local_rank", "--local-rank")  # deepspeed and old torch launchers add one


class _CommandLineText(str):
    """The text of an override; what it means depends on the field it is for."""

    __slots__ = ()


def load_config(cls: type[T], argv: Sequence[str] | None = None) -> T:
    """An instance of `cls` from `--config file.yaml` and `--a.b value` or `--a.b=value` arguments.

    Args:
        cls: a dataclass of scalars, Path, Literal, dataclasses, tuples of these, and dict[str, Any].
        argv: arguments without the program's name; those of this process by default.

    Raises:
        ValueError: naming the key, what was found there, what is expected and the nearest known key.
        SystemExit: after `--help`, which lists every key with its type, default and comment.
    """
    config_path, overrides = _split_arguments(sys.argv[1:] if argv is None else list(argv), cls)
    raw = read_yaml(config_path) if config_path else {}
    for key, text in overrides:
        _set_override(raw, key, _CommandLineText(text), cls)
    try:
        config: T = convert(cls, raw, "")
    except ValueError as error:
        raise ValueError(f"{config_path or 'command line'}: {error}") from error
    return config


def save_config(config: Any, path: str | Path) -> None:
    """Write the resolved config as YAML that `load_config` reads back to an equal one."""
    from locvlm.io import atomic_writer

    with atomic_writer(path) as file:
        yaml.safe_dump(to_dict(config), file, sort_keys=False, allow_unicode=True)


def read_declared(cls: type[T], path: Path) -> T:
    """What a YAML file declares: an instance of `cls`, whose `name`, if it has one, is the file's.

    Raises:
        ValueError: naming the file, for unknown keys, wrong types, what `cls` refuses, or another name.
    """
    try:
        declared: T = convert(cls, read_yaml(path), "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    name = getattr(declared, "name", path.stem)
    if name != path.stem:
        kind = cls.__name__.lower()
        raise ValueError(
            f"{path} declares {kind} {name!r}; name the file {name}.yaml or the {kind} {path.stem!r}"
        )
    return declared


# ---- YAML files


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML keeps the last one in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node, with unique keys."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {key_node.value!r} is given twice; keep one")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path, _chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in a YAML file, merged over the file that its `extends` names (relative to it).

    Raises:
        ValueError: if the file is missing or not YAML, holds no mapping or a key twice, or extends itself.
    """
    path = Path(path)
    if path.resolve() in _chain:
        raise ValueError(f"{path}: 'extends' comes back to this file; remove it from one of them")
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except FileNotFoundError as error:
        raise ValueError(f"no config file {path}; give an existing one with --config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    raw = {} if loaded is None else loaded
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ValueError(f"{path}: expected 'key: value' lines at the top, got {type(raw).__name__}")
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise ValueError(f"{path}: extends must be the path of a yaml file, got {base!r}")
    return _merge(read_yaml(path.parent / base, (*_chain, path.resolve())), raw)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both_are_sections = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both_are_sections else value
    return merged


# ---- the command line


def _split_arguments(argv: list[str], cls: type) -> tuple[str | None, list[tuple[str, str]]]:
    """(path of the config file, [(dotted key, text)]) of the arguments."""
    if "--help" in argv or "-h" in argv:
        sys.stdout.write(describe(cls))
        raise SystemExit(0)
    config_path: str | None = None
    overrides: list[tuple[str, str]] = []
    rest = iter(argv)
    for argument in rest:
        if not argument.startswith("--") or argument == "--":
            raise ValueError(f"expected --config FILE or --section.key VALUE, got {argument!r}; see --help")
        name, equals, text = argument.partition("=")
        if not equals:
            following = next(rest, None)
            if following is None or following.startswith("--"):
                raise ValueError(
                    f"{name} needs a value; write {name} VALUE or {name}=VALUE (true and false too)"
                )
            text = following
        if name in _LAUNCHER_ARGUMENTS:
            continue
        if name == "--config":
            if config_path is not None:
                raise ValueError(
                    f"--config is given twice ({config_path}, {text}); use 'extends' to combine files"
                )
            config_path = text
        else:
            overrides.append((name.removeprefix("--"), text))
    return config_path, overrides


def _set_override(raw: dict[str, Any], dotted: str, text: _CommandLineText, cls: type) -> None:
    """Put one override into the tree of raw values, in place."""
    *parents, last = dotted.split(".")
    node: Any = raw
    for depth, name in enumerate(parents):
        if isinstance(node, dict) and node.get(name) is None:
            node[name] = {}
        node = node[_index(node, name, dotted) if isinstance(node, list) else name]
        if not isinstance(node, dict | list):
            where = ".".join(parents[: depth + 1])
            raise ValueError(f"--{dotted}: {where} is {node!r} and has no keys; known: {_known(cls)}")
    node[_index(node, last, dotted) if isinstance(node, list) else last] = text


def _index(node: list[Any], name: str, dotted: str) -> int:
    if not name.isdecimal() or int(name) >= len(node):
        raise ValueError(
            f"--{dotted}: expected an index from 0 to {len(node) - 1} into the list, got {name!r}"
        )
    return int(name)


def _known(cls: type) -> str:
    return ", ".join(name for name, *_ in keys_of(cls, ""))


# ---- values


def convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as read from YAML, checked and converted to the type `kind`; `where` is its dotted key.

    Raises:
        ValueError: "data.num_workers must be int, got 'two' (text)".
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return convert(arguments[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(typing.cast(type, kind), value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where, kind)
    if kind is Any:
        return _resolve_text(value)
    if origin is Literal or (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        return _convert_choice(kind, value, where)
    if (origin or kind) in (tuple, list):
        return _convert_sequence(origin or kind, arguments, value, where, kind)
    if (origin or kind) is dict:
        return _convert_dict(arguments, value, where, kind)
    return _convert_scalar(kind, value, where)


def _convert_dataclass(cls: type, value: Any, where: str) -> Any:
    value = _resolve_text(value) if isinstance(value, _CommandLineText) else value
    if not isinstance(value, dict):
        raise _wrong_type(where, cls, value)
    hints = typing.get_type_hints(cls, include_extras=True)
    specs = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in value:
        if name not in specs:
            raise ValueError(_unknown_key(cls, name, where))
    values = {name: convert(hints[name], value[name], join(where, name)) for name in specs if name in value}
    for name, spec in specs.items():
        is_required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if is_required and name not in values:
            raise ValueError(
                f"{join(where, name)} is missing; it has no default, give a {name_of(hints[name])}"
            )
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def _convert_union(members: tuple[Any, ...], value: Any, where: str, kind: Any) -> Any:
    if isinstance(value, _CommandLineText):
        if types.NoneType in members and value.lower() in ("null", "none", "~"):
            return None
        members = tuple(sorted(members, key=lambda member: member is str))  # text fits anything: try it last
    elif type(value) in members:
        return value  # a value that is already right is not converted to a member that comes earlier
    errors = []
    for member in members:
        if member is types.NoneType:
            if value is None:
                return None
            continue
        try:
            return convert(member, value, where)
        except ValueError as error:
            errors.append(error)
    raise errors[0] if len(errors) == 1 and value is not None else _wrong_type(where, kind, value)


def _convert_choice(kind: Any, value: Any, where: str) -> Any:
    is_enum = typing.get_origin(kind) is not Literal
    choices = [(m.value, m) for m in kind] if is_enum else [(c, c) for c in typing.get_args(kind)]
    for choice, result in choices:
        is_equal = str(choice) == value if isinstance(value, _CommandLineText) else choice == value
        if value is result or (is_equal and (isinstance(value, str) or type(choice) is type(value))):
            return result
    nearest = difflib.get_close_matches(str(value), [str(choice) for choice, _ in choices], n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    known = ", ".join(repr(choice) for choice, _ in choices)
    raise ValueError(f"{where} must be one of {known}, got {_shown(value)}{hint}")


def _convert_sequence(kind: Any, arguments: tuple[Any, ...], value: Any, where: str, full: Any) -> Any:
    value = _resolve_text(value) if isinstance(value, _CommandLineText) else value
    if not isinstance(value, list | tuple):
        raise _wrong_type(where, full, value)
    is_open = kind is list or not arguments or arguments[-1] is Ellipsis
    if not is_open and len(value) != len(arguments):
        raise ValueError(f"{where} must have {len(arguments)} entries, got {len(value)}: {value!r}")
    members = (arguments[:1] or (Any,)) * len(value) if is_open else arguments
    return kind(
        convert(member, item, join(where, str(i)))
        for i, (member, item) in enumerate(zip(members, value, strict=True))
    )


def _convert_dict(arguments: tuple[Any, ...], value: Any, where: str, full: Any) -> dict[str, Any]:
    value = _resolve_text(value) if isinstance(value, _CommandLineText) else value
    if not isinstance(value, dict):
        raise _wrong_type(where, full, value)
    member = arguments[1] if arguments else Any
    return {key: convert(member, item, join(where, str(key))) for key, item in value.items()}


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, _CommandLineText) and kind in (bool, int):
        value = _resolve_text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is str and isinstance(value, str):
        return str(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is float and (is_number or (isinstance(value, str) and _NUMBER.fullmatch(value))):
        return float(value)
    if kind is int and is_number and isinstance(value, int):
        return value
    if kind in (bool, types.NoneType) and isinstance(value, kind):
        return value
    if kind not in (str, Path, float, int, bool, types.NoneType):
        raise TypeError(f"{where}: fields of type {kind!r} cannot be read from a config")
    raise _wrong_type(where, kind, value)


def _resolve_text(value: Any) -> Any:
    """Overrides inside free-form values, read as YAML."""
    if isinstance(value, dict):
        return {key: _resolve_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve_text(item) for item in value]
    if not isinstance(value, _CommandLineText):
        return value
    try:
        return yaml.load(str(value), _StrictLoader)
    except yaml.YAMLError:
        return str(value)


# ---- messages


def _wrong_type(where: str, kind: Any, value: Any) -> ValueError:
    return ValueError(
        f"{where or 'the config'} must be {name_of(kind)}, got {_shown(value)}{_fix(kind, value)}"
    )


def _fix(kind: Any, value: Any) -> str:
    members = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if isinstance(value, bool) and str in members:
        return "; YAML reads on, off, yes and no as true and false: put quotes around the text"
    if isinstance(value, str) and int in members and _NUMBER.fullmatch(value):
        return "; write a whole number, without quotes or exponent"
    if bool in members:
        return "; write true or false"
    if isinstance(value, int | float) and str in members:
        return f'; put quotes around it: "{value}"'
    is_list = any((typing.get_origin(member) or member) in (tuple, list) for member in members)
    return "; write a list: [a, b]" if is_list else ""


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"{str(value)!r} (text)"
    return "null" if value is None else f"{value!r} ({type(value).__name__})"


def _unknown_key(cls: type, name: str, where: str) -> str:
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    if other := getattr(cls, "KEYS_ELSEWHERE", {}).get(name):
        return f"unknown key {join(where, name)!r}: it is one of {other}"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:  # perhaps it belongs to another section
        everywhere = {key.rsplit(".", 1)[-1]: key for key, *_ in keys_of(cls, where)}
        near = [everywhere[match] for match in difflib.get_close_matches(name, everywhere, n=1, cutoff=0.8)]
    else:
        near = [join(where, near[0])]
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"unknown key {join(where, name)!r}; {hint}"
