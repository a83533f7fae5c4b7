"""Plain NumPy, float64, one query and one head at a time: slow and obvious."""

import numpy as np


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    wide = x.astype(np.float64)
    return wide / np.sqrt((wide**2).mean(-1, keepdims=True) + epsilon) * (1 + weight.astype(np.float64))


def rotate(x: np.ndarray, positions: np.ndarray, base: float) -> np.ndarray:
    """Pair i of a head is a complex number, turned by position / base^(2i/K) radians."""
    half = x.shape[-1] // 2
    pairs = x[..., :half].astype(np.float64) + 1j * x[..., half:]
    turned = pairs * np.exp(1j * positions[:, :, None, None] / base ** (np.arange(half) / half))
    return np.concatenate([turned.real, turned.imag], axis=-1)


def attend(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, visible: np.ndarray, cap: float | None
) -> np.ndarray:
    """(B, T, H, K); a query that sees nothing gets zeros."""
    mixed = np.zeros(queries.shape)
    share = queries.shape[2] // keys.shape[2]
    for b, t, h in np.ndindex(*queries.shape[:3]):
        seen = np.flatnonzero(visible[b, t])
        if not len(seen):
            continue
        scores = keys[b, seen, h // share].astype(np.float64) @ queries[b, t, h]
        scores = scores if cap is None else cap * np.tanh(scores / cap)
        shares = np.exp(scores - scores.max())
        mixed[b, t, h] = shares / shares.sum() @ values[b, seen, h // share]
    return mixed
