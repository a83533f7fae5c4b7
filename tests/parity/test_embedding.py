"""EmbeddingGemma beside transformers' reader, and what sentence-transformers computes after it by its own source."""

from pathlib import Path

import numpy as np
import pytest

from tests.sentence_folders import CONFIG, sharp, write_sentence_folder
from tests.tolerances import LOGITS, UNDONE

pytestmark = pytest.mark.parity


def oracle(folder: Path, tokens: np.ndarray, mask: np.ndarray, **changes: object) -> np.ndarray:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(folder, **changes)
    config._attn_implementation = "eager"
    model = transformers.Gemma3TextModel.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    kept = torch.tensor(mask)
    with torch.inference_mode():
        hidden = model(torch.tensor(tokens), attention_mask=kept).last_hidden_state
        vector = (hidden * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)
        for layer in sharp().dense:
            vector = vector @ torch.tensor(np.asarray(layer)).T
        return torch.nn.functional.normalize(vector, p=2, dim=-1).numpy()


def test_vectors_are_the_oracles_with_padding_too(tmp_path: Path) -> None:
    folder = write_sentence_folder(tmp_path / "model", sharp())
    tokens = np.random.default_rng(1).integers(4, CONFIG.text.vocab_size, (3, 30))
    mask = (np.arange(30) < np.array([[30], [11], [4]])).astype(np.int64)
    positions = np.where(mask > 0, np.arange(30), -1)
    found = np.asarray(sharp()(tokens.astype(np.int32), CONFIG, positions=positions.astype(np.int32)))
    expected = oracle(folder, tokens, mask)
    np.testing.assert_allclose(found, expected, rtol=0, atol=LOGITS)
    for changes in ({"use_bidirectional_attention": False}, {"sliding_window": 8}):
        assert np.abs(oracle(folder, tokens, mask, **changes) - expected).max() > UNDONE
