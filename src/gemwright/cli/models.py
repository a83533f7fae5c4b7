"""`gemwright models`: what can be loaded by name, and what is here already."""

import json
from pathlib import Path

from gemwright.cli import options


def models(as_json: options.AsJson = False) -> None:
    """List the presets and the models on this machine."""
    from gemwright.checkpoints.hub import ALIASES, local_models
    from gemwright.model import DEFAULT_MODEL
    from gemwright.models.gemma import PRESETS
    from gemwright.models.summary import summarise

    presets = [
        {
            "name": name,
            "hub": ALIASES[name],
            "parameters": summarise(config).total,
            "layers": config.num_layers,
            "context": config.max_positions,
        }
        for name, config in PRESETS.items()
    ]
    local = [
        {"name": model.name, "family": model.family, "bytes": model.weight_bytes, "folder": str(model.folder)}
        for model in local_models([DEFAULT_MODEL, Path.cwd()])
    ]
    if as_json:
        print(json.dumps({"presets": presets, "local": local}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("preset", "on the hub", "parameters", "layers", "context", title="Presets")
    for row in presets:
        table.add_row(row["name"], row["hub"], f"{row['parameters']:,}", str(row["layers"]), f"{row['context']:,}")
    here = Table("model", "family", "weights", "folder", title="On this machine: the hub's cache and this folder")
    for row in local:
        here.add_row(row["name"], row["family"], f"{row['bytes'] / 1e6:,.0f} MB", row["folder"])
    console = Console()
    console.print(table)
    console.print(here)
