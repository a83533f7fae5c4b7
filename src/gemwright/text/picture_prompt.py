"""The text behind a picture, as PaliGemma was trained on it.

Order: the picture's patches, which the model itself puts in front, BOS, the prompt, a newline, the answer, EOS.
The newline is a token of its own whatever the prompt ends with. Source: google-research/big_vision
`configs/proj/paligemma/README.md`.
"""

from gemwright.text.prompt import FormattedPrompt, PromptBuilder
from gemwright.text.tokenizer import Tokenizer


def format_picture_prompt(tokenizer: Tokenizer, prompt: str, answer: str | None = None) -> FormattedPrompt:
    """Ids of a prompt such as `caption en`, `answer en What is it?`, `detect cat ; dog` or `segment cat`.

    Args:
      answer: what the model is to write, for training; ended by EOS.
    """
    builder = PromptBuilder(tokenizer)
    builder.text((prompt, "user"))
    builder.text(("\n", "template"))
    if answer is not None:
        builder.text((answer, "model"))
        builder.control(tokenizer.eos_id, answer=True)
    return builder.build()
