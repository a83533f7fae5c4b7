"""The stored answers are those of the oracle installed here; needs torch, `make parity` runs it."""

import numpy as np
import pytest

from tests.parity.cases import FAMILIES, Family
from tests.parity.stored import FOLDER
from tests.tolerances import LOGITS


@pytest.mark.parity
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_fixtures_are_what_the_oracle_says(family: Family) -> None:
    from tests.parity.make_fixtures import fixture  # imports torch

    made = fixture(family)
    with np.load(FOLDER / f"{family.name}.npz") as kept:
        assert set(kept) == {*made, "oracle"}
        for name in ("tokens", "prompt", "greedy"):
            np.testing.assert_array_equal(kept[name], made[name])
        # Sharp models amplify rounding, and another CPU rounds otherwise: the bound is that of two implementations.
        np.testing.assert_allclose(kept["logits"], made["logits"], rtol=0, atol=LOGITS)
