from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.inference import memory
from gemwright.inference import session as rooms
from gemwright.inference.memory import MemoryShort
from gemwright.inference.session import CHUNKS, ContextFull, Session, chunk_length
from gemwright.model import Model
from tests.tiny import CONFIG, uncached_logits
from tests.tolerances import SAME

TOLERANCE = 10 * SAME  # sharp weights amplify: another order of sums moves logits by 3e-5


def ids(length: int, seed: int = 0) -> list[int]:
    return [2, *np.random.default_rng([seed, length]).integers(108, CONFIG.vocab_size, length - 1).tolist()]


def long_context(model: Model, *windows: int | None) -> Model:
    return replace(model, config=replace(model.config, max_positions=1024, windows=windows or CONFIG.windows))


def start(model: Model, tokens: list[int], capacity: int = 0) -> Session:
    session = Session(model.weights, model.config, 1, capacity or len(tokens))
    session.extend([tokens])
    return session


def assert_holds(session: Session, model: Model, tokens: list[int]) -> None:
    """The next logits are those of one pass over the tokens without a cache."""
    assert session.tokens == [tokens]
    expected = uncached_logits(model, tokens)[-1]
    np.testing.assert_allclose(np.asarray(session.logits())[0], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 24, 25, 64, 70, 128])
def test_any_prompt_length_gives_the_logits_of_one_pass(tiny: Model, length: int) -> None:
    assert_holds(start(tiny, ids(length)), tiny, ids(length))


def test_rows_of_unequal_length_are_as_each_alone(tiny: Model) -> None:
    rows = [ids(3), ids(40), ids(1), ids(23)]
    session = Session(tiny.weights, tiny.config, len(rows), 128)
    session.extend(rows)
    session.extend([[300], [], [301, 302], [303] * 20])
    for index, added in enumerate(([300], [], [301, 302], [303] * 20)):
        expected = uncached_logits(tiny, [*rows[index], *added])[-1]
        np.testing.assert_allclose(np.asarray(session.logits())[index], expected, rtol=0, atol=TOLERANCE)


def test_one_program_serves_many_prompt_lengths(tiny: Model) -> None:
    before = rooms._read._cache_size()
    for length in range(1, 120, 7):
        session = start(tiny, ids(length))
        session.step(jnp.asarray([300], jnp.int32), [True])
    assert rooms._read._cache_size() - before <= len(CHUNKS) + 1


def test_a_chunk_is_the_shortest_that_serves_or_the_longest() -> None:
    assert [chunk_length(n) for n in (1, 16, 17, 256, 257)] == [16, 16, 64, 256, 256]


@pytest.mark.parametrize("windows", [CONFIG.windows, (300, None)], ids=["turned ring", "ring that still grows"])
def test_a_cache_that_grows_gives_the_same_as_one_made_large(tiny: Model, windows: tuple[int | None, ...]) -> None:
    model, tokens = long_context(tiny, *windows), ids(280)
    session = start(model, tokens[:250])
    assert session.capacity == 256
    for token in tokens[250:258]:
        session.step(jnp.asarray([token], jnp.int32), [True])
    assert session.capacity == 512
    session.extend([tokens[258:]])
    assert_holds(session, model, tokens)


def test_a_full_context_is_refused_before_anything_is_read(tiny: Model) -> None:
    session = start(tiny, ids(120))
    with pytest.raises(ContextFull, match="129 tokens do not fit the context of 128"):
        session.extend([[300] * 9])
    session.extend([[300] * 8])
    assert_holds(session, tiny, [*ids(120), *[300] * 8])
    with pytest.raises(ContextFull, match="is full"):
        session.step(jnp.asarray([300], jnp.int32), [True])


@pytest.mark.parametrize("wrong", [-1, CONFIG.vocab_size])
def test_a_token_outside_the_vocabulary_is_refused(tiny: Model, wrong: int) -> None:
    session = start(tiny, ids(5))
    with pytest.raises(ValueError, match=f"token {wrong} is not in the vocabulary of 720"):
        session.extend([[300, wrong]])
    assert_holds(session, tiny, ids(5))


def test_an_empty_row_is_refused(tiny: Model) -> None:
    with pytest.raises(ValueError, match="begin it with BOS"):
        Session(tiny.weights, tiny.config, 2).extend([[2], []])


# ----------------------------------------------------------------------------------------- memory


def test_a_cache_that_does_not_fit_the_memory_is_refused_before_it_is_taken(tiny: Model) -> None:
    config = replace(tiny.config, max_positions=2**40)
    with pytest.raises(MemoryShort, match=r"the cache of 3 x 274877906944 tokens needs \d+\.\d\d GB, .* GB are free"):
        Session(tiny.weights, config, 3, 2**38)


def test_a_cache_that_cannot_grow_stays_as_it_is(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = long_context(tiny, None)
    session = start(model, ids(20))
    monkeypatch.setattr(memory, "free_bytes", lambda: 10_000)
    with pytest.raises(MemoryShort, match=r"cache of 1 x 512 tokens needs 0\.00 GB, 0\.00 GB are free: take a shorter"):
        session.extend([[300] * 300])
    session.extend([[300] * 30])
    assert session.capacity == 256
    assert_holds(session, model, [*ids(20), *[300] * 30])


def test_free_memory_is_the_least_of_what_the_machine_and_its_container_have(tmp_path, monkeypatch) -> None:
    machine = memory.free_bytes()
    if machine is None:
        pytest.skip("this system does not say how much memory is free")
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    for name, text in {"max": "5000", "current": "3000", "stat": "anon 2500\nfile 400\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_bytes() == 2400
    (tmp_path / "memory.max").write_text("max\n")
    assert (memory.free_bytes() or 0) > 1_000_000


# ------------------------------------------------------------------------------------- going back


@pytest.fixture
def unwindowed(tiny: Model) -> Model:
    return replace(tiny, config=replace(tiny.config, windows=(None,)))


@pytest.mark.parametrize(
    ("held", "wanted", "kept"),
    [
        (ids(30), ids(30), 29),  # the last token is read again, for its logits
        (ids(30), [*ids(30), 300, 301], 30),
        (ids(30), [*ids(30)[:12], 300, 301], 12),
        (ids(30), ids(30)[:9], 8),
        (ids(30), [2, 301, 302], 1),
    ],
    ids=["same", "longer", "forked", "shorter", "other"],
)
def test_going_on_from_a_shared_prefix_equals_a_fresh_start(
    unwindowed: Model, held: list[int], wanted: list[int], kept: int
) -> None:
    session = start(unwindowed, held, capacity=128)
    assert session.advance_to(wanted) == kept
    assert_holds(session, unwindowed, wanted)


def test_a_ring_that_has_not_turned_goes_back(tiny: Model) -> None:
    session = start(tiny, ids(24), capacity=128)
    assert session.advance_to([*ids(24)[:10], 300]) == 10
    assert_holds(session, tiny, [*ids(24)[:10], 300])


def test_a_ring_that_has_turned_starts_anew(tiny: Model) -> None:
    session = start(tiny, ids(40), capacity=128)
    assert session.advance_to([*ids(40)[:30], 300]) == 0
    assert_holds(session, tiny, [*ids(40)[:30], 300])


def test_a_ring_that_has_turned_still_goes_forward(tiny: Model) -> None:
    session = start(tiny, ids(40), capacity=128)
    assert session.advance_to([*ids(40), 300]) == 40
    assert_holds(session, tiny, [*ids(40), 300])
