"""Compiled programs kept between runs."""

import os
from pathlib import Path

import jax


def cache_compilations() -> None:
    """Let JAX keep compiled programs in the user's cache folder, unless a folder is set already."""
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]  # or by its variable
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(root / "gemwright" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.01)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
