"""The program that `sandbox.py` starts: gives up what it may not have, then becomes the code it was given.

It imports nothing of the library, so that it begins in some milliseconds.
"""

import contextlib
import ctypes
import os
import resource
import runpy
import signal
import struct
import sys
from collections.abc import Callable

_NEW_USER, _NEW_PROCESSES, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_NO_NEW_PRIVILEGES, _DIE_WITH_PARENT = 38, 1  # of prctl
_CREATE_RULES, _ADD_RULE, _RESTRICT = 444, 445, 446  # Landlock's calls, the same on all processors
_WRITES = sum(1 << bit for bit in (1, *range(4, 13)))  # write, remove and make, of Landlock's first version
_WRITTEN = 16 << 20  # bytes of a file
_PROCESSES = 64


def main() -> int:
    """Megabytes, seconds and the program's path come as arguments; the first line written says what was given up."""
    memory, seconds, program = int(sys.argv[1]) << 20, float(sys.argv[2]), sys.argv[3]
    alone = _tried(_leave_network)
    child = os.fork() if alone else 0  # only a child is in a new space of processes; all in it end with it
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code if code >= 0 else 128 - code
    _call("prctl", _DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    given_up = [name for name, done in (("network", alone), ("writing", _tried(_write_here_alone))) if done]
    print(*given_up, flush=True)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CPU, int(seconds) + 1)
    _limit(resource.RLIMIT_FSIZE, _WRITTEN)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, _PROCESSES)  # counts for users other than root alone
    sys.argv = [program]
    runpy.run_path(program, run_name="__main__")
    return 0


def _leave_network() -> None:
    """Into a network without a way out, and among processes of its own: Linux lets most users do so."""
    _call("unshare", _NEW_USER | _NEW_NET | _NEW_PROCESSES)


def _write_here_alone() -> None:
    """Files outside this folder stay as they are (Landlock, Linux 5.13 and later)."""
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    rules = _call("syscall", _CREATE_RULES, ctypes.create_string_buffer(struct.pack("<Q", _WRITES)), 8, 0)
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    _call("syscall", _ADD_RULE, rules, 1, ctypes.create_string_buffer(struct.pack("<Qi", _WRITES, here)), 0)
    _call("syscall", _RESTRICT, rules, 0)


def _call(name: str, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    found: int = getattr(library, name)(*arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), name)
    return found


def _tried(action: Callable[[], None]) -> bool:
    try:
        action()
    except (OSError, AttributeError):  # another system
        return False
    return True


def _limit(what: int, value: int) -> None:
    """Lower a limit, as far as the system has it."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (value, value))


if __name__ == "__main__":
    sys.exit(main())
