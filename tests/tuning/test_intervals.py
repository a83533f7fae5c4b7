"""Intervals against values that others print or compute."""

import numpy as np
import pytest
from scipy import stats

from gemwright.tuning.intervals import gained, resampled, share


@pytest.mark.parametrize(
    ("after", "before", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_the_gain_of_a_share_is_what_newcombe_prints(
    after: tuple[int, int], before: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe, Interval estimation for the difference between independent proportions (1998), table II, method 10."""
    found = gained(share(*before), share(*after))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    assert found.mean == pytest.approx(after[0] / after[1] - before[0] / before[1])


def test_the_bootstrap_of_a_ratio_is_scipys() -> None:
    """Both draw 20,000 times: an end's own standard error is near 1% of the interval, and 5% are five of them."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 500, 60).astype(float)
    values = np.stack([sizes * rng.normal(2.0, 0.4, 60), sizes], 1)
    found = resampled(values, lambda sums: sums[..., 0] / sums[..., 1], 0, times=20_000)
    theirs = stats.bootstrap(
        (values[:, 0], values[:, 1]),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1), vectorized=True,
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert found.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.05 * width)
    assert found.mean == pytest.approx(values[:, 0].sum() / values[:, 1].sum())
