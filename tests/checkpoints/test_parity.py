"""Folders pass between transformers and this library, with equal logits."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.save import save_checkpoint
from gemwright.models.gemma import Config
from gemwright.text.chat import Message, format_chat
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import CONFIGS, assert_same, logits, sharp_weights
from tests.tolerances import LOGITS

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),  # torch and transformers warn of themselves
]
TOKENS = np.random.default_rng(0).integers(0, 600, (2, 24))


@pytest.fixture
def transformers() -> Any:
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


def theirs(model: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.numpy()


def test_our_folder_gives_transformers_our_logits(tmp_path: Path, config: Config, transformers: Any) -> None:
    weights = sharp_weights(config)
    save_checkpoint(tmp_path / "model", config, weights, shard_bytes=40_000)
    model, notes = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(notes.values()), notes
    assert np.abs(logits(weights, config, TOKENS) - theirs(model)).max() < LOGITS


def test_their_folder_gives_us_their_logits(tmp_path: Path, config: Config, transformers: Any) -> None:
    weights = sharp_weights(config)
    save_checkpoint(tmp_path / "ours", config, weights)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs", max_shard_size="50KB")
    loaded = load_checkpoint(tmp_path / "theirs")
    assert loaded.config == config
    assert_same(loaded.weights, weights)
    assert np.abs(logits(loaded.weights, config, TOKENS) - theirs(model)).max() < LOGITS


def test_a_default_model_of_theirs_loads(tmp_path: Path, transformers: Any) -> None:
    values = transformers.Gemma2Config(hidden_size=32, num_hidden_layers=2, intermediate_size=64, vocab_size=640)
    model = transformers.Gemma2ForCausalLM(values)
    model.save_pretrained(tmp_path / "theirs")
    loaded = load_checkpoint(tmp_path / "theirs")
    assert np.abs(logits(loaded.weights, loaded.config, TOKENS) - theirs(model)).max() < LOGITS


def test_bfloat16_stays_bfloat16_there(tmp_path: Path, config: Config, transformers: Any) -> None:
    save_checkpoint(tmp_path / "model", config, sharp_weights(config, jnp.bfloat16))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert str(model.dtype) == "torch.bfloat16"


def test_our_tokenizer_cuts_and_chats_the_same_there(tmp_path: Path, tokenizer: Tokenizer, transformers: Any) -> None:
    pytest.importorskip("jinja2")
    config = CONFIGS["gemma"]
    save_checkpoint(tmp_path / "model", config, sharp_weights(config), tokenizer)
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "all human  beings\n\nare <b>free</b>\t1948"
    assert auto.encode(text) == tokenizer.with_bos(tokenizer.encode(text))
    assert (auto.bos_token_id, auto.eos_token_id, auto.pad_token_id) == (2, 1, 0)
    turns = [("system", " equal "), ("user", " free? "), ("assistant", "born"), ("user", "and\n")]
    for count, first in ((2, 0), (4, 0), (1, 1), (3, 1)):
        rows = [{"role": role, "content": content} for role, content in turns[first : first + count]]
        ours = format_chat(tokenizer, [Message(**row) for row in rows])
        assert auto.apply_chat_template(rows, add_generation_prompt=True, return_dict=False) == ours.ids
    with pytest.raises(Exception, match="take turns"):
        auto.apply_chat_template([{"role": "assistant", "content": "x"}])
