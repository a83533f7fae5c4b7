"""How far two computations of the same thing may differ. Fixed here, never widened to make a test pass."""

LOGITS = 1e-4
"""Float32 logits of a tiny sharp model against another implementation: absolute."""

SAME = 1e-5
"""Two paths of ours that mean the same (cached and whole, padded and alone, packed and apart), and a
float32 operation against float64: absolute."""

UNDONE = 10 * LOGITS
"""What a trap undone must move the logits by, at least, or the comparison would not have seen it."""

BFLOAT16 = 2.0**-8
"""One rounding to bfloat16: relative."""

CACHE_8_BITS = 0.03
"""Attention over a cache of 8 bits against one of float32: of the largest value. A code is off by 0.4% of its head's
largest value at most, in the keys and in the values."""

AFTER_STEPS = 1e-4
"""Losses and weights after some steps of training whose sums were taken in another order: absolute. Muon divides by
singular values, the smallest of which are noise."""
