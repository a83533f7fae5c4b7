#!/bin/sh
# Builds and runs the checks of tests/kernels/native. Needs cmake and a python with jaxlib on the PATH, and a compiler
# with sanitizers.
set -eu
cd "$(dirname "$0")/.."

check() {  # SANITIZERS PROGRAM
    build="build/sanitize-$2"
    cmake -S . -B "$build" -DGEMWRIGHT_SANITIZE="$1" -DPython_EXECUTABLE="$(command -v python)" >/dev/null
    cmake --build "$build" --target "$2" --parallel 2 >"$build/log" || { cat "$build/log" >&2; exit 1; }
    "$(find "$build" -type f -name "$2")"
}

check address,undefined kernel_checks
check thread parallel_checks
