"""What PEFT calls our weights: the names of modules in memory, in the dialects of several versions of transformers."""

import re
from collections.abc import Iterable

from gemwright.core.module import named_leaves
from gemwright.core.names import translate
from gemwright.models.family import FAMILIES, Config, specs_of

PREFIX = "base_model.model."

HEAD = "lm_head"

_TEXT_DIALECTS = (
    ("", ""),
    (r"^model\.", "model.language_model."),  # a decoder in a model that also sees, since transformers 4.52
    (r"^model\.", "language_model.model."),  # and before
)

_PICTURE_DIALECTS = (
    ((r"^language_model\.model\.", "language_model."), (r"^", "model.")),  # transformers 5
    (
        (r"^language_model\.model\.", "language_model."),
        (r"^vision_tower\.", "vision_tower.vision_model."),
        (r"^", "model."),
    ),  # since 4.52
    ((r"^vision_tower\.", "vision_tower.vision_model."),),  # before
)


def dialects(config: Config) -> list[dict[str, str]]:
    """From a tensor's name in PEFT's model to ours, in each dialect; the newest first."""
    names = translate(named_leaves(specs_of(config)), FAMILIES[config.family].names)
    sees = any(name.startswith("vision_tower.") for name in names.values())
    spoken = _PICTURE_DIALECTS if sees else tuple((rule,) for rule in _TEXT_DIALECTS)
    return [{_renamed(theirs, rules): ours for ours, theirs in names.items()} for rules in spoken]


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name
