"""What tuning gave, gathered from the reports of its runs: a file for machines and a plot for people.

    python -m recipes.shape_results --full runs/a --lora runs/b --tuned runs/tuned --practice runs/c --out docs

writes results/shape.json and skills.png. Full and LoRA have read the same; `tuned` is the whole recipe.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

Report = dict[str, Any]

RUNS = ("full", "lora", "tuned", "practice")
CHART = {
    "lora": ("LoRA", "tab:orange"),
    "full": ("all weights, the same examples", "tab:blue"),
    "tuned": ("all weights, ten times as many tokens", "tab:green"),
}


def gathered(folders: Mapping[str, Path]) -> Report:
    """The reports by what was done, and LoRA's share of the gain of all weights."""
    found: Report = {name: json.loads((folder / "report.json").read_text()) for name, folder in folders.items()}
    gains = {name: _right(found[name]["after"]) - _right(found[name]["before"]) for name in ("full", "lora")}
    found["lora_share_of_gain"] = round(gains["lora"] / gains["full"], 4)
    return found


def _right(shares: Report) -> float:
    return shares["all"]["right"]


def chart(found: Report, path: Path) -> None:
    """Of each skill the share right after tuning, with 95% intervals."""
    bars = {name: found[name]["after"] for name in CHART}
    names = [*(name for name in bars["full"] if name != "all"), "all"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, shares) in enumerate(bars.items()):
        label, colour = CHART[name]
        heights = [100 * shares[skill]["right"] for skill in names]
        errors = [
            [100 * abs(shares[skill]["right"] - shares[skill][end]) for skill in names] for end in ("low", "high")
        ]
        places = [place + (number - 1) * 0.27 for place in range(len(names))]
        axes.bar(places, heights, 0.27, yerr=errors, capsize=2, label=label, color=colour)
    axes.axhline(90, linestyle=":", color="0.3", linewidth=1)
    axes.set(ylabel="right to the letter, held out (%)", ylim=(0, 102))
    axes.set_xticks(range(len(names)), names, rotation=20)
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in RUNS:
        parser.add_argument(f"--{name}", type=Path, required=True, help="the run's folder")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    found = gathered({name: getattr(asked, name) for name in RUNS})
    (asked.out / "results").mkdir(parents=True, exist_ok=True)
    (asked.out / "results" / "shape.json").write_text(json.dumps(found, indent=2) + "\n")
    chart(found, asked.out / "skills.png")
    print(f"LoRA has {found['lora_share_of_gain']:.1%} of the gain of all weights")


if __name__ == "__main__":
    main()
