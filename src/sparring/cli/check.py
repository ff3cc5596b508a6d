"""Does a configuration fit the code? The numbers of a run, and names and plain types of all that will be called.

What a value may be is read off the target's signature, so that nothing is declared twice. Ranges are the targets' own
business.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter, signature
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from hydra.errors import HydraException
from hydra.utils import get_object

from sparring.core.errors import ConfigError

_COUNTS = ("rounds", "stop_after_epochs", "schedule_total_epochs", "batch_size", "accumulate")
_HYDRAS_OWN = ("_target_", "_partial_", "_convert_", "_recursive_")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def check_run(cfg: Mapping[str, Any]) -> None:
    """The keys that belong to no group. Imports nothing that they name."""
    for name in _COUNTS:
        require_whole(name, cfg[name], least=1)
    if cfg["schedule_total_epochs"] < cfg["stop_after_epochs"]:
        raise ConfigError(
            f"schedule_total_epochs is {cfg['schedule_total_epochs']}, less than stop_after_epochs="
            f"{cfg['stop_after_epochs']}: the learning rate would be 0 after it; raise it."
        )
    require_whole("seed", cfg["seed"], least=0)
    if cfg["threads"] is not None:
        require_whole("threads", cfg["threads"], least=1)
    if cfg["resume"] not in ("auto", "never"):
        raise ConfigError(f"resume is {cfg['resume']!r}; it must be 'auto' or 'never'.")
    for name in ("overwrite", "dry_run"):
        if not isinstance(cfg[name], bool):
            raise ConfigError(f"{name} is {cfg[name]!r}; it must be true or false.")
    if cfg["study"] is not None:
        _check_study(cfg["study"])


def trains_nothing(cfg: Mapping[str, Any]) -> bool:
    """Whether the run is about a way of decoding."""
    return cfg.get("objective", {}).get("_target_") == "sparring.objectives.decoding.Decoding"


def _check_study(node: object) -> None:
    if not (isinstance(node, Mapping) and node.keys() == {"name", "baseline", "claims", "given"}):
        raise ConfigError(f"study is {node!r}; it must be null, or have the keys name, baseline, claims and given.")
    for claim in node["claims"]:
        if not (isinstance(claim, Mapping) and claim.keys() == {"claim", "arm", "against"}):
            raise ConfigError(f"study.claims has {claim!r}; each claim must have the keys claim, arm and against.")


def require_whole(name: str, value: object, *, least: int) -> None:
    if type(value) is not int or value < least:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number of at least {least}.")


def check_targets(node: Any, where: str = "") -> None:
    """Every `_target_` below `node` exists, knows the keys it is given, and can take their plain values."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            _check_target(node, where)
        for name, child in node.items():
            check_targets(child, f"{where}.{name}" if where else str(name))
    elif isinstance(node, list):
        for number, child in enumerate(node):
            check_targets(child, f"{where}[{number}]")


def _check_target(node: Mapping[str, Any], where: str) -> None:
    try:
        target = get_object(node["_target_"])
    except (HydraException, ImportError, ValueError, AttributeError) as error:
        raise ConfigError(f"{where}._target_ is {node['_target_']!r}, which cannot be imported.") from error
    try:
        parameters = signature(target).parameters
    except ValueError:  # written in C, like datetime.timedelta: it checks its arguments itself
        return
    takes_any_name = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in node.items():
        if name in _HYDRAS_OWN:
            continue
        if name not in parameters:
            if not takes_any_name:
                raise ConfigError(f"{where} has no key {name!r}{suggestion(name, parameters)}")
            continue
        _check_value(value, _annotation(parameters[name], target), f"{where}.{name}")


def _check_value(value: Any, allowed: Any, where: str) -> None:
    if not fits(value, allowed):
        raise ConfigError(f"{where} is {value!r}; it must be {_described(allowed)}.")
    if isinstance(value, Mapping) and "_target_" not in value and get_origin(allowed) is Mapping:
        for name, item in value.items():
            _check_value(item, get_args(allowed)[1], f"{where}.{name}")


def _annotation(parameter: Parameter, target: Any) -> Any:
    """What is annotated, or `Any` where nothing is or where its names are imported for type checkers only."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            return eval(annotation, vars(sys.modules[target.__module__]))
        except NameError:
            return Any
    return Any if annotation is Parameter.empty else annotation


def fits(value: Any, allowed: Any) -> bool:
    """Whether `value` may stand where `allowed` is annotated; True where only a call can tell."""
    if get_origin(allowed) in (Union, UnionType):
        return any(fits(value, part) for part in get_args(allowed))
    if isinstance(value, list) and get_origin(allowed) is Sequence:
        return all(fits(item, part) for part in get_args(allowed) for item in value)
    if allowed is Any or (isinstance(value, Mapping | list) and allowed not in _WORDS):
        return True
    if get_origin(allowed) is Literal:
        return value in get_args(allowed)
    if allowed is None:
        return value is None
    if allowed is float:
        return type(value) in (int, float)
    # A plain value never stands for a container, a function or another object: those are nodes of their own.
    return type(value) is allowed if isinstance(allowed, type) else get_origin(allowed) is None


def _described(allowed: Any) -> str:
    parts = get_args(allowed) if get_origin(allowed) in (Union, UnionType) else (allowed,)
    choices = [repr(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    words = choices + [_WORDS[part] for part in parts if part in _WORDS]
    words += [f"a list of {_items(part)}" for part in parts if get_origin(part) is Sequence]
    if any(part not in _WORDS and get_origin(part) not in (Literal, Sequence) for part in parts):
        words.insert(0, "a node with a _target_")
    return " or ".join(words)


def _items(allowed: Any) -> str:
    [item] = get_args(allowed)
    return f"lists of {_items(item)}" if get_origin(item) is Sequence else _MANY.get(item, "nodes with a _target_")


def suggestion(name: str, known: Iterable[object]) -> str:
    """The end of a sentence about an unknown key: the one that was meant, else all that there are."""
    names = [str(key) for key in known if key not in ("self", "hydra", *_HYDRAS_OWN)]
    if close := get_close_matches(name, names, n=1):
        return f"; did you mean {close[0]!r}?"
    return f"; its keys are {', '.join(names)}." if names else "."
