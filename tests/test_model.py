from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.inference.session import ContextFull
from gemwright.model import DEFAULT_MODEL, Completion, Model, load
from gemwright.text.stream import StreamDecoder
from tests.tiny import CONFIG, assert_greedy, uncached_logits
from tests.tolerances import SAME

PROMPTS = ["def main():\n", "", "import argparse, json and whatever else there is", "x"]
SAMPLED: dict[str, Any] = {"temperature": 0.9, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1}


def prompt_ids(model: Model, text: str) -> list[int]:
    return model.tokenizer.with_bos(model.tokenizer.encode(text))


# ----------------------------------------------------------------------------------------- logits


def test_logits_are_float32_by_batch_length_and_vocabulary(tiny: Model) -> None:
    rows = [prompt_ids(tiny, "import sys")[:4], prompt_ids(tiny, "return 1")[:4]]
    logits = tiny.logits(rows)
    assert (logits.shape, logits.dtype) == ((2, 4, CONFIG.vocab_size), jnp.float32)
    for row, found in zip(rows, logits, strict=True):
        np.testing.assert_allclose(found, uncached_logits(tiny, row), rtol=0, atol=10 * SAME)
    assert tiny.logits(np.array(rows[0])).shape == (1, 4, CONFIG.vocab_size)


@pytest.mark.parametrize("wrong", [[], [[]], [0.5], [-1], [[CONFIG.vocab_size]], [[[2]]], ["a"]])
def test_ids_that_are_none_are_refused(tiny: Model, wrong: Any) -> None:
    with pytest.raises(ValueError, match="token_ids: expected"):
        tiny.logits(wrong)


# --------------------------------------------------------------------------------------- token ids


def test_greedy_takes_the_likeliest_token_each_time(tiny: Model) -> None:
    prompt = prompt_ids(tiny, PROMPTS[0])
    answer = tiny.generate_ids(prompt, 60, stop_ids=())
    assert len(answer) == 60
    assert len(set(answer)) > 10, "a model that repeats itself would hide mistakes"
    assert_greedy(tiny, prompt, answer)


def test_a_batch_of_unequal_prompts_gives_each_what_it_gets_alone(tiny: Model) -> None:
    rows = [prompt_ids(tiny, text) for text in PROMPTS]
    for options in ({}, {**SAMPLED, "seed": 11}):
        together = tiny.generate_ids(rows, 30, stop_ids=(), **options)
        assert together == [tiny.generate_ids(row, 30, stop_ids=(), **options) for row in rows]


def test_the_seed_decides_the_text_alone_and_in_a_batch(tiny: Model) -> None:
    row = prompt_ids(tiny, PROMPTS[0])

    def draw(seed: Any, rows: Any = row) -> Any:
        return tiny.generate_ids(rows, 20, temperature=1.0, seed=seed, stop_ids=())

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw((1, 2, 1, 3), [row] * 4) == [draw(1), draw(2), draw(1), draw(3)]


def test_no_stop_ids_never_stop_and_the_end_of_the_context_does(tiny: Model) -> None:
    rows = [[2], [2, *[300] * 100], [2, *[301] * 127]]
    answers = tiny.generate_ids(rows, 1000, temperature=8.0, seed=(1, 2, 3), stop_ids=())
    lengths = [len(row) + len(answer) for row, answer in zip(rows, answers, strict=True)]
    assert lengths == [129] * 3, "the last token is chosen and not read"


def test_a_row_ends_after_a_stop_id_and_the_others_go_on(tiny: Model) -> None:
    rows = [prompt_ids(tiny, text) for text in PROMPTS]
    free = tiny.generate_ids(rows, 30, stop_ids=())
    stop = free[0][3]
    expected = [row[: row.index(stop) + 1] if stop in row else row for row in free]
    assert tiny.generate_ids(rows, 30, stop_ids=[stop]) == expected


def test_numbers_that_are_no_integers_are_not_rounded_to_ids(tiny: Model) -> None:
    wrong: Any = [2.0, 5.7]
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        tiny.generate_ids(wrong, 3)


def test_ids_may_be_arrays(tiny: Model) -> None:
    row = prompt_ids(tiny, "x")
    expected = tiny.generate_ids(row, 5)
    assert tiny.generate_ids(np.array(row), 5) == expected
    assert tiny.generate_ids(jnp.array(row), 5) == expected
    assert tiny.generate_ids(np.array([row, row]), 5) == [expected] * 2


@pytest.mark.parametrize(
    ("rows", "count", "message"),
    [
        ([], 5, "begin it with BOS"),
        ([[2], []], 5, "begin it with BOS"),
        ([2, 720], 5, "token 720 is not in the vocabulary of 720"),
        ([2], 0, "max_new_tokens must be at least 1, found 0"),
    ],
)
def test_what_cannot_be_continued_is_named(tiny: Model, rows: Any, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny.generate_ids(rows, count)


def test_a_prompt_longer_than_the_context_is_refused(tiny: Model) -> None:
    with pytest.raises(ContextFull, match="129 tokens do not fit the context of 128"):
        tiny.generate_ids([2] * 129, 5)


# -------------------------------------------------------------------------------------------- text


def test_text_is_the_decoded_ids_whichever_way_it_is_asked_for(tiny: Model) -> None:
    for options in ({}, {**SAMPLED, "seed": 4}):
        completions = tiny.complete(PROMPTS, 25, **options)
        texts = [completion.text for completion in completions]
        assert texts == [tiny.tokenizer.decode(completion.ids) for completion in completions]
        assert tiny.generate(PROMPTS, 25, **options) == texts
        assert tiny.generate(PROMPTS[0], 25, **options) == texts[0]
        assert "".join(tiny.stream(PROMPTS[0], 25, **options)) == texts[0]
        assert completions[0].ids == tiny.generate_ids(prompt_ids(tiny, PROMPTS[0]), 25, **options)


def test_log_probabilities_are_the_models_own(tiny: Model) -> None:
    prompt = prompt_ids(tiny, PROMPTS[2])
    (completion,) = tiny.complete([PROMPTS[2]], 20, temperature=1.5, top_k=40, repetition_penalty=1.3, seed=9)
    logits = uncached_logits(tiny, [*prompt, *completion.ids])[len(prompt) - 1 : -1]
    scores = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(completion.ids)), completion.ids]
    np.testing.assert_allclose(completion.log_probabilities, scores, rtol=0, atol=1e-4)


def test_an_answer_stops_at_eos_and_at_the_end_of_turn(tiny: Model) -> None:
    completions = tiny.complete([""] * 24, 110, temperature=9.0, seed=tuple(range(24)))
    stops = tiny.tokenizer.stop_ids
    for completion in completions:
        assert not stops.intersection(completion.ids[:-1])
        assert (completion.ids[-1] in stops) == (completion.finish == "stop")
        assert len(completion.ids) == 110 or completion.finish == "stop"
        assert len(completion.ids) == len(completion.log_probabilities)
    assert {c.ids[-1] for c in completions if c.finish == "stop"} == stops, "both are met with these seeds"


def test_the_contexts_end_finishes_by_length(tiny: Model) -> None:
    (completion,) = tiny.complete(["x"], 10_000)
    assert completion.finish == "length"
    assert len(completion.ids) == 129 - len(prompt_ids(tiny, "x"))


def with_text(model: Model, minimum: int = 12) -> Completion:
    (completion,) = model.complete([PROMPTS[0]], 40)
    assert len(completion.text) > minimum
    return completion


def test_a_stop_string_ends_the_text_before_it(tiny: Model) -> None:
    text = with_text(tiny).text
    for start, end in ((3, 4), (2, 9), (5, 12), (0, 3)):  # the longer ones lie over the borders of tokens
        stop = text[start:end]
        expected = text[: text.index(stop)]
        (completion,) = tiny.complete([PROMPTS[0]], 40, stop=["never met", stop])
        assert (completion.text, completion.finish) == (expected, "stop")
        assert "".join(tiny.stream(PROMPTS[0], 40, stop=[stop])) == expected


def test_text_held_back_for_a_stop_string_comes_at_the_end(tiny: Model) -> None:
    text = with_text(tiny).text
    assert tiny.generate(PROMPTS[0], 40, stop=[text[-3:] + "never"]) == text
    assert "".join(tiny.stream(PROMPTS[0], 40, stop=text[-3:] + "never")) == text


def test_a_stop_string_of_one_row_leaves_the_others_alone(tiny: Model) -> None:
    free = tiny.complete(PROMPTS, 30)
    stop = free[0].text[4:7]
    stopped = tiny.complete(PROMPTS, 30, stop=[stop])
    assert [c.text for c in stopped] == [c.text.split(stop)[0] for c in free]


def test_streaming_never_splits_a_character(tiny: Model) -> None:
    """Hot sampling draws byte pieces all the time; only what no later byte can mend may show as U+FFFD."""
    (completion,) = tiny.complete([""], 120, temperature=9.0, seed=1)
    pieces = list(tiny.stream("", 120, temperature=9.0, seed=1))
    assert "".join(pieces) == completion.text == tiny.tokenizer.decode(completion.ids)
    korean = [tiny.tokenizer.id(f"<0x{byte:02X}>") for byte in "한국어 😀".encode()[:3]]
    decoder = StreamDecoder(tiny.tokenizer)
    assert [decoder.push(i) for i in korean] == ["", "", "한"]


def test_a_prompt_has_exactly_one_bos(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []
    monkeypatch.setattr(
        Model, "_session", lambda _, rows, count: read.extend(list(row.tokens) for row in rows) or 1 / 0
    )
    for text in ("x", "", "<bos>x"):
        with pytest.raises(ZeroDivisionError):
            tiny.generate(text)
    assert [row.count(tiny.tokenizer.bos_id) for row in read] == [1, 1, 1]
    assert [row[0] for row in read] == [tiny.tokenizer.bos_id] * 3
    twice = tiny.tokenizer.with_bos(tiny.tokenizer.with_bos([300]))
    assert twice == [tiny.tokenizer.bos_id, 300]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature must be 0 or more, found -1"),
        ({"stop": [""]}, "a stop string must not be empty"),
        ({"seed": (1, 2)}, "one for each of 1 rows; found 2"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_wrong_options_are_named(tiny: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny.generate("x", **options)


def test_no_prompts_are_refused(tiny: Model) -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        tiny.generate([])


# ---------------------------------------------------------------------------- folders and the rest


def test_a_folder_without_tokenizer_serves_ids_and_says_what_is_missing(bare_folder: Path, tiny: Model) -> None:
    bare = load(bare_folder)
    assert bare.generate_ids([2, 300], 8, stop_ids=()) == tiny.generate_ids([2, 300], 8, stop_ids=())
    for call in (
        lambda: bare.generate("x"),
        lambda: bare.stream("x"),
        lambda: bare.chat([{"role": "user", "content": "x"}]),
        lambda: bare.tokenizer,
    ):
        with pytest.raises(ValueError, match=r"has no tokenizer: put its tokenizer\.model or tokenizer\.json there"):
            call()


def test_chat_takes_dictionaries(tiny: Model) -> None:
    answer = tiny.chat([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}], 12)
    ids = prompt_ids(tiny, "")
    tokenizer = tiny.tokenizer
    ids = [tokenizer.bos_id, tokenizer.start_of_turn_id, *tokenizer.encode("user\nBe brief.\n\nx"),
           tokenizer.end_of_turn_id, *tokenizer.encode("\n"), tokenizer.start_of_turn_id, *tokenizer.encode("model\n")]  # fmt: skip  # noqa: E501
    assert answer == tokenizer.decode(tiny.generate_ids(ids, 12))


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"role": "robot", "content": "x"}]])
def test_messages_out_of_form_are_refused(tiny: Model, messages: Any) -> None:
    with pytest.raises(ValueError):
        tiny.chat(messages, 5)


def test_the_dtype_asked_for_is_the_dtype_of_the_weights(tiny_folder: Path) -> None:
    model = load(tiny_folder, dtype="bfloat16")
    assert model.weights.embedding.dtype == jnp.bfloat16
    assert len(model.generate_ids([2, 300], 4, stop_ids=())) == 4


def test_a_draft_changes_no_text_and_one_of_another_vocabulary_is_refused(tiny_folder: Path, tiny: Model) -> None:
    """Beside itself as the draft: nearly every guess is right, and none may change what comes out."""
    drafted = load(tiny_folder, draft=tiny)
    assert drafted.generate("import this", 24) == tiny.generate("import this", 24)
    with pytest.raises(ValueError, match="draft: expected a model of the same vocabulary"):
        load(tiny_folder, draft=DEFAULT_MODEL)
