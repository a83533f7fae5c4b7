"""Gemwright: the whole life of a Gemma model in one library.

import gemwright
model = gemwright.load()                        # the small default model; or a folder, or a hub name
model.generate("Once upon a time", max_new_tokens=60, temperature=0.7)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemwright.conversation import Conversation as Conversation
    from gemwright.embedding import Embedder as Embedder
    from gemwright.embedding import load_embedder as load_embedder
    from gemwright.model import Completion as Completion
    from gemwright.model import Model as Model
    from gemwright.model import load as load
    from gemwright.shield import Shield as Shield
    from gemwright.text.chat import Message as Message
    from gemwright.tuning.dpo import dpo as dpo
    from gemwright.tuning.reward import reward as reward
    from gemwright.tuning.rlhf import rlhf as rlhf
    from gemwright.tuning.sft import Tuned as Tuned
    from gemwright.tuning.sft import sft as sft

_HOMES = {
    "load": "gemwright.model",
    "Model": "gemwright.model",
    "Completion": "gemwright.model",
    "Conversation": "gemwright.conversation",
    "Message": "gemwright.text.chat",
    "Embedder": "gemwright.embedding",
    "load_embedder": "gemwright.embedding",
    "Shield": "gemwright.shield",
    "sft": "gemwright.tuning.sft",
    "reward": "gemwright.tuning.reward",
    "dpo": "gemwright.tuning.dpo",
    "rlhf": "gemwright.tuning.rlhf",
    "Tuned": "gemwright.tuning.sft",
}

__all__ = [
    "Completion", "Conversation", "Embedder", "Message", "Model", "Shield", "Tuned", "dpo", "load",
    "load_embedder", "reward", "rlhf", "sft",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `gemwright --help` starts at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gemwright' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
