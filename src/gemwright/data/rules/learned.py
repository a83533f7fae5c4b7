"""Texts scored by a linear model over hashed words and runs of letters, learned from labelled examples.

The model is one small array: a text's score is the sum of its features' weights, through a sigmoid.
Learning takes scikit-learn; scoring takes only NumPy.
"""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gemwright.core.arrays import read_arrays
from gemwright.data.plain import Array, window_hashes, word_hashes
from gemwright.data.rules.batch import Batch, Verdicts

BITS = 16  # of a feature's number

_GAPS = re.compile(r"[\W_]+")
_SPREAD = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class LinearModel:
    """Weights of hashed words and runs of four letters.

    Attributes:
      weights: (2**BITS,) float32.
      bias: added to every text's sum.
    """

    weights: Array
    bias: float

    def scores(self, texts: Sequence[str]) -> Array:
        """(texts,) probability of the positive label."""
        sums = np.array([self._sum(text) for text in texts], np.float64)
        return 1 / (1 + np.exp(-np.clip(sums, -50, 50)))

    def _sum(self, text: str) -> float:
        found = features(text)
        return float(self.weights[found].sum() / np.sqrt(max(len(found), 1)) + self.bias)

    def save(self, path: Path) -> None:
        """Weights as float16, 128 KB at most."""
        np.savez_compressed(path, weights=self.weights.astype(np.float16), bias=np.float32(self.bias))


def features(text: str) -> Array:
    """Numbers of the words of a text and of its runs of four letters, each once.

    The runs know a word by its parts: with few labelled examples most words of a new text were never seen.
    """
    plain = _GAPS.sub(" ", f" {text.casefold()} ")
    letters = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    hashes = np.concatenate([word_hashes(text), window_hashes(letters * _SPREAD, 4) * _SPREAD])
    return np.unique(hashes >> np.uint64(64 - BITS)).astype(np.int64)


def load_model(path: Path | str) -> LinearModel:
    """
    Raises:
      OSError: if there is no such file.
      ValueError: if it is no such model.
    """
    try:
        stored = read_arrays(path)
        model = LinearModel(stored["weights"].astype(np.float32), float(stored["bias"]))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected a model written by `gemwright data learn`: {error}") from None
    if model.weights.shape != (1 << BITS,):
        raise ValueError(f"{path}: expected {1 << BITS} weights, found an array of shape {model.weights.shape}")
    return model


def learn(texts: Sequence[str], labels: Sequence[bool], strength: float = 10.0) -> LinearModel:
    """Fit a model by logistic regression, both labels weighing the same.

    Args:
      strength: of the fit; smaller numbers hold the weights closer to zero.

    Raises:
      ValueError: if one of the labels has no example.
    """
    if len(set(labels)) < 2:
        raise ValueError("expected examples of both labels")
    from sklearn.linear_model import LogisticRegression

    fitted: Any = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    fitted.fit(_matrix(texts), np.asarray(labels))
    return LinearModel(fitted.coef_[0].astype(np.float32), float(fitted.intercept_[0]))


def learn_from(good: Sequence[str], bad: Sequence[str], out: Path) -> tuple[int, float]:
    """Learn from the documents of files and write the model; returns how many were held out, and the area under
    the curve on them.

    Raises:
      FileNotFoundError: if there are no such files.
      ValueError: if one side has too few examples to hold some out.
    """
    examples = [(text, label) for names, label in ((good, True), (bad, False)) for text in _texts(names)]
    held = [example for example in examples if is_held_out(example[0])]
    seen = [example for example in examples if not is_held_out(example[0])]
    if min(len({label for _, label in part}) for part in (held, seen)) < 2:
        raise ValueError(f"{len(examples)} examples: too few to learn from some and test on others; give more of both")
    model = learn([text for text, _ in seen], [label for _, label in seen])
    model.save(out)
    labels = np.array([label for _, label in held])
    return len(held), area_under_curve(model.scores([text for text, _ in held]), labels)


def _texts(names: Sequence[str]) -> list[str]:
    from gemwright.data.documents import Document
    from gemwright.data.reading.files import find_files
    from gemwright.data.reading.read import origin_of, read_documents

    found = (document for file in find_files(names) for document in read_documents(origin_of(file)))
    return [document.text for document in found if isinstance(document, Document) and document.text.strip()]


def is_held_out(text: str) -> bool:
    """One text in five, by itself alone."""
    return hashlib.sha256(text.encode()).digest()[0] % 5 == 0


def area_under_curve(scores: Array, labels: Array) -> float:
    """Chance that a text of the positive label scores above one of the other."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def _matrix(texts: Sequence[str]) -> Any:
    from scipy.sparse import csr_array

    rows = [features(text) for text in texts]
    values = [np.full(len(row), 1 / np.sqrt(max(len(row), 1))) for row in rows]
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return csr_array((np.concatenate(values), np.concatenate(rows), ends), shape=(len(texts), 1 << BITS))


@dataclass(frozen=True)
class Learned:
    """Drop texts by a model's score.

    Attributes:
      model: path of a model, or `toxicity`, which comes with the package.
      drop: whether scores above or below the threshold go.
      threshold: between 0 and 1.
      part: characters scored together; the worst part of a text counts where scores above go, the mean otherwise.
    """

    model: str = "toxicity"
    drop: Literal["above", "below"] = "above"
    threshold: float = 0.9
    part: int = 500
    name: str = "toxicity"

    def __call__(self, batch: Batch) -> Verdicts:
        model = _loaded(self.model)
        return Verdicts([self._one(text, model) for text in batch.texts])

    def _one(self, text: str, model: LinearModel) -> str | None:
        parts = [text[begin : begin + self.part] for begin in range(0, max(len(text), 1), self.part)]
        scores = model.scores(parts)
        if self.drop == "above":
            return f"score above {self.threshold:g}" if scores.max() > self.threshold else None
        return f"score below {self.threshold:g}" if scores.mean() < self.threshold else None


@functools.lru_cache(maxsize=8)
def _loaded(name: str) -> LinearModel:
    return load_model(Path(__file__).parent / "toxicity.npz" if name == "toxicity" else name)
