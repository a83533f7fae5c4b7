"""Whatever is guessed, and whichever ring turns meanwhile, the answer is that of plain decoding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.inference import speculative
from gemwright.inference.generate import decode, go_on
from gemwright.inference.guessing import Passes
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.inference.session import Session
from gemwright.inference.speculative import MOST_GUESSES, Draft, PromptLookup, Proposer, decode_speculatively
from gemwright.model import Model
from gemwright.models.gemma import Config, Gemma, gemma1
from tests.inference.eager import Eager
from tests.inference.test_engine import SAMPLINGS
from tests.inference.test_session import assert_holds, ids, start
from tests.tiny import CONFIG, sharp_weights


@dataclass
class Knowing:
    """Guesses the true answer, but every `wrong`-th token of it."""

    answer: list[int]
    wrong: int

    def propose(self, tokens: Sequence[int], most: int, count: int, sampling: Sampling) -> list[int]:
        guesses = [(t + (i % self.wrong == 0)) % CONFIG.vocab_size for i, t in enumerate(self.answer)]
        return guesses[count : count + most]


PROMPT = [*ids(20), *ids(20), *ids(20)[:5]]


def plain(model: Model, prompt: list[int], new: int, sampling: Sampling = GREEDY) -> list[int]:
    return [chosen.tokens[0] or 0 for chosen in decode(start(model, prompt, 128), new, sampling)]


def proposers(model: Model, answer: list[int]) -> dict[str, Proposer]:
    return {
        "all right": Knowing(answer, 1000),
        "some right": Knowing(answer, 3),
        "all wrong": Knowing(answer, 1),
        "lookup": PromptLookup(),
        "draft": Draft(sharp_weights(CONFIG, 0), replace(CONFIG, windows=(None,))),
    }


@pytest.mark.parametrize("name", ["all right", "some right", "all wrong", "lookup", "draft"])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "plain", "top k", "top p", "penalty"])
def test_an_answer_is_that_of_plain_decoding(tiny: Model, name: str, sampling: Sampling) -> None:
    """45 tokens before and 20 after: the ring of 24 has turned, and turns on while guesses are withdrawn."""
    answer = plain(tiny, PROMPT, 20, sampling)
    session, passes = start(tiny, PROMPT, 128), Eager()
    proposer = proposers(tiny, answer)[name]
    steps = list(decode_speculatively(session, proposer, 20, sampling, passes=passes))  # pyright: ignore
    assert [step.tokens[0] for step in steps] == answer
    assert_holds(session, tiny, [*PROMPT, *answer[:-1]])
    if name == "all right":
        assert len(passes.recorded) == -(-19 // (MOST_GUESSES + 1))


def test_while_guesses_rest_tokens_come_in_bursts_and_are_those_of_plain_decoding(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock is a millisecond after the last one, so that longer bursts are never held back."""
    model = replace(tiny, config=replace(tiny.config, max_positions=1024, windows=(None,)))
    sampling, clock, taken = SAMPLINGS[-1], count(), list[int]()

    def noted(*arguments: Any) -> Any:
        taken.append(arguments[5])
        return go_on(*arguments)

    answer = plain(model, PROMPT, 80, sampling)
    monkeypatch.setattr(speculative, "go_on", noted)
    session, passes = start(model, PROMPT, 128), Passes((1, 1 + MOST_GUESSES), lambda: next(clock) / 1000)
    steps = list(decode_speculatively(session, Knowing(answer, 1), 80, sampling, passes=passes))
    assert [step.tokens[0] for step in steps] == answer
    assert_holds(session, model, [*PROMPT, *answer[:-1]])
    assert max(taken) >= 8
    assert sum(taken) < 79  # guesses were tried again after they had rested


def test_it_ends_at_a_stop_id_and_at_the_contexts_end_as_plain_decoding_does(tiny: Model) -> None:
    answer = plain(tiny, PROMPT, 200)
    stop = answer[9]
    for stops in ((), (stop,)):
        session, other = start(tiny, PROMPT, 128), start(tiny, PROMPT, 128)
        expected = [step.tokens for step in decode(other, 200, GREEDY, stops)]
        guessed = decode_speculatively(session, Knowing(answer, 1000), 200, GREEDY, stops, Eager())  # pyright: ignore
        assert [step.tokens for step in guessed] == expected
        assert session.tokens == other.tokens


def test_several_rows_are_refused(tiny: Model) -> None:
    session = Session(tiny.weights, tiny.config, 2)
    with pytest.raises(ValueError, match="works on one row, found 2"):
        next(decode_speculatively(session, PromptLookup(), 3))


@pytest.mark.parametrize(
    ("text", "guesses"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], [4, 5, 1]),
        ([9, 2, 3, 7, 8, 2, 3, 5, 1, 2, 3], [5, 1, 2]),  # the later of two places
        ([1, 2, 9, 9, 3, 2, 4, 1, 2], [9, 9, 3]),
        ([7, 7, 7], [7]),
        ([1, 2, 3, 4], []),
        ([1], []),
    ],
)
def test_lookup_guesses_what_followed_last_time(text: list[int], guesses: list[int]) -> None:
    assert PromptLookup().propose(text, 3, 0, GREEDY) == guesses
    grown = PromptLookup()
    for length in range(1, len(text)):
        grown.propose(text[:length], 3, 0, GREEDY)
    assert grown.propose(text, 3, 0, GREEDY) == guesses


# ------------------------------------------------------------------------------------ distribution

SMALL = gemma1(
    vocab_size=8, embed_dim=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=16, max_positions=32
)


def third_token(weights: Gemma, config: Config, prompt: list[int], temperature: float) -> np.ndarray:
    """Its exact distribution, over all pairs of tokens before it."""
    size = config.vocab_size
    rows = np.array([[*prompt, a, b] for a in range(size) for b in range(size)], np.int32)
    hidden, _ = weights(jnp.asarray(rows), config)
    logits = np.asarray(weights.logits(hidden, config), np.float64)[:, len(prompt) - 1 :] / temperature
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    pairs = np.arange(size * size)
    return (shares[pairs, 0, rows[:, -2]] * shares[pairs, 1, rows[:, -1]]) @ shares[:, 2]


def test_sampled_tokens_come_as_often_as_the_model_says_whatever_the_draft_thinks() -> None:
    """The third token of 500 answers, by a draft that disagrees. 7 degrees of freedom: a right sampler's
    chi-square is above 35 once in 10^5 runs, and the seeds are fixed: it happens always or never. The
    draft's own distribution must be told apart, or the test would prove nothing."""
    target, other, draws = sharp_weights(SMALL, 1), sharp_weights(SMALL, 2), 500
    prompt, found = [2, 5, 3], np.zeros(SMALL.vocab_size)
    session, draft = Session(target, SMALL, 1), Draft(other, SMALL)
    for seed in range(draws):
        session.advance_to(prompt)
        sampling = Sampling(temperature=2.0, seed=seed)
        steps = list(decode_speculatively(session, draft, 4, sampling, passes=Eager()))  # pyright: ignore
        found[steps[2].tokens[0]] += 1

    def distance(shares: np.ndarray) -> float:
        return float(((found - draws * shares) ** 2 / (draws * shares)).sum())

    assert distance(third_token(target, SMALL, prompt, 2.0)) < 35
    assert distance(third_token(other, SMALL, prompt, 2.0)) > 35
