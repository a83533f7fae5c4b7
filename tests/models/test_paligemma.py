"""What PaliGemma promises beside parity: sizes, one prefix, paths that agree, each trap undone (see test_traps)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.module import abstract, count, named_leaves
from gemwright.core.names import translate
from gemwright.models import gemma, paligemma
from gemwright.models.gemma import Gemma
from gemwright.models.paligemma import PRESETS, Config, PaliGemma
from tests.parity.cases import MODERATE
from tests.parity.pictures import ours
from tests.parity.pictures.cases import LENGTHS, PAIRS, PROMPTS, Pair, pair_weights, pixels_of, tokens_of
from tests.parity.pictures.stored import stored
from tests.tolerances import LOGITS, SAME, UNDONE

PARAMETERS = {
    "paligemma-3b-224": 2_923_335_408,
    "paligemma-3b-448": 2_924_220_144,
    "paligemma-3b-896": 2_927_759_088,
    "paligemma2-3b-224": 3_032_094_960,
    "paligemma2-3b-448": 3_032_979_696,
    "paligemma2-3b-896": 3_036_518_640,
    "paligemma2-10b-224": 9_662_409_456,
    "paligemma2-10b-448": 9_663_294_192,
    "paligemma2-10b-896": 9_666_833_136,
    "paligemma2-28b-224": 27_650_192_112,
    "paligemma2-28b-448": 27_651_076_848,
    "paligemma2-28b-896": 27_654_615_792,
}

each = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def logits(pair: Pair, weights: PaliGemma, prompts: tuple[int, ...] = PROMPTS, config: Config | None = None) -> list:
    """(length of the row, V) a row. A new jit each time: no trace outlives a monkeypatch."""
    config = config or pair.config
    pixels, tokens = pixels_of(pair.config.vision, 0), tokens_of(pair, 0)
    arrays = map(jnp.asarray, (pixels, tokens, prompts, LENGTHS))
    found = jax.jit(lambda weights, *arrays: ours.run.__wrapped__(weights, *arrays, None, config)[0])(weights, *arrays)
    return [row[:length] for row, length in zip(np.asarray(found), LENGTHS, strict=True)]


def difference(
    pair: Pair, weights: PaliGemma | None = None, prompts: tuple[int, ...] = PROMPTS, config: Config | None = None
) -> float:
    """The largest difference to the oracle's logits."""
    found = logits(pair, weights or pair_weights(pair, 0), prompts, config)
    expected = [stored(pair.name)[part][0] for part in ("first", "second")]
    return max(float(np.abs(row - other).max()) for row, other in zip(found, expected, strict=True))


# ------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("preset", PRESETS)
def test_specs_count_the_parameters_to_the_unit(preset: str) -> None:
    assert count(PaliGemma.specs(PRESETS[preset])) == PARAMETERS[preset]


def test_every_preset_has_a_known_count() -> None:
    assert set(PARAMETERS) == set(PRESETS)


@pytest.mark.parametrize("preset", ["paligemma-3b-224", "paligemma2-28b-896"])
def test_a_preset_runs_in_bfloat16_at_full_size_without_allocating(preset: str) -> None:
    config = PRESETS[preset]
    weights = abstract(PaliGemma.specs(config), jnp.dtype(jnp.bfloat16))
    side = config.vision.image_size
    given = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32), jax.ShapeDtypeStruct((1, 6), jnp.int32)

    def call(weights: PaliGemma, pixels: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden, _ = weights.read(pixels, tokens, config, prompts=jnp.array([4]))
        return hidden, weights.logits(hidden, config)

    hidden, logits = jax.eval_shape(call, weights, *given)
    assert (hidden.shape, hidden.dtype) == ((1, 6, config.decoder.embed_dim), jnp.bfloat16)
    assert (logits.shape, logits.dtype) == ((1, 6, 257_152), jnp.float32)


def test_every_weight_has_a_name_in_the_files_of_others() -> None:
    for pair in PAIRS:
        table = paligemma.HUGGING_FACE_NAMES[pair.config.family]
        names = translate(named_leaves(PaliGemma.specs(pair.config)), table).values()
        assert len(set(names)) == len(names)
        assert {name.partition(".")[0] for name in names} == {
            "vision_tower", "multi_modal_projector", "language_model",
        }  # fmt: skip


# ------------------------------------------------------------------------------------------- paths


@each
def test_answers_step_by_step_equal_one_pass(pair: Pair) -> None:
    weights, tokens = pair_weights(pair, 1, MODERATE), tokens_of(pair, 1)
    pixels = pixels_of(pair.config.vision, 1)
    rows = zip(
        ours.steps(weights, pair.config, pixels, tokens),
        ours.whole(weights, pair.config, pixels, tokens),
        strict=True,
    )
    for stepped, whole in rows:
        np.testing.assert_allclose(stepped, whole, rtol=0, atol=SAME)


@each
def test_what_stands_in_the_padding_changes_nothing(pair: Pair) -> None:
    weights, pixels, tokens = pair_weights(pair, 1, MODERATE), pixels_of(pair.config.vision, 1), tokens_of(pair, 1)
    shorter = jnp.asarray([length - 3 for length in LENGTHS])
    given = jnp.asarray(pixels), jnp.asarray(tokens), jnp.asarray(PROMPTS), shorter
    found, _ = ours.run(weights, *given, None, pair.config)
    for row, whole in enumerate(ours.whole(weights, pair.config, pixels, tokens)):
        length = int(shorter[row])
        np.testing.assert_allclose(np.asarray(found)[row, :length], whole[:length], rtol=0, atol=SAME)


@each
def test_an_answers_later_tokens_change_nothing_before_them(pair: Pair) -> None:
    weights, pixels, tokens = pair_weights(pair, 1, MODERATE), pixels_of(pair.config.vision, 1), tokens_of(pair, 1)
    changed = tokens.copy()
    changed[:, 10] = (changed[:, 10] + 1) % pair.config.decoder.vocab_size
    before = ours.whole(weights, pair.config, pixels, tokens)
    after = ours.whole(weights, pair.config, pixels, changed)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(old[:10], new[:10], rtol=0, atol=SAME)
        assert np.abs(old[10:] - new[10:]).max() > UNDONE


# ------------------------------------------------------------------------------------------- traps


@each
def test_with_no_trap_undone_the_oracle_is_met(pair: Pair) -> None:
    assert difference(pair) <= LOGITS


@each
def test_the_prompt_sees_what_follows_in_it(pair: Pair) -> None:
    assert difference(pair, prompts=(0, 0)) > UNDONE  # the picture alone sees itself whole


@each
def test_the_picture_sees_the_prompt_and_its_own_patches(pair: Pair) -> None:
    patches = pair.config.vision.patches
    assert difference(pair, prompts=(-patches, -patches)) > UNDONE  # purely causal


@each
def test_the_answer_sees_only_what_stands_before_it(pair: Pair) -> None:
    assert difference(pair, prompts=LENGTHS) > UNDONE


@each
@pytest.mark.parametrize("error", [-1, 1])
def test_the_prompt_ends_after_its_newline(pair: Pair, error: int) -> None:
    assert difference(pair, prompts=tuple(prompt + error for prompt in PROMPTS)) > UNDONE


@each
@pytest.mark.parametrize("exponent", [0.5, -0.5], ids=["like tokens", "divided"])
def test_pictures_are_not_scaled(pair: Pair, exponent: float) -> None:
    weights = pair_weights(pair, 0)
    factor = pair.config.decoder.embed_dim**exponent
    scaled = dataclasses.replace(
        weights.projector, matrix=weights.projector.matrix * factor, bias=weights.projector.bias * factor
    )
    assert difference(pair, dataclasses.replace(weights, projector=scaled)) > UNDONE


@each
def test_the_projector_has_a_bias(pair: Pair) -> None:
    weights = pair_weights(pair, 0)
    bare = dataclasses.replace(weights.projector, bias=weights.projector.bias * 0)
    assert difference(pair, dataclasses.replace(weights, projector=bare)) > UNDONE


@each
def test_the_picture_comes_before_the_text(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Gemma.run

    def text_first(self: Gemma, x: jax.Array, step: gemma.Step, config: gemma.Config, cache: None) -> tuple:
        count = pair.config.vision.patches
        x = jnp.concatenate([x[:, count:], x[:, :count]], axis=1)
        hidden, cache = run(self, x, step, config, cache)
        return jnp.concatenate([hidden[:, -count:], hidden[:, :-count]], axis=1), cache

    monkeypatch.setattr(Gemma, "run", text_first)
    assert difference(pair) > UNDONE


def test_within_the_prefix_no_window_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, visible = PAIRS[1], gemma.Step.visible

    def windowed(self: gemma.Step, window: int | None) -> jax.Array:
        if window is None:
            return visible(self, window)
        distance = self.positions[:, :, None] - self.positions[:, None, :]
        return visible(self, window) & (jnp.abs(distance) < window)

    monkeypatch.setattr(gemma.Step, "visible", windowed)
    assert difference(pair) > UNDONE


def test_paligemma_2_keeps_windows_and_caps_as_transformers_does() -> None:
    pair = PAIRS[1]
    for change in ({"windows": (None,)}, {"final_cap": None}, {"attention_cap": None}):
        config = dataclasses.replace(pair.config, decoder=dataclasses.replace(pair.config.decoder, **change))
        assert difference(pair, config=config) > UNDONE


def test_a_cache_holds_pictures_and_prompts_and_no_padding() -> None:
    pair = PAIRS[0]
    pixels, tokens = pixels_of(pair.config.vision, 0), tokens_of(pair, 0)
    _, cache = ours.prefilled(pair_weights(pair, 0), pair.config, pixels, tokens, max(LENGTHS))
    for layer in cache:
        for row, prompt in enumerate(PROMPTS):
            kept = sorted(position for position in layer.positions[row].tolist() if position >= 0)
            assert kept == list(range(pair.config.vision.patches + prompt))
