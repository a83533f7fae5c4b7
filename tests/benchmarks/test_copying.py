"""The weights of the speculation benchmark do copy, with the tokens replaced that shall be."""

import numpy as np

from benchmarks.copying import copying_config, copying_weights
from gemwright.inference.session import Session
from gemwright.inference.speculative import PromptLookup, decode_speculatively
from gemwright.models.gemma import gemma1


def test_the_answer_is_the_text_with_its_names_replaced() -> None:
    """The text says most things twice, so that only the distance tells which of two places is meant."""
    config = copying_config(
        gemma1(
            vocab_size=64, embed_dim=2048, num_layers=2, num_heads=8, num_kv_heads=1, head_dim=256, mlp_dim=32,
            max_positions=512,
        )
    )  # fmt: skip
    half = np.random.default_rng(0).integers(3, 60, 40).tolist()
    text = [*half, 61, *half, 62]
    replaced = {text[20]: 63, text[33]: 2}
    prompt = [2, *text, 60, 61, 62, *text[:10]]
    session = Session(copying_weights(config, replaced, len(prompt) - 1 - 10), config, 1, 256)
    session.extend([prompt])
    steps = decode_speculatively(session, PromptLookup(), len(text) - 10)
    assert [step.tokens[0] for step in steps] == [replaced.get(token, token) for token in text[10:]]
