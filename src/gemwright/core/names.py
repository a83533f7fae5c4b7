"""Names of weights in other layouts: tables of pairs in which `*` stands for the layer."""

import re
from collections.abc import Iterable, Sequence

NameTable = Sequence[tuple[str, str]]


def translate(names: Iterable[str], table: NameTable) -> dict[str, str]:
    """For each of our names, the other layout's name.

    Raises:
      KeyError: if a name is not in the table.
    """
    patterns = dict(table)
    translated: dict[str, str] = {}
    for name in names:
        layers = re.findall(r"\.(\d+)\.", name)
        pattern = re.sub(r"\.\d+\.", ".*.", name)
        if pattern not in patterns:
            raise KeyError(f"no other name for the weight {name!r}: add {pattern!r} to the family's name table")
        other = patterns[pattern]
        for layer in layers:
            other = other.replace("*", layer, 1)
        translated[name] = other
    return translated
