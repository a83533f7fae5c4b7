"""A law that runs were made from is found again, and its optimum is the lowest point."""

import numpy as np
import pytest

from gemwright.data.scaling import Law, Run, fit

CHINCHILLA = Law(1.69, 406.4, 0.34, 410.7, 0.28)


def runs(noise: float) -> list[Run]:
    rng = np.random.default_rng(0)
    places = [(n, d) for n in (1e6, 4e6, 16e6, 64e6) for d in (2e7, 1e8, 5e8, 2e9)]
    return [Run(n, d, float(CHINCHILLA.loss(n, d) * np.exp(noise * rng.standard_normal()))) for n, d in places]


def test_the_law_behind_runs_is_found_again() -> None:
    law = fit(runs(0))
    assert law.error < 1e-3
    for compute in (1e18, 1e20):
        assert law.best(compute).parameters == pytest.approx(CHINCHILLA.best(compute).parameters, rel=0.05)
        assert law.best(compute).loss == pytest.approx(CHINCHILLA.best(compute).loss, rel=0.005)


def test_noise_of_a_half_percent_leaves_the_predictions_near() -> None:
    """The seed is fixed, so that luck has no part."""
    law = fit(runs(0.005))
    assert law.loss(2.5e8, 5e9) == pytest.approx(CHINCHILLA.loss(2.5e8, 5e9), rel=0.02)


def test_no_other_size_of_the_same_compute_is_better() -> None:
    best = CHINCHILLA.best(1e20)
    assert 6 * best.parameters * best.tokens == pytest.approx(1e20)
    for factor in (0.5, 0.9, 1.1, 2):
        assert CHINCHILLA.loss(best.parameters * factor, best.tokens / factor) > best.loss


@pytest.mark.parametrize("few", [runs(0)[:5], runs(0)[:4] * 2])
def test_runs_that_cannot_tell_size_from_data_are_refused(few: list[Run]) -> None:
    with pytest.raises(ValueError, match="expected at least 6, with 3 of each"):
        fit(few)
