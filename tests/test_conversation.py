from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from gemwright.conversation import Conversation
from gemwright.inference.session import ContextFull, Session
from gemwright.model import Model
from gemwright.text.chat import Message, format_chat


@pytest.fixture
def unwindowed(tiny: Model) -> Model:
    """Its cache can go back, so that a history is reused whatever was answered."""
    return replace(tiny, config=replace(tiny.config, windows=(None,)))


def fresh_answer(model: Model, messages: list[Message], count: int) -> str:
    ids = format_chat(model.tokenizer, messages).ids
    return model.tokenizer.decode(model.generate_ids(ids, count))


def assert_goes_on(conversation: Conversation, model: Model) -> None:
    """The next answer is the one that a new session gives to the same messages."""
    answer = "".join(conversation.send("again", 8))
    assert answer == fresh_answer(model, conversation.messages[:-1], 8)


def test_the_history_is_reused_and_changes_no_answer(unwindowed: Model) -> None:
    conversation = Conversation(unwindowed)
    for turn, text in enumerate(("def", "import", "class")):
        answer = "".join(conversation.send(text, 6))
        assert answer == fresh_answer(unwindowed, conversation.messages[:-1], 6)
        assert conversation.messages[-1] == Message("model", answer)
        assert (conversation.reused > 5) == (turn > 0)
    assert conversation.dropped == 0


def test_rings_that_have_turned_change_no_answer(tiny: Model) -> None:
    conversation = Conversation(tiny)
    for text in ("def", "import", "class"):
        answer = "".join(conversation.send(text, 6, temperature=1.0, seed=3))
        ids = format_chat(tiny.tokenizer, conversation.messages[:-1]).ids
        assert answer == tiny.tokenizer.decode(tiny.generate_ids(ids, 6, temperature=1.0, seed=3))


def test_a_full_context_drops_the_oldest_turns_and_keeps_the_system_text(tiny: Model) -> None:
    conversation = Conversation(tiny, system="SYSTEM")
    for number in range(6):
        answer = "".join(conversation.send(f"question {number}", 20))
        assert answer == fresh_answer(tiny, conversation.messages[:-1], 20)
    assert conversation.dropped > 0
    assert conversation.dropped % 2 == 0
    assert conversation.messages[0] == Message("system", "SYSTEM")
    turns = conversation.messages[1:]
    assert len(turns) + conversation.dropped == 12
    assert [m.role for m in turns] == ["user", "model"] * (len(turns) // 2)
    assert turns[-2].content == "question 5"


def test_a_turn_that_alone_does_not_fit_is_refused(tiny: Model) -> None:
    conversation = Conversation(tiny)
    with pytest.raises(ContextFull, match="do not fit the context of 128: shorten the message"):
        list(conversation.send("word " * 200))


def test_a_turn_that_does_not_fit_drops_no_earlier_ones(tiny: Model) -> None:
    conversation = Conversation(tiny)
    list(conversation.send("def", 4))
    before = list(conversation.messages)
    with pytest.raises(ContextFull):
        list(conversation.send("word " * 200))
    assert (conversation.messages[:-1], conversation.dropped) == (before, 0)


def test_an_answer_may_fill_the_context_to_its_end(tiny: Model) -> None:
    conversation = Conversation(tiny)
    list(conversation.send("x " * 30, 10_000))
    assert conversation.messages[-1].role == "model"


def test_a_closed_answer_is_kept_as_far_as_it_went(unwindowed: Model) -> None:
    conversation = Conversation(unwindowed)
    stream = conversation.send("def", 30)
    parts = list(islice(stream, 5))
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert conversation.messages[-1] == Message("model", "".join(parts))
    assert_goes_on(conversation, unwindowed)


def test_ctrl_c_in_an_answer_keeps_what_was_said(unwindowed: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Iterator[str]:
        yield "half an"
        raise KeyboardInterrupt

    conversation = Conversation(unwindowed)
    with monkeypatch.context() as patch:
        patch.setattr(Model, "stream_session", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(conversation.send("def"))
    assert conversation.messages[-1] == Message("model", "half an")
    assert_goes_on(conversation, unwindowed)


def test_ctrl_c_while_the_prompt_is_read_ends_that_answer_alone(
    unwindowed: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    conversation = Conversation(unwindowed)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "advance_to", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(conversation.send("def"))
    assert [m.role for m in conversation.messages] == ["user", "model"]
    assert_goes_on(conversation, unwindowed)


def test_options_out_of_range_leave_the_conversation_as_it_was(tiny: Model) -> None:
    conversation = Conversation(tiny)
    with pytest.raises(ValueError, match="top_p must be"):
        conversation.send("def", top_p=2.0)
    with pytest.raises(ValueError, match="a stop string must not be empty"):
        conversation.send("def", stop=[""])
    assert conversation.messages == []


def test_clearing_keeps_the_system_text(unwindowed: Model) -> None:
    conversation = Conversation(unwindowed, [Message("user", "a"), Message("model", "b")], system="S")
    conversation.clear()
    assert conversation.messages == [Message("system", "S")]
    answer = "".join(conversation.send("def", 5))
    assert answer == fresh_answer(unwindowed, conversation.messages[:-1], 5)


def test_a_stop_string_ends_an_answer_and_the_next_one_is_right(unwindowed: Model) -> None:
    conversation = Conversation(unwindowed)
    free = conversation.model.chat([Message("user", "def")], 20)
    stop = free[3:6]
    assert "".join(conversation.send("def", 20, stop=[stop])) == free.split(stop)[0]
    assert_goes_on(conversation, unwindowed)
