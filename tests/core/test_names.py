"""Weight names translate to another layout's, each to one of its own."""

import pytest

from gemwright.core.module import named_leaves
from gemwright.core.names import translate
from gemwright.models.family import FAMILIES, PRESETS, specs_of


def test_stars_stand_for_the_layer_numbers_in_order() -> None:
    table = (("embedding", "embed.weight"), ("layers.*.experts.*.gate", "h.*.moe.*.w1"))
    names = ["embedding", "layers.3.experts.12.gate"]
    assert translate(names, table) == {names[0]: "embed.weight", names[1]: "h.3.moe.12.w1"}


def test_a_name_the_table_lacks_is_an_error_that_says_what_to_add() -> None:
    with pytest.raises(KeyError, match=r"layers\.\*\.bias"):
        translate(["layers.7.bias"], (("layers.*.weight", "w.*"),))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_weight_of_a_preset_has_a_name_of_its_own(preset: str) -> None:
    config = PRESETS[preset]
    ours = named_leaves(specs_of(config))
    theirs = translate(ours, FAMILIES[config.family].names)
    assert len(set(theirs.values())) == len(ours)
    assert not [name for name in theirs.values() if "*" in name]
