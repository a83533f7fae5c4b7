"""What the small model that comes with the package promises."""

import jax
import jax.numpy as jnp
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


def test_it_ends_its_answers(model: Model) -> None:
    # 22 of 24 answers ended in a count; were 11 of 12 the chance of each, fewer than 6 of 12 would be one in 100,000.
    from gemwright.conversation import Conversation

    ended = 0
    for question in QUESTIONS:
        for seed in range(4):
            words = Conversation(model).send(question, 700, temperature=0.7, top_p=0.95, min_p=0.05, seed=seed)
            answer = "".join(words)
            assert len(answer.split()) >= 5
            ended += len(model.tokenizer.encode(answer)) < 650
    assert ended >= 6, "answers stop by themselves"


def test_it_continues_python(model: Model) -> None:
    text = model.generate("import os\n\n\ndef main(argv=None):\n", 80, temperature=0.3, seed=0)
    assert text.startswith(" "), "a body is indented"
    assert any(word in text for word in ("return", "if ", "self", " = ", "print"))


@pytest.mark.parametrize(("bits", "limit"), [(8, 0.005), (4, 0.2)])
def test_packed_it_predicts_nearly_the_same(model: Model, bits: int, limit: float) -> None:
    ids = model.tokenizer.with_bos(model.tokenizer.encode("Once upon a time there was a little dog. " * 4))
    packed = load(bits=bits)
    exact, found = (jax.nn.log_softmax(one.logits([ids]), axis=-1) for one in (model, packed))
    divergence = float(jnp.mean(jnp.sum(jnp.exp(exact) * (exact - found), axis=-1)))
    assert 0 < divergence < limit, "nats a token"
    assert len(packed.generate("Once upon a time", 30, temperature=0.7, seed=0).split()) >= 10


@pytest.mark.parametrize("bits", [0, 3, 16])
def test_another_number_of_bits_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="bits: expected 4 or 8"):
        load(bits=bits)
