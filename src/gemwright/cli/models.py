"""`gemwright models`: what can be loaded by name, and what is here already."""

import json
from pathlib import Path

from gemwright.cli import options


def models(as_json: options.AsJson = False) -> None:
    """List the presets and the models on this machine."""
    from gemwright.checkpoints.hub import ALIASES, local_models
    from gemwright.model import DEFAULT_MODEL
    from gemwright.models.family import PRESETS
    from gemwright.models.summary import summarise

    presets = {name: summarise(config) for name, config in PRESETS.items()}
    local = local_models([DEFAULT_MODEL, Path.cwd()])
    if as_json:
        named = [{"name": name, "hub": ALIASES[name], "parameters": found.total} for name, found in presets.items()]
        here = [
            {"name": model.name, "family": model.family, "bytes": model.weight_bytes, "folder": str(model.folder)}
            for model in local
        ]
        print(json.dumps({"presets": named, "local": here}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("preset", "on the hub", "parameters", "layers", "context", title="Presets")
    for name, found in presets.items():
        layers, context = found.config.num_layers, found.config.max_positions
        table.add_row(name, ALIASES[name], f"{found.total:,}", str(layers), f"{context:,}")
    below = Table("model", "family", "weights", "folder", title="On this machine: the hub's cache and this folder")
    for model in local:
        name = "the default, without a name" if model.folder == DEFAULT_MODEL else model.name
        below.add_row(name, model.family, f"{model.weight_bytes / 1e6:,.0f} MB", str(model.folder))
    console = Console()
    console.print(table)
    console.print(below)
