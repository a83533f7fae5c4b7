"""The page on models: each architecture drawn from its Specs, and what its presets count.

    python -m recipes.models_page

Writes what stands between the marks of `docs/models.md` anew; a test holds the page to it.
"""

import re
from io import StringIO
from pathlib import Path

from rich.console import Console

from gemwright.cli.summary import tree
from gemwright.models.family import PRESETS
from gemwright.models.summary import summarise

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
DRAWN = ("gemma-2b", "gemma2-2b", "gemma3-1b", "gemma3-4b", "recurrentgemma-2b")
_LENGTHS = (2048, 8192, 65_536)


def written(page: str) -> str:
    """The page with its drawings and its table made anew."""
    for name in DRAWN:
        page = _between(page, name, f"```\n{drawing(name)}```")
    return _between(page, "presets", table())


def _between(page: str, mark: str, text: str) -> str:
    start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    return re.sub(f"(?<={re.escape(start)}\n).*?(?={re.escape(end)})", lambda _: f"{text}\n", page, flags=re.DOTALL)


def drawing(preset: str) -> str:
    """The tree of a preset's weights; layers alike stand once."""
    text = StringIO()
    console = Console(file=text, width=100, color_system=None, force_terminal=False)
    console.print(tree(summarise(PRESETS[preset]), preset, every_layer=False))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def table() -> str:
    """Parameters of every preset, and bytes of its cache for one text."""
    heads = "".join(f" {length // 1024}K tokens |" for length in _LENGTHS)
    lines = [f"| preset | parameters | layers |{heads}", f"|---|---|---|{'---|' * len(_LENGTHS)}"]
    for name, config in PRESETS.items():
        found = summarise(config, _LENGTHS)
        sizes = "".join(
            f" {found.cache_bytes[length] / 2**20:,.0f} MiB |" if length <= config.max_positions else " – |"
            for length in _LENGTHS
        )
        lines.append(f"| {name} | {found.total:,} | {config.num_layers} |{sizes}")
    return "\n".join(lines)


def main() -> None:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
