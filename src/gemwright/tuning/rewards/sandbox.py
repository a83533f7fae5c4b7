"""Code of a model run apart: a process of its own with little time, memory and disk, in an empty folder.

Where the system can take them away (Linux), it has no network and cannot write outside its folder. It holds off
accidents and clumsy tricks: endless loops, memory, forks, files, sockets. It can read files, and is no wall against an
attack on the system's kernel; give code from strangers a machine of its own.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gemwright.tuning.rewards.reward import ByRule, Task

_SHOWN = 300  # characters of what went wrong
_PASSED = 86
_CAGE = Path(__file__).with_name("cage.py")


@dataclass(frozen=True)
class Limits:
    """Of one run.

    Attributes:
      seconds: of the clock.
      megabytes: of memory.
    """

    seconds: float = 5.0
    megabytes: int = 512


@dataclass(frozen=True)
class Ran:
    """How a program ended.

    Attributes:
      passed: it ended by itself, with the exit code that counts.
      reason: why not, with the end of what it wrote.
      without: of `network` and `writing` (outside its folder), what the system could take away.
    """

    passed: bool
    reason: str = ""
    without: tuple[str, ...] = ()


def run_python(code: str, limits: Limits = Limits(), passing: int = 0) -> Ran:
    """Run a program to its end or its limit. Everything that it started ends with it.

    Args:
      passing: the exit code that counts as passed.
    """
    with tempfile.TemporaryDirectory(prefix="gemwright-sandbox-") as folder:
        program = Path(folder) / "program.py"
        program.write_text(code, encoding="utf-8", errors="backslashreplace")
        command = [sys.executable, "-I", "-S", str(_CAGE), str(limits.megabytes), f"{limits.seconds:.3f}", str(program)]
        with (Path(folder) / "written").open("w+b") as written:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=written, stderr=written, env={"PATH": os.defpath},
                start_new_session=True,
            )  # fmt: skip
            try:
                code_of_exit: int | None = process.wait(limits.seconds + 1.0)
            except subprocess.TimeoutExpired:
                code_of_exit = None
            finally:
                _end(process)
            written.seek(0)
            return _told(code_of_exit, passing, written.read(1 << 16), limits)


def unit_tests(limits: Limits = Limits()) -> ByRule:
    """1 if an answer's program passes the row's `tests`, which are Python that raises where one fails."""

    def rule(task: Task, said: str) -> float:
        # The last line is reached by passing alone: a program that leaves early ends with another code.
        done = f"import os as _os\n_os._exit({_PASSED})"
        return float(run_python(f"{program_of(said)}\n\n{task.text('tests')}\n\n{done}\n", limits, _PASSED).passed)

    return ByRule("tests", rule, "tests")


def program_of(said: str) -> str:
    """The code of an answer: that of its first block between fences, or all of it."""
    parts = said.split("```")
    if len(parts) < 2:
        return said
    first, _, rest = parts[1].partition("\n")
    return rest if first.strip().lower() in ("", "python", "py", "python3") else parts[1]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With all of its session: a child that was left behind holds the machine as well as its parent."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _told(code: int | None, passing: int, written: bytes, limits: Limits) -> Ran:
    first, _, rest = written.partition(b"\n")
    without, text = tuple(first.decode("ascii", "replace").split()), rest.decode("utf-8", "replace").strip()
    last = text.rpartition("\n")[2][-_SHOWN:]
    if code is None or code in (-signal.SIGXCPU, 128 + signal.SIGXCPU, 128 + signal.SIGKILL):
        return Ran(False, f"not ended after {limits.seconds:g} s", without)
    if code == passing:
        return Ran(True, "", without)
    return Ran(False, f"exit code {code}: {last}", without)
