"""Bits go where they spare most divergence a byte, and no further than the average allows."""

import numpy as np
import pytest

from gemwright.core.module import named_leaves
from gemwright.core.packed import pack_weights
from gemwright.models.gemma import Gemma, gemma1
from gemwright.quantisation.mixed import choose_bits, sensitivities, stored_bytes
from tests.tiny import sharp_weights

CONFIG = gemma1(vocab_size=256, embed_dim=64, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32, mlp_dim=128)
SPECS = {name: spec for name, spec in named_leaves(Gemma.specs(CONFIG)).items() if len(spec.shape) > 1}


def average(bits: dict[str, int]) -> float:
    return 8 * sum(stored_bytes(SPECS[n], b) for n, b in bits.items()) / sum(SPECS[n].size for n in bits)


@pytest.mark.parametrize(("target", "least"), [(4.5, 4.5), (5.0, 4.8), (6.5, 6.3), (8.5, 8.5)])
def test_the_average_is_kept_and_used(target: float, least: float) -> None:
    bits = choose_bits(CONFIG, dict.fromkeys(SPECS, 1.0), target)
    assert least <= average(bits) <= target


def test_the_most_sensitive_weight_a_byte_comes_first() -> None:
    sensitivity = {name: spec.size * (100.0 if "1.mlp.up" in name else 1.0) for name, spec in SPECS.items()}
    bits = choose_bits(CONFIG, sensitivity, 4.5 + 4 * 8192 / sum(spec.size for spec in SPECS.values()))
    assert [name for name, each in bits.items() if each == 8] == ["layers.1.mlp.up"]


@pytest.mark.parametrize("target", [4.0, 9.0, float("nan")])
def test_an_average_that_cannot_be_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match=r"expected 4\.5 to 8\.5"):
        choose_bits(CONFIG, dict.fromkeys(SPECS, 1.0), target)


def test_a_weight_that_lost_more_is_more_sensitive() -> None:
    weights = sharp_weights(CONFIG)
    rows = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 16)).astype(np.int32)
    four, eight = (sensitivities(weights, pack_weights(Gemma.specs(CONFIG), weights, b), CONFIG, rows) for b in (4, 8))
    assert four.keys() == SPECS.keys()
    assert all(four[name] > 4 * eight[name] >= 0 for name in SPECS)  # errors are some 16 times smaller, squared more
