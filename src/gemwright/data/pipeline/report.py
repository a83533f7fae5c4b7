"""A run told to a reader: one HTML page, which needs nothing beside it."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path

from gemwright.data.leaks.contamination import Contamination, count_name
from gemwright.data.pipeline.account import Account
from gemwright.data.pipeline.shards import write_whole

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
td, th { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.bar { background: #3b6ea5; height: .8rem; min-width: 1px } .lost { background: #c4663a }
td.b { width: 40% } details { margin: .3rem 0 } pre { white-space: pre-wrap; background: #f6f6f4; padding: .5rem }
"""


def write_report(
    path: Path, accounts: Mapping[str, Account], tokens: Mapping[str, int], leaks: Mapping[str, Contamination]
) -> None:
    """What came in, what each step kept and dropped, with samples, and what could not be read."""
    page = "\n".join(_page(accounts, tokens, leaks))
    write_whole(path, lambda partial: _write(partial, page))


def _write(path: Path, page: str) -> None:
    path.write_text(page, encoding="utf-8")


def _page(
    accounts: Mapping[str, Account], tokens: Mapping[str, int], leaks: Mapping[str, Contamination]
) -> Iterator[str]:
    first, last = next(iter(accounts.values())), list(accounts.values())[-1]
    share = last.kept / max(first.read, 1)
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>Documents</title><style>{_STYLE}</style>"
    yield f"<h1>{first.read:,} documents in, {last.kept:,} kept ({share:.1%})</h1>"
    lost = first.quarantined.total()
    yield f"<p>{first.read - last.kept - lost:,} were dropped by a step, {lost:,} could not be read. "
    yield "Each one is accounted for: in = kept + dropped + could not be read.</p>"
    if tokens:
        yield "<p>" + ", ".join(f"{count:,} tokens to {_split(name)}" for name, count in tokens.items()) + ".</p>"
    yield "<h2>What was left after each step</h2>" + _bars(
        [("read", first.read), *((n, a.kept) for n, a in accounts.items())]
    )
    for name, account in accounts.items():
        yield from _step(name, account)
    if leaks:
        yield "<h2>Benchmarks</h2>" + _benchmarks(leaks)
    yield "<h2>What could not be read</h2>"
    yield _bars(first.quarantined.most_common(), lost=True) if lost else "<p>Nothing.</p>"


def _split(name: str) -> str:
    return {"train": "train on", "heldout": "hold out"}.get(name, name)


def _step(name: str, account: Account) -> Iterator[str]:
    yield f"<h2>{escape(name)}: {account.dropped.total():,} dropped</h2>"
    if account.dropped:
        yield _bars(account.dropped.most_common(), lost=True)
    others = {what: count for what, count in account.counts.items() if not what.startswith(count_name("", "")[:7])}
    if others:
        yield _bars(sorted(others.items(), key=lambda item: -item[1]))
    for reason, samples in sorted(account.samples.items()):
        texts = "".join(f"<pre><b>{escape(s['id'])}</b>\n{escape(s['text'])}</pre>" for s in samples)
        yield f"<details><summary>Samples: {escape(reason)}</summary>{texts}</details>"


def _benchmarks(rows: Mapping[str, Contamination]) -> str:
    cells = "".join(
        f"<tr><td>{escape(name)}<td class=n>{row.items:,}<td class=n>{row.too_short:,}"
        f"<td class=n>{row.found:,}<td class=n>{row.times:,}"
        for name, row in rows.items()
    )
    return f"<table><tr><th>benchmark<th>items<th>too short to look for<th>found<th>times{cells}</table>"


def _bars(rows: Iterable[tuple[str, int]], lost: bool = False) -> str:
    rows = list(rows)
    most = max((count for _, count in rows), default=0) or 1
    kind = "bar lost" if lost else "bar"
    cells = (
        f"<tr><td>{escape(name)}<td class=n>{count:,}<td class=b>"
        f"<div class='{kind}' style='width:{100 * count / most:.1f}%'></div>"
        for name, count in rows
    )
    return f"<table>{''.join(cells)}</table>"
