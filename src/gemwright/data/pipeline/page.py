"""One HTML page that needs nothing beside it: how reports look, light or dark as their reader's screen."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from gemwright.data.pipeline import plots
from gemwright.data.pipeline.shards import write_whole

_STYLE = (
    """
:root { color-scheme: light dark; --ink: #222; --soft: #666; --line: #ccc; --paper: #fff; --shade: #f4f4f2;
  --kept: #3b6ea5; --lost: #c4663a; --came: #c9d3de }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e0; --soft: #a2a29c; --line: #444; --paper: #181818;
  --shade: #242424; --kept: #6fa3d8; --lost: #dd8457; --came: #46505c } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink);
  background: var(--paper) }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
td, th { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
details { margin: .3rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--shade); padding: .5rem }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin: 0 .3rem 0 .8rem }
"""
    + plots.STYLE
)


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write the page whole.

    Args:
      parts: HTML of its body.
    """
    head = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    page = "\n".join([head, f"<title>{escape(title)}</title><style>{_STYLE}</style>", *parts])

    def write(partial: Path) -> None:
        partial.write_text(page, encoding="utf-8")

    write_whole(path, write)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Texts in rows; all columns but the first are numbers, and stand at the right."""
    first, *others = heads
    top = f"<tr><th>{escape(first)}" + "".join(f"<th class=n>{escape(head)}" for head in others)
    body = (
        f"<tr><td>{escape(name)}" + "".join(f"<td class=n>{escape(text)}" for text in texts) for name, *texts in rows
    )
    return f"<table>{top}{''.join(body)}</table>"
