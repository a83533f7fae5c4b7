"""What tuning gave, gathered from the reports of its runs: a file for machines and a plot for people.

    python -m recipes.shape_results --default runs/tuned --pretrained runs/a --full runs/b --lora runs/c
        --practice runs/d --out docs

writes results/shape.json and skills.png. `pretrained` is a model of documents alone, tuned afterwards; full and LoRA
have read the same further skills, a folder each seed.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Report = dict[str, Any]

ONE, SEVERAL = ("default", "pretrained", "practice"), ("full", "lora")


def gathered(folders: Mapping[str, Sequence[Path]]) -> Report:
    """The reports by what was done, and LoRA's share of the gain of all weights."""
    found = {
        name: [json.loads((each / "report.json").read_text()) for each in paths] for name, paths in folders.items()
    }
    gains = {name: sum(_right(one["after"]) - _right(one["before"]) for one in found[name]) for name in SEVERAL}
    return {
        **{name: found[name][0] for name in ONE},
        **{name: found[name] for name in SEVERAL},
        "lora_share_of_gain": round(gains["lora"] / gains["full"], 4),
    }


def _right(shares: Report) -> float:
    return shares["all"]["right"]


def chart(found: Report, path: Path) -> None:
    """Of each skill the share right after tuning, with 95% intervals."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(10, 6), sharey=True)
    together = {"read with the documents (the default model)": found["default"], "after them": found["pretrained"]}
    _bars(left, {name: report["after"] for name, report in together.items()}, ("tab:green", "0.6"))
    _bars(
        right, {"all weights": found["full"][0]["after"], "LoRA": found["lora"][0]["after"]}, ("tab:blue", "tab:orange")
    )
    left.set(ylabel="right to the letter, held out (%)", ylim=(0, 102), title="skills of the default model")
    right.set_title("further skills, 20,000 examples")
    figure.savefig(path, dpi=100)


def _bars(axes: Axes, found: Mapping[str, Report], colours: Sequence[str]) -> None:
    names = [*(name for name in next(iter(found.values())) if name != "all"), "all"]
    for number, ((label, shares), colour) in enumerate(zip(found.items(), colours, strict=True)):
        heights = [100 * shares[skill]["right"] for skill in names]
        errors = [
            [100 * abs(shares[skill]["right"] - shares[skill][end]) for skill in names] for end in ("low", "high")
        ]
        places = [place + (number - 0.5) * 0.4 for place in range(len(names))]
        axes.bar(places, heights, 0.4, yerr=errors, capsize=2, label=label, color=colour)
    axes.axhline(90, linestyle=":", color="0.3", linewidth=1)
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.legend(loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*ONE, *SEVERAL):
        several = "+" if name in SEVERAL else 1
        parser.add_argument(f"--{name}", type=Path, required=True, nargs=several, help="the run's folder")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    found = gathered({name: getattr(asked, name) for name in (*ONE, *SEVERAL)})
    (asked.out / "results").mkdir(parents=True, exist_ok=True)
    (asked.out / "results" / "shape.json").write_text(json.dumps(found, indent=2) + "\n")
    chart(found, asked.out / "skills.png")
    print(f"LoRA has {found['lora_share_of_gain']:.1%} of the gain of all weights")


if __name__ == "__main__":
    main()
