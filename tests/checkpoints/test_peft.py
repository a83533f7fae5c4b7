"""Adapters in PEFT's format: what is written is read again, and what does not fit is refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.peft_config import CONFIG_FILE, PeftConfig, parse_peft_config, peft_json
from gemwright.checkpoints.peft_reader import ADAPTER_FILE, read_adapter
from gemwright.checkpoints.peft_writer import save_adapter
from gemwright.core.lora import lora_weights
from gemwright.core.module import named_leaves
from gemwright.models.family import Config
from gemwright.tuning.lora import Plan, adapt
from tests.tiny import CONFIG, GRIFFIN, PALIGEMMA, sharp_weights
from tests.tuning.test_lora import base, logits, sharp

PLAN = Plan(rank=3, alpha=5)
KEY = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_adapter(tmp_path / "adapter", CONFIG, sharp(adapt(CONFIG, base(), PLAN), 1), base="somebody/model")
    return tmp_path / "adapter"


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_tensors(folder: Path, edit: Callable[[dict[str, np.ndarray]], Any]) -> None:
    tensors = load_file(folder / ADAPTER_FILE)
    edit(tensors)
    save_file(tensors, folder / ADAPTER_FILE)


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        Plan(rank=2, alpha=3, root=True, dora=True, dropout=0.1),
        Plan(rank=2, targets=("layers.0.attention.*", "*.mlp.up*"), ranks={"*.up*": 4}, alphas={"*.query": 1.5}),
        Plan(rank=2, targets=("*embedding", "*.mlp.*")),
    ],
    ids=["lora", "dora", "patterns", "tied"],
)
@pytest.mark.parametrize("config", [CONFIG, GRIFFIN, PALIGEMMA], ids=lambda config: config.family)
def test_what_is_written_is_read_again(config: Config, plan: Plan, tmp_path: Path) -> None:
    adapted = sharp(adapt(config, base(config), plan), 1)
    save_adapter(tmp_path / "adapter", config, adapted)
    again = read_adapter(tmp_path / "adapter", config, base(config))
    found, expected = lora_weights(again), lora_weights(adapted)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        read = found[name]
        assert (read.alpha, read.root, read.dropout) == (weight.alpha, weight.root, weight.dropout)
        assert (read.magnitude is None) == (weight.magnitude is None)
    for one, other in zip(named_leaves(again).items(), named_leaves(adapted).items(), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(np.asarray(one[1]), np.asarray(other[1]))


def test_modules_are_named_by_their_last_words_where_that_is_enough(folder: Path) -> None:
    stored = json.loads((folder / CONFIG_FILE).read_text())
    assert stored["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    assert stored["base_model_name_or_path"] == "somebody/model"
    assert load_file(folder / ADAPTER_FILE)[KEY].shape == (3, 24)


def test_norms_that_were_trained_are_stored_whole(tmp_path: Path) -> None:
    adapted: Any = sharp(adapt(CONFIG, base(), PLAN), 1)
    norm = jnp.ones_like(adapted.final_norm)
    trained = type(adapted)(adapted.embedding, adapted.layers, norm)
    save_adapter(tmp_path / "adapter", CONFIG, trained, whole=["final_norm"])
    assert json.loads((tmp_path / "adapter" / CONFIG_FILE).read_text())["modules_to_save"] == ["model.norm"]
    np.testing.assert_array_equal(logits(read_adapter(tmp_path / "adapter", CONFIG, base())), logits(trained))


def test_an_adapter_for_the_decoder_of_a_model_that_sees_is_read(folder: Path) -> None:
    expected = read_adapter(folder, CONFIG, base())
    edit_tensors(folder, lambda tensors: _rename(tensors, "model.model.layers", "model.model.language_model.layers"))
    np.testing.assert_array_equal(logits(read_adapter(folder, CONFIG, base())), logits(expected))


def _rename(tensors: dict[str, np.ndarray], old: str, new: str) -> None:
    for name in list(tensors):
        tensors[name.replace(old, new)] = tensors.pop(name)


def test_layers_are_chosen_as_peft_chooses_them(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", CONFIG, adapt(CONFIG, base(), Plan(rank=3, targets=("layers.1.mlp.*",))))
    edit_config(tmp_path / "adapter", target_modules=["gate_proj", "up_proj", "down_proj"], layers_to_transform=[1])
    assert len(lora_weights(read_adapter(tmp_path / "adapter", CONFIG, base()))) == 3
    edit_config(tmp_path / "adapter", target_modules=r".*layers\.1\.mlp\..*", layers_to_transform=None)
    assert len(lora_weights(read_adapter(tmp_path / "adapter", CONFIG, base()))) == 3
    edit_config(tmp_path / "adapter", target_modules=["gate_proj", "up_proj", "down_proj"])
    with pytest.raises(CheckpointError, match=r"layers\.0\.mlp\.gate_proj: expected tensors by target_modules"):
        read_adapter(tmp_path / "adapter", CONFIG, base())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"peft_type": "LOHA"}, "peft_type: expected LORA, found 'LOHA'"),
    "rank": ({"r": 4}, r"lora_A: expected shape \(4, 24\), found \(3, 24\)"),
    "no rank": ({"r": 0}, "r: expected a positive integer, found 0"),
    "alpha": ({"lora_alpha": "x"}, "lora_alpha: expected a positive number, found 'x'"),
    "dropout": ({"lora_dropout": 1}, "lora_dropout: expected 0 to less than 1, found 1"),
    "layout": ({"fan_in_fan_out": True}, r"fan_in_fan_out: expected none, found True: Gemma's matrices are stored"),
    "bias": ({"lora_bias": True}, "lora_bias: expected none, found True: a bias of the change"),
    "rows": ({"trainable_token_indices": [1]}, "trainable_token_indices: expected none"),
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights: expected one that leaves the base as it is"),
    "future": ({"new_option": 3}, "new_option: expected none, found 3: this option is not known here"),
    "dora": ({"use_dora": True}, r"lora_magnitude_vector: expected one of shape \(24,\), found none"),
    "no targets": ({"target_modules": None}, "target_modules: expected a pattern or a list of names, found None"),
    "pattern": ({"target_modules": "("}, "target_modules: expected a regular expression"),
    "fewer targets": ({"target_modules": ["up_proj"]}, "expected none by target_modules, found otherwise"),
    "head": ({"target_modules": "all-linear", "exclude_modules": ["q_proj"]}, "q_proj: expected none by target"),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_configurations_that_cannot_be_are_refused(folder: Path, values: dict[str, Any], message: str) -> None:
    edit_config(folder, **values)
    with pytest.raises(CheckpointError, match=message) as error:
        read_adapter(folder, CONFIG, base())
    assert str(folder) in str(error.value)


DAMAGED: dict[str, tuple[Callable[[dict[str, np.ndarray]], Any], str]] = {
    "missing part": (lambda t: t.pop(KEY), r"up_proj: lora_A: expected one of shape \(3, 24\), found none"),
    "shape": (lambda t: t.update({KEY: np.zeros((3, 25), np.float32)}), r"expected shape \(3, 24\), found \(3, 25\)"),
    "numbers": (lambda t: t.update({KEY: np.full((3, 24), np.nan, np.float32)}), "expected finite numbers, found NaN"),
    "other base": (
        lambda t: _rename(t, "layers.1.", "layers.9."),
        "expected one of this model's matrices, found none of this name: another base",
    ),
    "head": (
        lambda t: t.update({"base_model.model.lm_head.lora_A.weight": np.zeros((3, 24), np.float32)}),
        "module lm_head: expected none, found one: Gemma's head is its embedding",
    ),
    "untied": (
        lambda t: t.update({"base_model.model.model.embed_tokens.weight": np.zeros((720, 24), np.float32)}),
        "embed_tokens.weight: expected with one of lm_head, found alone: Gemma's head is its embedding",
    ),
}


@pytest.mark.parametrize(("edit", "message"), DAMAGED.values(), ids=DAMAGED)
def test_tensors_that_do_not_fit_are_refused(folder: Path, edit: Any, message: str) -> None:
    edit_tensors(folder, edit)
    with pytest.raises(CheckpointError, match=message):
        read_adapter(folder, CONFIG, base())


def test_cut_off_missing_and_pickled_files_are_refused(folder: Path) -> None:
    path = folder / ADAPTER_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="the file is truncated"):
        read_adapter(folder, CONFIG, base())
    path.rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="can run code and is never read"):
        read_adapter(folder, CONFIG, base())
    (folder / CONFIG_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=CONFIG_FILE):
        read_adapter(folder, CONFIG, base())
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(CheckpointError, match="expected the folder of an adapter"):
        read_adapter(folder, CONFIG, base())


def test_a_model_without_changes_is_not_saved_as_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected an adapted model, found no changes"):
        save_adapter(tmp_path / "adapter", CONFIG, sharp_weights(CONFIG))
    assert not (tmp_path / "adapter").exists()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=5,
)
_KEYS = st.sampled_from(sorted(peft_json(PeftConfig(8, 16, ("q_proj",)))))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work on the machine is no failure
@given(st.dictionaries(_KEYS, _JSON, max_size=4))
def test_any_json_is_read_or_refused(values: dict[str, Any]) -> None:
    stored = {**peft_json(PeftConfig(8, 16, ("q_proj",))), **values}
    refused, found = "", None
    try:
        found = parse_peft_config(json.dumps(stored))
    except ValueError as error:
        refused = str(error)
    assert "expected" in refused or found is not None
    assert found is None or parse_peft_config(json.dumps(peft_json(found))) == found
