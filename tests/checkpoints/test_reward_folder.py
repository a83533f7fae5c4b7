"""A reward model's folder: what is written is read again, and what is none is refused."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.reward_folder import is_reward_model, load_reward_model, save_reward_model
from gemwright.core.module import initialise, named_leaves
from gemwright.models.reward import RewardModel
from gemwright.text.tokenizer import Tokenizer
from tests.tiny import CONFIG, sharp_weights


def model() -> RewardModel:
    head = np.random.default_rng(0).normal(size=(1, CONFIG.embed_dim))
    return RewardModel(sharp_weights(CONFIG), jnp.asarray(head, jnp.float32))


def test_a_reward_model_is_read_as_it_was_written(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    save_reward_model(tmp_path / "reward", CONFIG, model(), tiny_tokenizer)
    found = load_reward_model(tmp_path / "reward")
    assert found.config == CONFIG
    ours, theirs = named_leaves(model()), named_leaves(found.weights)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert is_reward_model(tmp_path / "reward")
    with pytest.raises(CheckpointError, match=r"score.weight: expected no tensor of this name"):
        load_checkpoint(tmp_path / "reward")


def test_a_decoder_is_no_reward_model(tiny_folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"score.weight: expected one of shape \(1, 24\), found none"):
        load_reward_model(tiny_folder)
    assert not is_reward_model(tiny_folder)
    assert not is_reward_model(tiny_folder / "none")


def test_the_head_is_one_more_spec_and_begins_with_rewards_of_0() -> None:
    specs = RewardModel.specs(CONFIG)
    assert named_leaves(specs)["head"].shape == (1, 24)
    begun = initialise(specs, 0)
    rewards = begun(jnp.ones((2, 5), jnp.int32), CONFIG, jnp.asarray([[0, 4], [2, 2]]))
    np.testing.assert_array_equal(rewards, np.zeros((2, 2)))


def test_a_reward_is_read_where_a_text_ends_whatever_stands_behind() -> None:
    tokens = jnp.asarray([[2, 300, 301, 302, 5, 6]])
    behind = jnp.asarray([[2, 300, 301, 302, 0, 0]])
    ends = jnp.asarray([[3, 1]])
    found, padded = (model()(ids, CONFIG, ends) for ids in (tokens, behind))
    np.testing.assert_array_equal(found, padded)
    assert abs(float(found[0, 0] - found[0, 1])) > 0.01
