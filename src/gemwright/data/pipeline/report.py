"""A run told to a reader: one HTML page, which needs nothing beside it."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path

from gemwright.data.leaks.contamination import Contamination, count_name
from gemwright.data.pipeline import plots
from gemwright.data.pipeline.account import Account
from gemwright.data.pipeline.shards import write_whole
from gemwright.data.pipeline.tokens import Counts
from gemwright.data.rules.language import count_name as language_count

_LANGUAGE = language_count("")

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


def write_report(
    path: Path, accounts: Mapping[str, Account], tokens: Counts | None, leaks: Mapping[str, Contamination]
) -> None:
    """What came in, what each step kept and dropped, with samples, and what could not be read."""
    page = "\n".join(_page(accounts, tokens, leaks))
    write_whole(path, lambda partial: _write(partial, page))


def _write(path: Path, page: str) -> None:
    path.write_text(page, encoding="utf-8")


def _page(accounts: Mapping[str, Account], tokens: Counts | None, leaks: Mapping[str, Contamination]) -> Iterator[str]:
    first, last = next(iter(accounts.values())), list(accounts.values())[-1]
    share = last.kept / max(first.read, 1)
    yield "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    yield f"<title>Documents</title><style>{_STYLE}</style>"
    yield f"<h1>{first.read:,} documents in, {last.kept:,} kept ({share:.1%})</h1>"
    lost = first.quarantined.total()
    yield f"<p>{first.read - last.kept - lost:,} were dropped by a step, {lost:,} could not be read. "
    yield "Each one is accounted for: in = kept + dropped + could not be read.</p>"
    yield "<h2>What each step kept and dropped</h2><p>" + _key(("kept", "kept"), ("lost", "dropped")) + "</p>"
    yield plots.flow([(name, account.kept, account.dropped) for name, account in accounts.items()])
    yield from _shape(first, last)
    if languages := _languages(accounts.values()):
        yield "<h2>Languages</h2><p>Of the documents whose language was looked at, kept or not.</p>"
        yield plots.shares(languages, "documents")
    if tokens:
        yield "<h2>Tokens by source</h2><p>"
        yield ", ".join(f"{n:,} tokens to {_split(name)}" for name, n in reversed(tokens.tokens.items())) + ".</p>"
        yield plots.shares(tokens.sources, "tokens")
    yield "<h2>Step by step</h2>"
    for name, account in accounts.items():
        yield from _step(name, account)
    if leaks:
        yield "<h2>Benchmarks</h2>" + _benchmarks(leaks)
    yield "<h2>What could not be read</h2>"
    yield plots.shares(first.quarantined, "records") if lost else "<p>Nothing.</p>"


def _split(name: str) -> str:
    return {"train": "train on", "heldout": "hold out"}.get(name, name)


def _key(*entries: tuple[str, str]) -> str:
    return "".join(f"<span class=key style='background:var(--{kind})'></span>{text}" for kind, text in entries)


def _shape(first: Account, last: Account) -> Iterator[str]:
    """Lengths and sources of what came in and of what was kept at the end."""
    both = "<p>" + _key(("came", "came in"), ("kept", "kept at the end")) + "</p>"
    if first.came.lengths:
        yield "<h2>Lengths of documents</h2>" + both + plots.lengths(first.came.lengths, last.left.lengths)
        yield "<p>Under each column the least number of characters in it; the next one begins at twice as many.</p>"
        yield "<h2>Documents by source</h2>" + both + plots.pairs(first.came.sources, last.left.sources)


def _languages(accounts: Iterable[Account]) -> dict[str, int]:
    """By the first step that looked."""
    counted = ({n.removeprefix(_LANGUAGE): c for n, c in a.counts.items() if n.startswith(_LANGUAGE)} for a in accounts)
    return next(filter(None, counted), {})


def _step(name: str, account: Account) -> Iterator[str]:
    yield f"<h3>{escape(name)}: {account.dropped.total():,} dropped</h3>"
    yield _table(("why dropped", "documents"), account.dropped)
    hidden = (count_name("", "")[:7], _LANGUAGE)  # told of elsewhere on the page
    yield _table(("also", "times"), {what: n for what, n in account.counts.items() if not what.startswith(hidden)})
    for reason, samples in sorted(account.samples.items()):
        texts = "".join(f"<pre><b>{escape(s['id'])}</b>\n{escape(s['text'])}</pre>" for s in samples)
        yield f"<details><summary>Samples: {escape(reason)}</summary>{texts}</details>"


def _benchmarks(rows: Mapping[str, Contamination]) -> str:
    cells = "".join(
        f"<tr><td>{escape(name)}<td class=n>{row.items:,}<td class=n>{row.too_short:,}"
        f"<td class=n>{row.found:,}<td class=n>{row.times:,}"
        for name, row in rows.items()
    )
    heads = "".join(f"<th class=n>{name}" for name in ("items", "too short to look for", "found", "times"))
    return f"<table><tr><th>benchmark{heads}{cells}</table>"


def _table(heads: tuple[str, str], counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    rows = sorted(counts.items(), key=lambda item: -item[1])
    cells = "".join(f"<tr><td>{escape(name)}<td class=n>{count:,}" for name, count in rows)
    return f"<table><tr><th>{heads[0]}<th class=n>{heads[1]}{cells}</table>"
