"""The files beside a tokenizer that make transformers and vLLM use it, and show pictures, as this library does."""

import json
import shutil
from pathlib import Path
from typing import Any

from gemwright.text import control
from gemwright.text.tokenizer import Tokenizer

_CONFIG = "tokenizer_config.json"
_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    _CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
)

CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set system, turns = messages[0]['content'] | trim, messages[1:] -%}"
    "{%- else -%}{%- set system, turns = '', messages -%}{%- endif -%}"
    "{{ bos_token }}"
    "{%- for turn in turns -%}"
    "{%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('user and model take turns, user first, after at most one system message') }}"
    "{%- endif -%}"
    "{{ '<start_of_turn>' + ('user' if turn['role'] == 'user' else 'model') + '\\n' }}"
    "{%- if loop.first and system -%}{{ system + '\\n\\n' }}{%- endif -%}"
    "{{ (turn['content'] | trim) + '<end_of_turn>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
)
"""The layout of `gemwright.text.chat`, for the template engine of transformers."""


def write_tokenizer(folder: Path, tokenizer: Tokenizer | None, source: Path | None) -> None:
    """Put a tokenizer into a folder.

    Args:
      source: a folder whose files are taken as they are; what it lacks is made.
    """
    for name in _FILES:
        if source is not None and (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if tokenizer is None:
        return
    tokenizer.save(folder)
    if not (folder / _CONFIG).exists():
        text = json.dumps(_config(tokenizer), indent=2, ensure_ascii=False)
        (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")


def _config(tokenizer: Tokenizer) -> dict[str, Any]:
    """A `tokenizer.json` brings its own BOS; the class for a `tokenizer.model` is told to add one."""
    names = {
        "bos_token": control.BOS_PIECE,
        "eos_token": control.EOS_PIECE,
        "pad_token": control.PAD_PIECE,
        "unk_token": control.UNK_PIECE,
    }
    gemma = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False}
    plain = {"tokenizer_class": "PreTrainedTokenizerFast"}
    return {
        **(gemma if tokenizer.file_name == "tokenizer.model" else plain),
        **{key: piece for key, piece in names.items() if tokenizer.has(piece)},
        "clean_up_tokenization_spaces": False,
        **({"chat_template": CHAT_TEMPLATE} if tokenizer.has(control.START_OF_TURN) else {}),
    }
