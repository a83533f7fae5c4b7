"""A run told to a reader: one HTML page, which needs nothing beside it."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path

from gemwright.data.leaks.contamination import Contamination, count_name
from gemwright.data.pipeline import plots
from gemwright.data.pipeline.account import Account
from gemwright.data.pipeline.page import table, write_page
from gemwright.data.pipeline.tokens import Counts
from gemwright.data.rules.language import count_name as language_count

_LANGUAGE = language_count("")


def write_report(
    path: Path, accounts: Mapping[str, Account], tokens: Counts | None, leaks: Mapping[str, Contamination]
) -> None:
    """What came in, what each step kept and dropped, with samples, and what could not be read."""
    write_page(path, "Documents", _parts(accounts, tokens, leaks))


def _parts(accounts: Mapping[str, Account], tokens: Counts | None, leaks: Mapping[str, Contamination]) -> Iterator[str]:
    first, last = next(iter(accounts.values())), list(accounts.values())[-1]
    share = last.kept / max(first.read, 1)
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
    heads = ("benchmark", "items", "too short to look for", "found", "times")
    numbers = {name: (row.items, row.too_short, row.found, row.times) for name, row in rows.items()}
    return table(heads, [(name, *(f"{number:,}" for number in found)) for name, found in numbers.items()])


def _table(heads: tuple[str, str], counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    rows = sorted(counts.items(), key=lambda item: -item[1])
    return table(heads, [(name, f"{count:,}") for name, count in rows])
