"""Plots of a run as SVG inside the page: colours follow the reader's light or dark setting, nothing needs a script."""

from collections.abc import Mapping, Sequence
from html import escape

STYLE = """
svg { width: 100%; height: auto; margin: .3rem 0 1.5rem }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink) }
svg .soft { fill: var(--soft) } svg .end { text-anchor: end } svg .mid { text-anchor: middle }
svg .kept { fill: var(--kept) } svg .lost { fill: var(--lost) } svg .came { fill: var(--came) }
svg line { stroke: var(--line) }
svg polyline { fill: none; stroke: var(--kept); stroke-width: 2 }
"""

_WIDE, _LABEL, _NUMBER, _ROW, _BAR = 900, 250, 150, 24, 15
_SHOWN = 28  # characters of a label
_REASONS = 8  # of a step with a bar of their own
_HIGH = 220  # of a histogram's tallest column, and of a curve
_POINTS = 150  # of a curve, at most: more are joined to means


def flow(stages: Sequence[tuple[str, int, Mapping[str, int]]]) -> str:
    """What each stage left, and under it what it dropped by reason, all on the scale of what came in.

    Args:
      stages: name, documents kept, documents dropped by reason.
    """
    rows: list[tuple[str, int, str, int]] = []  # label, value, kind, where its bar begins
    for name, kept, dropped in stages:
        rows.append((name, kept, "kept", 0))
        at = kept
        for reason, count in _largest(dropped, _REASONS, "other reasons"):
            rows.append((f"– {reason}", count, "lost", at))
            at += count
    return _rows(rows, max((at + value for _, value, _, at in rows), default=1))


def shares(counts: Mapping[str, int], unit: str, most: int = 12) -> str:
    """Bars with numbers and shares, the largest first; what comes after `most` of them is one bar."""
    ordered = _largest(counts, most, "others")
    total = sum(counts.values()) or 1
    rows = [(name, count, "kept", 0) for name, count in ordered]
    return _rows(rows, ordered[0][1] if ordered else 1, f"{unit}, share of all", total)


def _largest(counts: Mapping[str, int], most: int, others: str) -> list[tuple[str, int]]:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    rest = ordered[most:]
    return ordered[:most] + ([(f"{len(rest)} {others}", sum(count for _, count in rest))] if rest else [])


def pairs(came: Mapping[str, int], left: Mapping[str, int], most: int = 12) -> str:
    """Two bars a name: how many came in and how many were left."""
    rows: list[tuple[str, int, str, int]] = []
    for name, count in sorted(came.items(), key=lambda item: -item[1])[:most]:
        rows += [(name, count, "came", 0), ("", left.get(name, 0), "kept", 0)]
    return _rows(rows, max(came.values(), default=1))


def lengths(came: Mapping[str, int], left: Mapping[str, int]) -> str:
    """Columns by powers of two: how many documents of each length came in, and before them how many were left."""
    if not came:
        return ""
    bins = range(min(map(int, came)), max(map(int, {**came, **left})) + 1)
    most = max(max(came.values()), max(left.values(), default=1))
    step = min((_WIDE - 60) / len(bins), 90)
    parts = [f"<line x1='50' x2='{_WIDE}' y1='{_HIGH + 20}' y2='{_HIGH + 20}'/>"]
    parts += [
        f"<text class='end soft' x='45' y='{_HIGH + 24 - _HIGH * k / 2:.0f}'>{most * k // 2:,}</text>" for k in (1, 2)
    ]
    for place, power in enumerate(bins):
        at = 55 + place * step
        parts += [
            _column(at, step * 0.8, came.get(str(power), 0), most, "came"),
            _column(at + step * 0.15, step * 0.5, left.get(str(power), 0), most, "kept"),
            f"<text class='mid soft' x='{at + step * 0.4:.0f}' y='{_HIGH + 38}'>{_power(power)}</text>",
        ]
    return _svg(_HIGH + 48, parts)


def curve(values: Sequence[float], across: str, up: str) -> str:
    """A line through the values of steps 1, 2, 3, ...; of many, through means of so many in a row.

    Args:
      across, up: what the axes show.
    """
    width = max(1, -(-len(values) // _POINTS))
    means = [sum(part) / len(part) for part in (values[at : at + width] for at in range(0, len(values), width))]
    if not means:
        return ""
    low, high = min(means), max(means)
    step, scale = (_WIDE - 70) / max(1, len(means) - 1), _HIGH / ((high - low) or 1)
    points = " ".join(f"{65 + n * step:.1f},{24 + (high - value) * scale:.1f}" for n, value in enumerate(means))
    bottom = _HIGH + 30
    return _svg(
        bottom + 24,
        [
            f"<line x1='60' x2='{_WIDE}' y1='{bottom}' y2='{bottom}'/>",
            f"<text class='soft end' x='55' y='28'>{high:.3g}</text>",
            f"<text class='soft end' x='55' y='{_HIGH + 28}'>{low:.3g}</text>",
            f"<text class='soft' x='65' y='14'>{escape(up)}{f', means of {width}' if width > 1 else ''}</text>",
            f"<text class='soft end' x='{_WIDE}' y='{bottom + 18}'>{escape(across)}: 1 to {len(values):,}</text>",
            f"<polyline points='{points}'/>",
        ],
    )


def _column(x: float, width: float, count: int, most: int, kind: str) -> str:
    high = _HIGH * count / most
    place = f"x='{x:.1f}' y='{_HIGH + 20 - high:.1f}' width='{width:.1f}' height='{high:.1f}'"
    return f"<rect class='{kind}' {place}><title>{count:,}</title></rect>"


def _power(power: int) -> str:
    """The least length in a bin, in short."""
    least = 1 << max(power - 1, 0)
    return str(least) if least < 1 << 10 else f"{least >> 10}K" if least < 1 << 20 else f"{least >> 20}M"


def _rows(rows: Sequence[tuple[str, int, str, int]], most: int, note: str = "", total: int = 0) -> str:
    room = _WIDE - _LABEL - _NUMBER
    parts: list[str] = [f"<text class='soft end' x='{_WIDE}' y='14'>{escape(note)}</text>"] if note else []
    top = 22 if note else 4
    for number, (label, value, kind, begin) in enumerate(rows):
        y, x, width = top + number * _ROW, _LABEL + room * begin / max(most, 1), room * value / max(most, 1)
        bar = f"x='{x:.1f}' y='{y}' width='{max(width, 1):.1f}' height='{_BAR}' rx='2'"
        share = f" ({value / total:.1%})" if total else ""
        parts += [
            f"<text class='end' x='{_LABEL - 8}' y='{y + 12}'>{_label(label)}</text>",
            f"<rect class='{kind}' {bar}/>" if value else "",
            f"<text class='end soft' x='{_WIDE}' y='{y + 12}'>{value:,}{share}</text>",
        ]
    return _svg(top + len(rows) * _ROW, parts)


def _label(name: str) -> str:
    """A long name cut, and whole where the pointer rests on it."""
    if len(name) <= _SHOWN:
        return escape(name)
    return f"{escape(name[: _SHOWN - 1])}…<title>{escape(name)}</title>"


def _svg(height: int, parts: Sequence[str]) -> str:
    return f"<svg viewBox='0 0 {_WIDE} {height}' role='img'>{''.join(parts)}</svg>"
