"""`gemwright models`: what can be loaded by name, and what is here already."""

import json

from gemwright.cli import options


def models(as_json: options.AsJson = False) -> None:
    """List the presets and the models on this machine."""
    from gemwright.checkpoints.hub import HUB_NAMES, local_models
    from gemwright.models.gemma import PRESETS
    from gemwright.models.summary import summarise

    presets = [
        {
            "name": name,
            "hub": HUB_NAMES[name],
            "parameters": summarise(config).total,
            "layers": config.num_layers,
            "context": config.max_positions,
        }
        for name, config in PRESETS.items()
    ]
    local = [{"name": model.name, "path": str(model.path)} for model in local_models()]
    if as_json:
        print(json.dumps({"presets": presets, "local": local}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("preset", "on the hub", "parameters", "layers", "context", title="Presets")
    for row in presets:
        table.add_row(row["name"], row["hub"], f"{row['parameters']:,}", str(row["layers"]), f"{row['context']:,}")
    here = Table("model", "folder", title="On this machine")
    for row in local:
        here.add_row(row["name"], row["path"])
    console = Console()
    console.print(table)
    console.print(here)
