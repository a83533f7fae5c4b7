"""The stored answers are those of the oracle installed here; needs torch, `make parity` runs it."""

import numpy as np
import pytest

from tests.parity.interleaved.cases import FAMILIES, Family
from tests.parity.pictures.stored import stored
from tests.tolerances import LOGITS


@pytest.mark.parity
@pytest.mark.filterwarnings("default")  # transformers warns of itself
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_fixtures_are_what_the_oracle_says(family: Family) -> None:
    from tests.parity.interleaved.make_fixtures import fixture  # imports torch

    kept, made = stored(family.name), fixture(family)
    assert set(kept) == {*made, "oracle"}
    for part, values in made.items():
        atol = 0 if values.dtype.kind == "i" else LOGITS
        np.testing.assert_allclose(kept[part], values, rtol=0, atol=atol, err_msg=part)
