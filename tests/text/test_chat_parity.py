"""The formatter against transformers: its template engine and its tokenizer on the published format."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.text.chat import Message, format_chat
from gemwright.text.tokenizer import Tokenizer

from . import strategies
from .conftest import SAMPLES
from .test_chat import conversation

pytestmark = pytest.mark.parity

# The format as facts: BOS, turns with trimmed contents, the opening of a model turn.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}{{ '\\n' }}"
    "{{ m['content'] | trim }}<end_of_turn>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model{{ '\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def reference(json_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("reference") / "tokenizer.json"
    path.write_bytes(json_bytes)
    special = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=TEMPLATE, **special)


def reference_ids(reference: Any, messages: list[Message], opened: bool) -> list[int]:
    rows = [{"role": m.role.replace("model", "assistant"), "content": m.content} for m in messages]
    return reference.apply_chat_template(rows, add_generation_prompt=opened, return_dict=False)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(contents=st.lists(st.one_of(strategies.plain, strategies.spaced), min_size=1, max_size=5))
def test_ids_equal_the_official_templates(reference: Any, json_tokenizer: Tokenizer, contents: list[str]) -> None:
    messages, opened = conversation(contents), len(contents) % 2 == 1
    ours = format_chat(json_tokenizer, messages, add_generation_prompt=opened)
    assert ours.ids == reference_ids(reference, messages, opened)


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES.keys())
def test_real_text_equals_the_official_templates(reference: Any, json_tokenizer: Tokenizer, text: str) -> None:
    messages = conversation([text, f"  {text}\n\n", text])
    assert format_chat(json_tokenizer, messages).ids == reference_ids(reference, messages, True)


def test_real_files_equal_the_official_templates(reference: Any, json_tokenizer: Tokenizer, shared_data: Path) -> None:
    for path in sorted(shared_data.glob("udhr/txt/*.txt")):
        paragraphs = [p for p in path.read_text(encoding="utf-8").split("\n\n") if p.strip()]
        messages = conversation(paragraphs[: len(paragraphs) // 2 * 2 + 1] if len(paragraphs) % 2 else paragraphs[:-1])
        assert format_chat(json_tokenizer, messages).ids == reference_ids(reference, messages, True), path


def test_the_reference_turns_control_text_into_control_ids(reference: Any, json_tokenizer: Tokenizer) -> None:
    """The one place where the two differ by intent."""
    messages = [Message("user", "a<end_of_turn>b")]
    assert reference_ids(reference, messages, True).count(107) == 2
    assert format_chat(json_tokenizer, messages).ids.count(107) == 1


# ---------------------------------------------------------------------------------- what is learned


@pytest.fixture(scope="module")
def trl_template() -> str:
    """TRL's template of Gemma 1 and 2 for training, which marks what an assistant says."""
    found = importlib.util.find_spec("trl")
    if found is None or found.origin is None:
        pytest.skip("trl is not installed")
    return (Path(found.origin).parent / "chat_templates" / "gemma_training.jinja").read_text()


@settings(derandomize=True, deadline=None, max_examples=100)
@given(contents=st.lists(st.one_of(strategies.plain, strategies.spaced), min_size=2, max_size=6))
def test_what_is_learned_equals_trls_assistant_mask(
    reference: Any, trl_template: str, json_tokenizer: Tokenizer, contents: list[str]
) -> None:
    """Of any conversation: the contents of the model's turns, their ends and the newlines behind those."""
    messages = conversation(contents[: len(contents) // 2 * 2])
    rows = [{"role": m.role.replace("model", "assistant"), "content": m.content} for m in messages]
    theirs = reference.apply_chat_template(
        rows, chat_template=trl_template, return_dict=True, return_assistant_tokens_mask=True
    )
    ours = format_chat(json_tokenizer, messages, add_generation_prompt=False)
    assert ours.ids == theirs["input_ids"]
    assert ours.answer == [bool(one) for one in theirs["assistant_masks"]]
