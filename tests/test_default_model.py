"""What the small model that comes with the package promises."""

import pytest

from gemwright.model import DEFAULT_MODEL, Model, load

pytestmark = pytest.mark.skipif(not DEFAULT_MODEL.is_dir(), reason="the default model is not in this checkout")

QUESTIONS = ["Once upon a time, there was a little dog.", "Tell me a story about a red ball.", "Tom and Mia went out."]


@pytest.fixture(scope="module")
def model() -> Model:
    return load()


def test_its_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in DEFAULT_MODEL.glob("*.safetensors")) <= 8 * 2**20


def test_it_tells_a_story(model: Model) -> None:
    words = model.generate("Once upon a time", 60, temperature=0.7, top_p=0.95, seed=0).split()
    assert len(words) >= 20
    assert len(set(words)) >= 12, "a story does not repeat one word"


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_ends_its_answers(model: Model, question: str) -> None:
    from gemwright.conversation import Conversation

    conversation = Conversation(model)
    answer = "".join(conversation.send(question, 700, temperature=0.7, top_p=0.95, min_p=0.05, seed=0))
    assert len(answer.split()) >= 5
    assert len(model.tokenizer.encode(answer)) < 650, "it stopped by itself"


def test_it_continues_python(model: Model) -> None:
    text = model.generate("import os\n\n\ndef main(argv=None):\n", 80, temperature=0.3, seed=0)
    assert text.startswith(" "), "a body is indented"
    assert any(word in text for word in ("return", "if ", "self", " = ", "print"))
