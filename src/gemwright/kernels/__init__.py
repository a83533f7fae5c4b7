"""Native kernels for the CPU, and beside each the plain JAX reference that it must equal.

The library is loaded when a kernel is first traced. Where it was not built, cannot be loaded or is
switched off by `GEMWRIGHT_KERNELS=off`, the references run: every function here works everywhere.
"""
