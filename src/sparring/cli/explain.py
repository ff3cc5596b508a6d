"""One sentence for an error that the user can mend, found along the chain of its causes."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from sparring.cli.check import suggestion
from sparring.core.errors import SparringError


class Stopped(Exception):
    """A run was ended from outside, by signal number `signal`; what it had made is kept."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turns an error that the user can mend into its sentence and exit status 2; others keep their traceback."""
    try:
        yield
    except (SparringError, HydraException, OmegaConfBaseException) as error:
        if _is_bug(error):
            raise
        print(f"sparring: {explain(error)}", file=sys.stderr)
        sys.exit(2)
    except (Stopped, KeyboardInterrupt) as stop:
        print("sparring: stopped; the same command continues the run.", file=sys.stderr)
        sys.exit(128 + (stop.signal if isinstance(stop, Stopped) else SIGINT))


def explain(error: BaseException) -> str:
    chain = list(_causes(error))
    ours = [str(link) for link in chain if isinstance(link, SparringError)]
    mended = ours or [sentence for link in chain if (sentence := _of_configuration(link))]
    if mended:
        return mended[0]
    lines = dict.fromkeys(_first_line(link) for link in chain)
    return ": ".join(line.rstrip(".:") for line in lines if line) + "."


def reason_of(error: BaseException) -> str:
    """Why a run ended, for its summary."""
    if isinstance(error, SparringError):
        return str(error)
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {_first_line(error)}"
    return "it was ended from outside."


def _is_bug(error: BaseException) -> bool:
    """Whether what a configuration names was called and failed otherwise than by refusing what it was given."""
    inner = next((link for link in _causes(error) if not isinstance(link, InstantiationException)), error)
    refusals = (SparringError, HydraException, OmegaConfBaseException, ValueError, TypeError, OSError, ImportError)
    return not isinstance(inner, refusals)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _of_configuration(error: BaseException) -> str | None:
    """What Hydra's and OmegaConf's commonest errors are about, in the words of the command line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        options = f"choose one of {', '.join(error.options)}" if error.options else "there is no such group"
        return f"there is no {group}={option}; {options}."
    if isinstance(error, MissingMandatoryValue | InterpolationToMissingValueError):
        name = _missing_key(error)
        return f"{name} must be given: add {name}=VALUE{', or choose an experiment=NAME' * (name == 'run_name')}."
    if isinstance(error, OverrideParseException):
        return f"the argument {error.override!r} cannot be read; write KEY=VALUE, and quote odd characters."
    if isinstance(error, InterpolationKeyError) and (named := re.search(r"Interpolation key '(\S+)'", str(error))):
        return f"{error.full_key} is to be the same as {named[1]}, which is not there; set {error.full_key}=VALUE."
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and isinstance(error.full_key, str):
        parent, _, key = error.full_key.rpartition(".")
        known = error.parent_node.keys() if error.parent_node is not None else ()
        return f"{parent or 'the configuration'} has no key {key!r}{suggestion(key, known)}"
    return None


def _missing_key(error: OmegaConfBaseException) -> str:
    named = re.search(r"[Mm]issing mandatory value: (\S+)", str(error))
    return named[1] if named else str(error.full_key)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
