"""A model that is asked questions in words: the judge's mouth and ear."""

from collections.abc import Sequence

from gemwright.checkpoints.load import Checkpoint
from gemwright.text.chat import Message, format_chat
from gemwright.tuning.rewards.judge import Ask
from gemwright.tuning.rollouts import Roller

_SLOTS = 8


def asker(model: Checkpoint, most: int = 64) -> Ask:
    """What a model says to each question, its likeliest tokens.

    Args:
      most: tokens of an answer.
    """
    tokenizer, config = model.tokenizer, model.config
    assert tokenizer is not None
    longest = config.max_positions - most
    roller: list[Roller] = []  # made at the first question: its cache takes memory

    def ask(questions: Sequence[str]) -> list[str]:
        prompts = [format_chat(tokenizer, [Message("user", question)]).ids for question in questions]
        too_long = next((len(ids) for ids in prompts if len(ids) > longest), None)
        if too_long:
            raise ValueError(f"judge {model.folder.name}: a question of {too_long} tokens does not fit its {longest}")
        if not roller:
            roller.append(Roller(model.weights, config, tokenizer.stop_ids, _SLOTS, longest, most))
        said = roller[0].answers(model.weights, prompts, None)
        return [tokenizer.decode([i for i in one.ids if i not in tokenizer.stop_ids]).strip() for one in said]

    return ask
