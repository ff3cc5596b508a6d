"""Which process this is, and whether another one still lives: what claims that outlive a kill are judged by."""

import os
import platform
from functools import cache
from pathlib import Path


def this_process() -> str:
    """Machine and start included, for process numbers are used again."""
    return _described(os.getpid())


def dead(process: str) -> bool:
    """Whether a process, named by its own `this_process`, is known to have ended; of other machines nothing is."""
    machine, number, started = process.rsplit(" ", 2)
    return machine == _machine() and _started(int(number)) != started


@cache
def _described(number: int) -> str:
    return f"{_machine()} {number} {_started(number)}"


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{platform.node()} {boot.read_text().strip() if boot.exists() else 'boot'}"


def _started(number: int) -> str:
    """When a process began, in the kernel's ticks; "-" if it has ended. Without /proc it only says whether it lives."""
    if not Path("/proc/self/stat").exists():
        return "alive" if _answers(number) else "-"
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()  # its name may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return "-"
    return "-" if fields[0] in "ZX" else fields[19]  # killed, but not yet collected by its parent


def _answers(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's
        return True
    return True
