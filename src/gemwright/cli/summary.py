"""`gemwright summary`: what a model is made of and what it needs."""

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer

from gemwright.cli import options

_LAYER = re.compile(r"((?:\w+\.)*layers)\.(\d+)(?=\.)")
"""A weight of a layer: the stack it stands in, and its place there."""

if TYPE_CHECKING:
    from rich.tree import Tree

    from gemwright.models.family import Config
    from gemwright.models.summary import Summary


def summary(
    model: options.ModelArgument = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show every layer, not equal ones once.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show the module tree, the parameters, the sizes and the cache of a preset, a model's folder or its file."""
    from gemwright.models.summary import summarise

    found = summarise(_config(model))
    if as_json:
        print(json.dumps(found.to_json()))
        return
    from rich.console import Console

    console = Console()
    console.print(tree(found, model or "default model", layers))
    for table in _tables(found):
        console.print(table)


def _config(model: str | None) -> "Config":
    from gemwright.checkpoints.hub import resolve
    from gemwright.checkpoints.load import read_constants
    from gemwright.models.family import PRESETS

    if model in PRESETS:
        return PRESETS[model]
    if model is None:
        from gemwright.model import DEFAULT_MODEL

        return read_constants(DEFAULT_MODEL)
    return read_constants(resolve(model))


def tree(found: "Summary", title: str, every_layer: bool) -> "Tree":
    """Weights by module; of layers with the same weights the first is shown, and how many there are."""
    from rich.tree import Tree

    root = Tree(f"[bold]{title}[/bold] ({found.config.family})")
    branches: dict[str, Tree] = {"": root}
    shown = _alike(found)
    for name, shape in found.weights.items():
        layer = _LAYER.match(name)
        if layer and not every_layer and layer[0] not in shown:
            continue
        *parents, leaf = name.split(".")
        path = ""
        for part in parents:
            above, path = path, f"{path}.{part}" if path else part
            if path not in branches:
                branches[path] = branches[above].add(part if every_layer else shown.get(path, part))
        branches[path].add(f"{leaf} [dim]{' x '.join(f'{size:,}' for size in shape)}[/dim]")
    return root


def _alike(found: "Summary") -> dict[str, str]:
    """The first of each kind of layer in each stack, and a label that tells of all of its kind."""
    layers: dict[tuple[str, int], list[tuple[str, tuple[int, ...]]]] = {}
    for name, shape in found.weights.items():
        if layer := _LAYER.match(name):
            layers.setdefault((layer[1], int(layer[2])), []).append((name[layer.end() :], shape))
    kinds: dict[tuple[object, ...], list[int]] = {}
    for (stack, layer), weights in layers.items():
        kinds.setdefault((stack, *weights), []).append(layer)
    return {f"{kind[0]}.{alike[0]}": _label(alike) for kind, alike in kinds.items()}


def _label(layers: list[int]) -> str:
    first, *others = layers
    if not others:
        return str(first)
    in_a_row = others == list(range(first + 1, first + 1 + len(others)))
    return f"{first} to {others[-1]}, alike" if in_a_row else f"{first} and {len(others)} more, alike"


def _tables(found: "Summary"):
    from rich.table import Table

    parameters = Table("parameters", "")
    for name, number in (("embedding", found.embedding), ("other", found.other), ("total", found.total)):
        parameters.add_row(name, f"{number:,}")
    asset = Table("weights as", "size")
    for kind, size in found.asset_bytes.items():
        asset.add_row(kind, _size(size))
    memory = Table("context", "cache (bf16)", *(f"with {kind} weights" for kind in found.asset_bytes))
    for length, size in found.cache_bytes.items():
        memory.add_row(f"{length:,}", _size(size), *(_size(size + weights) for weights in found.asset_bytes.values()))
    return parameters, asset, memory


def _size(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**28 else f"{size / 2**20:,.2f} MiB"
