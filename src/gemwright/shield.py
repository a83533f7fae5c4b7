"""Texts judged by ShieldGemma: how probable it is that one breaks a rule."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gemwright.model import Model
from gemwright.text.shield_prompt import POLICIES, format_shield_prompt, guideline


@dataclass(frozen=True)
class Shield:
    """A ShieldGemma, which is a Gemma 2 asked one question: `Shield(gemwright.load("shieldgemma-2b"))`."""

    model: Model

    def judge(
        self, prompt: str, answer: str | None = None, policies: Sequence[str] = tuple(POLICIES)
    ) -> dict[str, float]:
        """How probable it is that a user's prompt, or a model's answer to it, breaks each policy.

        Args:
          answer: is judged where given, and else the prompt.
          policies: names of `POLICIES`.

        Returns:
          by the policy, the share of `Yes` in `Yes` and `No` as the next token: 0 to 1.

        Raises:
          ValueError: if a text is empty or too long, or a policy is unknown.
        """
        of_answer = answer is not None
        return {policy: self.breaks(guideline(policy, of_answer), prompt, answer) for policy in policies}

    def breaks(self, rule: str, prompt: str, answer: str | None = None) -> float:
        """`judge` by one rule in your own words; the closer to those of `guideline`, the better."""
        tokenizer = self.model.tokenizer
        ids = format_shield_prompt(tokenizer, rule, prompt, answer).ids
        yes, no = (_only_id(tokenizer.encode(word), word) for word in ("Yes", "No"))
        session = self.model.session(1, len(ids))
        session.extend([ids])
        scores = session.logits()[0][jnp.asarray([yes, no])]
        return float(jax.nn.softmax(scores)[0])


def _only_id(ids: list[int], word: str) -> int:
    if len(ids) != 1:
        raise ValueError(f"the vocabulary spells {word!r} in {len(ids)} pieces: expected one; is it a ShieldGemma's?")
    return ids[0]
