#!/bin/sh
# Installs the wheel of dist/ with the oldest supported JAX, and answers with each instruction set, without a compiler on
# the PATH; then the sources beside it without a compiler, which become pure Python and say so once. Needs python on
# the PATH.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wheel=$(ls dist/gemwright-*.whl)
sources=$(ls dist/gemwright-*.tar.gz)

oldest=$(sed -n 's/.*"jax>=\([0-9.]*\)".*/\1/p' pyproject.toml)
python -m venv "$work/venv"
bin="$work/venv/bin"
install() {
    PATH="$bin" CXX=none "$bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

answer() { # CHOICE, WHETHER NATIVE
    (cd "$work" && PATH="$bin" XDG_CACHE_HOME="$work" GEMWRIGHT_KERNELS="$1" "$bin/python" - "$1" "$2" <<'PYTHON'
import shutil
import sys

import gemwright
from gemwright.kernels import native

assert not any(map(shutil.which, ("cc", "c++", "gcc", "g++", "clang", "clang++"))), "a compiler is on the PATH"
assert native.available() == (sys.argv[2] == "native"), native.available()
for bits in (None, 4, 8):
    assert len(gemwright.load(bits=bits).generate_ids([2, 5], 4)) == 4, bits
print(f"kernels {sys.argv[1] or 'by default'}: the default model answers in 16, 4 and 8 bits")
PYTHON
    )
}

install "jax==$oldest" "jaxlib==$oldest" "$wheel"
answer "" native
answer portable native
answer off none
for level in avx2 avx512_vnni amx_bf16; do
    if grep -qw "$level" /proc/cpuinfo; then answer "${level%_*}" native; fi
done

install --no-cache-dir --force-reinstall --no-deps "$sources"  # pip would take what it built of that name before
answer "" none 2>"$work/said"
cat "$work/said" >&2
if [ "$(grep -c "no native kernels were built" "$work/said")" != 1 ]; then
    echo "check_wheel: expected one line about the missing kernels" >&2
    exit 1
fi
