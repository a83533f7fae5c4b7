"""The classical baseline against a slow one of dictionaries, written from the formulas of Chen and Goodman."""

from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest

from benchmarks.kneser_ney import KneserNey

BOS, VOCAB, ORDER = 0, 300, 3
NGram = tuple[int, ...]


def zipf_stream(tokens: int, seed: int) -> np.ndarray:
    """Documents of some 12 tokens with many rare and few common ones, and some memory."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, VOCAB) ** 1.2
    drawn = rng.choice(np.arange(1, VOCAB), tokens, p=shares / shares.sum())
    again = rng.random(tokens) < 0.3
    drawn[2:][again[2:]] = drawn[:-2][again[2:]]
    drawn[rng.random(tokens) < 0.08] = BOS
    drawn[0] = BOS
    return drawn.astype(np.uint16)


class Slow:
    def __init__(self, stream: np.ndarray) -> None:
        documents: list[list[int]] = []
        for token in stream.tolist():
            documents.append([BOS]) if token == BOS else documents[-1].append(token)
        self.counts: dict[int, Counter[NGram]] = {}
        for length in range(ORDER, 0, -1):
            grams = [tuple(d[i : i + length]) for d in documents for i in range(len(d) - length + 1)]
            seen = Counter(gram for gram in grams if gram[-1] != BOS)
            if length < ORDER:
                opening = {gram: count for gram, count in seen.items() if gram[0] == BOS}
                seen = Counter(gram[1:] for gram in self.counts[length + 1]) + Counter(opening)
            self.counts[length] = seen
        self.followers: dict[NGram, dict[int, int]] = defaultdict(dict)
        for seen in self.counts.values():
            for gram, count in seen.items():
                self.followers[gram[:-1]][gram[-1]] = count
        self.discount, self.share = cache(self.discount), cache(self.share)

    def discount(self, length: int, count: int) -> float:
        n = Counter(self.counts[length].values())
        y = n[1] / (n[1] + 2 * n[2])
        at = min(count, 3)
        return at - (at + 1) * y * n[at + 1] / n[at]

    def share(self, context: NGram, token: int) -> float:
        length = len(context) + 1
        below = self.share(context[1:], token) if context else 1 / VOCAB
        followers = self.followers.get(context)
        if followers is None:
            return below
        total = sum(followers.values())
        left = sum(self.discount(length, count) for count in followers.values()) / total
        count = followers.get(token, 0)
        return (count - self.discount(length, count) if count else 0.0) / total + left * below


TRAINED = zipf_stream(3000, 0)


@pytest.fixture(scope="module")
def fast() -> KneserNey:
    return KneserNey(TRAINED, VOCAB, BOS, ORDER)


@pytest.fixture(scope="module")
def slow() -> Slow:
    return Slow(TRAINED)


def test_bits_equal_those_of_the_slow_one(fast: KneserNey, slow: Slow) -> None:
    other = zipf_stream(150, 1)
    bits, context = 0.0, (BOS,)
    for token in other[1:].tolist():
        if token == BOS:
            context = (BOS,)
            continue
        bits -= np.log2(slow.share(context[-(ORDER - 1) :], token))
        context = (*context, token)
    assert fast.bits_of(other) == pytest.approx(bits, rel=1e-9)


@pytest.mark.parametrize("context", [(), (1,), (3, 1), (299, 298), (1, 1, 2, 7)])
def test_shares_of_the_whole_vocabulary_sum_to_one(fast: KneserNey, slow: Slow, context: NGram) -> None:
    """BOS is never predicted; it has its part of the uniform distribution nevertheless."""
    known = (BOS, *context)
    before = fast.bits_of(np.array(known))
    shares = [2 ** (before - fast.bits_of(np.array([*known, token]))) for token in range(1, VOCAB)]
    of_bos = slow.share(known[-(ORDER - 1) :], BOS)
    assert sum(shares) + of_bos == pytest.approx(1, abs=1e-9)
    assert of_bos < 1 / VOCAB


def test_text_like_the_training_text_costs_fewer_bits_than_chance(fast: KneserNey) -> None:
    other = zipf_stream(500, 2)
    assert fast.bits_of(other) < 0.9 * np.log2(VOCAB) * (other != BOS).sum()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 63 bits"):
        KneserNey(TRAINED, 256_000, BOS, 5)
    with pytest.raises(ValueError, match="too little text for Kneser-Ney"):
        KneserNey(np.array([BOS, 1, 2]), VOCAB, BOS, ORDER)
