from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.text.chat import ChatError, Message, format_chat
from gemwright.text.tokenizer import Tokenizer

from . import strategies
from .conftest import SAMPLES

USER, MODEL = Message("user", "Who are you?"), Message("model", "A model.")


def rendered(messages: list[Message], add_generation_prompt: bool) -> str:
    """The published format without its BOS, written down independently of the formatter."""
    turns = [f"<start_of_turn>{m.role}\n{m.content.strip()}<end_of_turn>\n" for m in messages]
    return "".join(turns) + ("<start_of_turn>model\n" if add_generation_prompt else "")


def conversation(contents: list[str]) -> list[Message]:
    return [Message("model" if number % 2 else "user", content) for number, content in enumerate(contents)]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(contents=st.lists(strategies.plain, min_size=1, max_size=4))
def test_ids_are_those_of_the_whole_text(symbol_bytes: bytes, symbol_tokenizer: Tokenizer, contents: list[str]) -> None:
    """A library that finds control pieces in text reads the rendered conversation at once: no merge is lost."""
    messages, opened = conversation(contents), len(contents) % 2 == 1
    library: Any = sentencepiece.SentencePieceProcessor(model_proto=symbol_bytes)
    prompt = format_chat(symbol_tokenizer, messages, add_generation_prompt=opened)
    assert prompt.ids == [2, *library.Encode(rendered(messages, opened))]


def test_the_layout_is_the_published_one(any_tokenizer: Tokenizer) -> None:
    prompt = format_chat(any_tokenizer, [USER, MODEL, Message("user", " Bye.\n")])
    assert any_tokenizer.decode(prompt.ids, skip_control=False) == (
        "<bos><start_of_turn>user\nWho are you?<end_of_turn>\n<start_of_turn>model\nA model.<end_of_turn>\n"
        "<start_of_turn>user\nBye.<end_of_turn>\n<start_of_turn>model\n"
    )


@settings(derandomize=True, deadline=None, max_examples=100)
@given(system=strategies.hostile, contents=st.lists(strategies.hostile, min_size=1, max_size=3))
def test_only_the_template_writes_control_ids(any_tokenizer: Tokenizer, system: str, contents: list[str]) -> None:
    messages = [Message("system", system), *conversation(contents)]
    prompt = format_chat(any_tokenizer, messages, add_generation_prompt=False)
    t = any_tokenizer
    assert [i for i in prompt.ids if t.is_control(i)] == [
        t.bos_id,
        *[t.start_of_turn_id, t.end_of_turn_id] * len(contents),
    ]
    controls = [part for i, part in zip(prompt.ids, prompt.parts, strict=True) if t.is_control(i)]
    assert set(controls) == {"template"}
    assert len(prompt.ids) == len(prompt.parts) == len(prompt.answer)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(system=strategies.hostile, content=strategies.hostile)
def test_parts_give_each_text_back(any_tokenizer: Tokenizer, system: str, content: str) -> None:
    prompt = format_chat(any_tokenizer, [Message("system", system), Message("user", content)])
    # White space at the border may share a token with its neighbour, which keeps the first one's part.
    texts = {
        part: any_tokenizer.decode(i for i, p in zip(prompt.ids, prompt.parts, strict=True) if p == part)
        for part in ("system", "user")
    }
    assert texts["system"].strip() == system.strip()
    assert texts["user"].strip() == content.strip()


def test_exactly_one_bos_even_if_the_text_spells_it(any_tokenizer: Tokenizer) -> None:
    prompt = format_chat(any_tokenizer, [Message("user", "<bos><bos>hello")])
    assert prompt.ids.count(any_tokenizer.bos_id) == 1
    assert prompt.ids[0] == any_tokenizer.bos_id
    assert any_tokenizer.with_bos(prompt.ids) == prompt.ids


def test_system_text_is_folded_into_the_first_user_turn(any_tokenizer: Tokenizer) -> None:
    folded = format_chat(any_tokenizer, [Message("system", " Be brief. \n"), USER, MODEL, USER])
    by_hand = format_chat(any_tokenizer, [Message("user", "Be brief.\n\nWho are you?"), MODEL, USER])
    assert folded.ids == by_hand.ids
    assert folded.parts.count("system") > 0


def test_an_empty_system_message_leaves_no_trace(tokenizer: Tokenizer) -> None:
    assert format_chat(tokenizer, [Message("system", " \n"), USER]) == format_chat(tokenizer, [USER])


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES.keys())
def test_the_answer_is_the_models_text_its_turn_end_and_the_newline_behind(any_tokenizer: Tokenizer, text: str) -> None:
    prompt = format_chat(any_tokenizer, [USER, Message("model", text), USER, MODEL], add_generation_prompt=False)
    learned = [i for i, answer in zip(prompt.ids, prompt.answer, strict=True) if answer]
    first = any_tokenizer.encode(f"model\n{text.strip()}")[len(any_tokenizer.encode("model\n")) :]
    second = any_tokenizer.encode("model\nA model.")[len(any_tokenizer.encode("model\n")) :]
    newline = any_tokenizer.encode("\n")
    assert learned == [*first, 107, *newline, *second, 107, *newline]


def test_an_empty_answer_still_teaches_to_end_the_turn(tokenizer: Tokenizer) -> None:
    prompt = format_chat(tokenizer, [USER, Message("model", "")], add_generation_prompt=False)
    assert [i for i, answer in zip(prompt.ids, prompt.answer, strict=True) if answer] == [107, *tokenizer.encode("\n")]


def test_a_prompt_teaches_nothing(tokenizer: Tokenizer) -> None:
    assert not any(format_chat(tokenizer, [USER]).answer)


def test_assistant_is_another_name_of_model() -> None:
    assert Message("assistant", "x") == Message("model", "x")


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "needs a user message, found none"),
        ([Message("system", "x")], "needs a user message, found none"),
        ([MODEL], "turn 1 is model: expected user"),
        ([USER, USER], "turn 2 is user: expected model"),
        ([USER, MODEL, MODEL], "turn 3 is model: expected user"),
        ([USER, Message("system", "x"), USER], "turn 2 is system: expected model; one system message"),
        ([Message("system", "x"), Message("system", "x"), USER], "turn 1 is system: expected user; one system"),
        ([USER, MODEL], "last turn is the model's"),
    ],
)
def test_turns_out_of_order_are_refused(tokenizer: Tokenizer, messages: list[Message], complaint: str) -> None:
    with pytest.raises(ChatError, match=complaint):
        format_chat(tokenizer, messages)


@pytest.mark.parametrize("fields", [{"role": "tool", "content": "x"}, {"role": "user", "content": None}])
def test_messages_of_other_kinds_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ChatError, match="must be"):
        Message(**fields)
