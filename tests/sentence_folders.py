"""A tiny EmbeddingGemma in files, written as the published one is laid out, without the reader's own names."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from gemwright.core.module import Spec, generator, map_specs
from gemwright.models import gemma3
from gemwright.models.embedding_gemma import Config, EmbeddingGemma
from gemwright.text.tokenizer import Tokenizer

TEXT = gemma3.Config(
    vocab_size=640,
    embed_dim=24,
    num_layers=4,
    num_heads=3,
    num_kv_heads=1,
    head_dim=10,
    mlp_dim=36,
    query_scale=10**-0.5,
    windows=(4, 4, None),  # 6 in the file: a token and three on either side
    max_positions=80,
)
CONFIG = Config(TEXT, dense=(40, 20))

STORED_TEXT = {
    "architectures": ["Gemma3TextModel"],
    "model_type": "gemma3_text",
    "use_bidirectional_attention": True,
    "vocab_size": 640,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 10,
    "intermediate_size": 36,
    "query_pre_attn_scalar": 10,
    "max_position_embeddings": 80,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "torch_dtype": "float32",
}

MODULES = [
    ("", "sentence_transformers.models.Transformer"),
    ("1_Pooling", "sentence_transformers.models.Pooling"),
    ("2_Dense", "sentence_transformers.models.Dense"),
    ("3_Dense", "sentence_transformers.models.Dense"),
    ("4_Normalize", "sentence_transformers.models.Normalize"),
]

_LAYER = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention.output": "self_attn.o_proj",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "mlp_post_norm": "post_feedforward_layernorm",
}


def sharp(seed: int = 0) -> EmbeddingGemma:
    def draw(name: str, spec: Spec) -> jax.Array:
        deviation = 0.3 if spec.init == "zeros" else 1.5 / np.sqrt(spec.fan_in)
        return jnp.asarray(generator(seed, name).standard_normal(spec.shape) * deviation, jnp.float32)

    return map_specs(draw, EmbeddingGemma.specs(CONFIG))


def stored_tensors(weights: EmbeddingGemma) -> dict[str, np.ndarray]:
    """The reader's, by their published names."""
    tensors = {"embed_tokens.weight": weights.text.embedding, "norm.weight": weights.text.final_norm}
    for number, block in enumerate(weights.text.layers):
        for ours, theirs in _LAYER.items():
            value: Any = block
            for part in ours.split("."):
                value = getattr(value, part)
            tensors[f"layers.{number}.{theirs}.weight"] = value
    return {name: joined(name, np.asarray(value)) for name, value in tensors.items()}


def joined(name: str, value: np.ndarray) -> np.ndarray:
    """Heads are one dimension in files: rows of an output, columns of an input."""
    if value.ndim != 3:
        return value
    return value.reshape(len(value), -1) if "o_proj" in name else value.reshape(-1, value.shape[-1])


def write_sentence_folder(folder: Path, weights: EmbeddingGemma, tokenizer: Tokenizer | None = None) -> Path:
    folder.mkdir()
    save_file(stored_tensors(weights), folder / "model.safetensors")
    write(folder / "config.json", STORED_TEXT)
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(MODULES)]
    write(folder / "modules.json", modules)
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: ", "STS": "task: | "}
    write(folder / "config_sentence_transformers.json", {"prompts": prompts, "similarity_fn_name": "cosine"})
    for path, _ in MODULES[1:]:
        (folder / path).mkdir()
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True})
    for path, layer in zip(("2_Dense", "3_Dense"), weights.dense, strict=True):
        rows, columns = layer.shape
        said = {"in_features": columns, "out_features": rows, "bias": False}
        write(folder / path / "config.json", {**said, "activation_function": "torch.nn.modules.linear.Identity"})
        save_file({"linear.weight": np.asarray(layer)}, folder / path / "model.safetensors")
    if tokenizer:
        tokenizer.save(folder)
    return folder


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def edit(path: Path, **changes: Any) -> None:
    write(path, {**json.loads(path.read_text()), **changes})
