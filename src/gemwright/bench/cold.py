"""What only a fresh process shows: the time to its first token, and its peak memory.

`python -m gemwright.bench.cold` is that process. It says on standard output when it has the first token,
and at its end what it took.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

FIRST_PROMPT = 16  # tokens
_RUNS = 3


@dataclass(frozen=True)
class Memory:
    """Bytes that a process took: `peak` in all, its files' mapped pages included; `weights` and `cache` of them."""

    peak: int
    weights: int
    cache: int

    @property
    def over(self) -> int:
        """Beside weights and cache."""
        return self.peak - self.weights - self.cache


def first_token_seconds(model: str | Path | None, bits: int | None = None) -> float:
    """From the start of a Python process, imports included, to the first token after a prompt of 16.

    The median of some runs after one that compiles and brings the files into memory.
    """
    times = [_run(model, bits)[0] for _ in range(_RUNS + 1)]
    return median(times[1:])


def peak_memory(model: str | Path | None, bits: int | None = None, prompt: int = 512, steps: int = 32) -> Memory:
    """Of a process that loads a model, reads a prompt and decodes, with its programs compiled before."""
    _run(model, bits, prompt, steps)  # compiles
    return _run(model, bits, prompt, steps)[1]


def _run(model: str | Path | None, bits: int | None, prompt: int = 0, steps: int = 0) -> tuple[float, Memory]:
    command = [sys.executable, "-m", "gemwright.bench.cold", f"--prompt={prompt}", f"--steps={steps}"]
    command += [] if model is None else [f"--model={model}"]
    command += [] if bits is None else [f"--bits={bits}"]
    begun = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as errors,  # a pipe that nobody empties could fill up
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        try:
            assert child.stdout is not None
            child.stdout.readline()
            seconds = time.perf_counter() - begun
            output, _ = child.communicate()
        finally:
            child.kill()
        errors.seek(0)
        said = errors.read().strip() or "no message"
    if child.returncode:
        raise ValueError(f"a fresh process could not run the model: {said.splitlines()[-1]}")
    return seconds, Memory(**json.loads(output))


# ----------------------------------------------------------------------------------- the process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--bits", type=int)
    parser.add_argument("--prompt", type=int, default=0, help="tokens to read after the first answer")
    parser.add_argument("--steps", type=int, default=0)
    arguments = parser.parse_args()
    import gemwright

    model = gemwright.load(arguments.model, bits=arguments.bits)
    model.generate_ids([100 + index for index in range(FIRST_PROMPT)], 1, stop_ids=())
    print("first token", flush=True)
    from gemwright.bench.speed import prompt_ids, tokens_needed, weight_bytes
    from gemwright.inference.session import Session

    room = tokens_needed(arguments.prompt, arguments.steps)
    if arguments.steps:
        model.generate_ids(prompt_ids(model.config, arguments.prompt), room - arguments.prompt, stop_ids=())
    peak = _peak_bytes()
    cache = weight_bytes(Session(model.weights, model.config, 1, room).state.caches)
    print(json.dumps({"peak": peak, "weights": weight_bytes(model.weights), "cache": cache}))


def _peak_bytes() -> int:
    """The most memory that this process had at once, of its own and of mapped files."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux begins with the parent's
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    main()
