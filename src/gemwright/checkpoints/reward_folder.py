"""A reward model's folder: as transformers keeps a classifier of texts with one label.

    transformers.AutoModelForSequenceClassification.from_pretrained(folder)

gives the same rewards where texts are padded as it wants them. RecurrentGemma has no such class there; its folders are
for this library alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import check_room, whole_folder
from gemwright.checkpoints.hf_config import config_json, read_config
from gemwright.checkpoints.hf_tensors import match_tensors, open_tensors
from gemwright.checkpoints.host_weights import HostWeight, host_weights
from gemwright.checkpoints.load import check_vocabulary
from gemwright.checkpoints.placing import place
from gemwright.checkpoints.save import token_ids, write_beside_weights, write_weights
from gemwright.checkpoints.stored import kept_dtype
from gemwright.core.module import Spec, map_specs
from gemwright.models.family import FAMILIES, Config, specs_of
from gemwright.models.reward import RewardModel
from gemwright.text.tokenizer import Tokenizer, load_tokenizer

HEAD = "score.weight"
_DECODER, _SCORER = "ForCausalLM", "ForSequenceClassification"


@dataclass(frozen=True)
class RewardCheckpoint:
    """A reward model as a folder keeps it."""

    config: Config
    weights: RewardModel
    tokenizer: Tokenizer
    folder: Path


def save_reward_model(
    folder: Path,
    config: Config,
    weights: RewardModel,
    tokenizer: Tokenizer,
    *,
    source: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a reward model. The folder appears whole or not at all; arguments and errors are `save_checkpoint`'s."""
    arrays = host_weights(config, weights.decoder, {name: one.names for name, one in FAMILIES.items()})
    arrays[HEAD] = HostWeight(weights.head, weights.head.shape)
    ids = token_ids(config, tokenizer)
    told = config_json(config, str(weights.decoder.embedding.dtype), ids)
    scorer = [name.replace(_DECODER, _SCORER) for name in told["architectures"]]
    stored = {**told, "architectures": scorer, "id2label": {"0": "reward"}, "label2id": {"reward": 0}}
    check_room(folder, sum(weight.array.nbytes for weight in arrays.values()))
    with whole_folder(folder, overwrite=overwrite) as partial:
        write_beside_weights(partial, stored, ids, tokenizer, source)
        write_weights(partial, arrays)


def load_reward_model(folder: Path) -> RewardCheckpoint:
    """Read a folder that `save_reward_model` or transformers wrote.

    Raises:
      CheckpointError: if it is damaged, of another architecture, without a tokenizer, or holds no reward model.
    """
    config, tensors = read_config(folder), open_tensors(folder)
    head = tensors.pop(HEAD, None)
    if head is None or head.shape != (1, config.embed_dim):
        found = "none" if head is None else f"one of shape {head.shape}"
        raise CheckpointError(
            f"{folder}: tensor {HEAD}: expected one of shape (1, {config.embed_dim}), found {found}; "
            "`gemwright reward` makes such a model"
        )
    stored, tokenizer = match_tensors(folder, config, tensors), _tokenizer(folder)
    check_vocabulary(folder, config, tokenizer)

    def read(name: str, spec: Spec) -> jax.Array:
        tensor = stored[name]
        return place(tensor.read(spec.shape), kept_dtype(tensor), None, tensor.release)

    decoder: Any = map_specs(read, specs_of(config))
    weights = RewardModel(decoder, jnp.array(head.read((1, config.embed_dim))))
    return RewardCheckpoint(config, weights, tokenizer, folder)


def is_reward_model(folder: Path) -> bool:
    """Whether a folder holds one; false too if nothing readable is there."""
    try:
        return HEAD in open_tensors(folder)
    except (CheckpointError, OSError):
        return False


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return load_tokenizer(folder)
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: expected a tokenizer beside the reward model, found none") from None
