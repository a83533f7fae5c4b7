"""`gemwright summary`: what a model is made of and what it needs."""

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer

from gemwright.cli import options

if TYPE_CHECKING:
    from rich.tree import Tree

    from gemwright.models.family import Config
    from gemwright.models.summary import Summary


def summary(
    model: options.ModelArgument = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show every layer, not equal ones once.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show the module tree, the parameters, the sizes and the cache of a preset, a model's folder or a GGUF file."""
    from gemwright.models.summary import summarise

    found = summarise(_config(model))
    if as_json:
        print(json.dumps(found.to_json()))
        return
    from rich.console import Console

    console = Console()
    console.print(_tree(found, model or "default model", layers))
    for table in _tables(found):
        console.print(table)


def _config(model: str | None) -> "Config":
    from gemwright.checkpoints.gguf_reader import gguf_config, gguf_file, open_gguf
    from gemwright.checkpoints.hf_config import read_config
    from gemwright.checkpoints.hub import resolve
    from gemwright.models.family import PRESETS

    if model in PRESETS:
        return PRESETS[model]
    if model is None:
        from gemwright.model import DEFAULT_MODEL

        return read_config(DEFAULT_MODEL)
    path = resolve(model)
    file = gguf_file(path)
    return gguf_config(open_gguf(file)) if file else read_config(path)


def _tree(found: "Summary", title: str, every_layer: bool) -> "Tree":
    """Weights by module; layers of the same shapes stand once, with their numbers."""
    from rich.tree import Tree

    root = Tree(f"[bold]{title}[/bold] ({found.config.family})")
    branches: dict[str, Tree] = {"": root}
    for name, shape in found.weights.items():
        layer = re.match(r"layers\.(\d+)", name)
        if layer and not every_layer and int(layer[1]) > 0:
            continue
        *parents, leaf = name.split(".")
        path = ""
        for part in parents:
            above, path = path, f"{path}.{part}" if path else part
            if path not in branches:
                branches[path] = branches[above].add(_label(part, found.config.num_layers, every_layer))
        branches[path].add(f"{leaf} [dim]{' x '.join(f'{size:,}' for size in shape)}[/dim]")
    return root


def _label(part: str, num_layers: int, every_layer: bool) -> str:
    return f"0 to {num_layers - 1}, alike" if part == "0" and not every_layer else part


def _tables(found: "Summary"):
    from rich.table import Table

    parameters = Table("parameters", "")
    for name, number in (("embedding", found.embedding), ("other", found.other), ("total", found.total)):
        parameters.add_row(name, f"{number:,}")
    asset = Table("weights as", "size")
    for kind, size in found.asset_bytes.items():
        asset.add_row(kind, _size(size))
    memory = Table("context", "KV cache (bf16)", *(f"with {kind} weights" for kind in found.asset_bytes))
    for length, size in found.cache_bytes.items():
        memory.add_row(f"{length:,}", _size(size), *(_size(size + weights) for weights in found.asset_bytes.values()))
    return parameters, asset, memory


def _size(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**28 else f"{size / 2**20:,.2f} MiB"
