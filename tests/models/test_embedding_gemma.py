"""EmbeddingGemma beside a plain loop in float64, and what padding and the other texts of a call must not change."""

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.module import count, named_leaves
from gemwright.models.embedding_gemma import PRESETS, EmbeddingGemma
from tests.core.reference import attend, rms_norm, rotate
from tests.sentence_folders import CONFIG, TEXT, sharp
from tests.tolerances import SAME, UNDONE

LENGTH = 13


def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, TEXT.vocab_size, (2, LENGTH))


def embedded(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return np.asarray(sharp()(jnp.asarray(rows), CONFIG, positions=jnp.asarray(positions)))


def reference(row: np.ndarray, windows: tuple[int | None, ...] = TEXT.windows) -> np.ndarray:
    """One text, float64: every token sees those nearer than the window on both sides."""
    w = {name: np.asarray(value, np.float64) for name, value in named_leaves(sharp()).items()}
    x = w["text.embedding"][row][None] * np.sqrt(TEXT.embed_dim)
    places = np.arange(len(row))
    for number in range(TEXT.num_layers):
        p = {k.removeprefix(f"text.layers.{number}."): v for k, v in w.items() if f".layers.{number}." in k}
        window = windows[number % len(windows)]
        near = np.abs(places[:, None] - places) < (window or len(row))
        base = TEXT.rope_base if window is None else TEXT.local_rope_base
        h = rms_norm(x, p["attention_norm"], 1e-6)
        q, k, v = (np.einsum("btd,hkd->bthk", h, p[f"attention.{name}"]) for name in ("query", "key", "value"))
        q = rotate(rms_norm(q, p["attention.query_norm"], 1e-6), places[None], base) * TEXT.query_scale
        k = rotate(rms_norm(k, p["attention.key_norm"], 1e-6), places[None], base)
        mixed = np.einsum("bthk,dhk->btd", attend(q, k, v, near[None], None), p["attention.output"])
        x = x + rms_norm(mixed, p["attention_post_norm"], 1e-6)
        h = rms_norm(x, p["mlp_norm"], 1e-6)
        gate = h @ p["mlp.gate"].T
        gate = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        x = x + rms_norm((gate * (h @ p["mlp.up"].T)) @ p["mlp.down"].T, p["mlp_post_norm"], 1e-6)
    vector = rms_norm(x, w["text.final_norm"], 1e-6)[0].mean(axis=0)
    for layer in ("dense.0", "dense.1"):
        vector = w[layer] @ vector
    return vector / np.linalg.norm(vector)


def test_the_published_sizes_are_those_of_308_million_parameters() -> None:
    # 302,863,104 of the reader (transformers on the meta device) and two dense layers of 768 x 3072.
    assert count(EmbeddingGemma.specs(PRESETS["embeddinggemma-300m"])) == 302_863_104 + 2 * 768 * 3072


def test_a_text_is_the_float64_vector() -> None:
    rows = tokens()
    found = embedded(rows, np.broadcast_to(np.arange(LENGTH), rows.shape))
    np.testing.assert_allclose(found, [reference(row) for row in rows], rtol=0, atol=SAME)


@pytest.mark.parametrize("windows", [(3, 3, None), (5, 5, None), (None, None, None)])
def test_another_window_would_be_seen(windows: tuple[int | None, ...]) -> None:
    row = tokens()[0]
    assert np.abs(reference(row, windows) - reference(row)).max() > UNDONE


def test_padding_and_the_texts_beside_change_nothing() -> None:
    rows = tokens()
    places = np.broadcast_to(np.arange(LENGTH), rows.shape).copy()
    places[1, 6:] = -1
    alone = embedded(rows[1:, :6], places[1:, :6])
    np.testing.assert_allclose(embedded(rows, places)[1:], alone, rtol=0, atol=SAME)
