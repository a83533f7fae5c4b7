"""Texts scored by a linear model over hashed features, learned from labelled examples.

The model is one small array: a text's score is the sum of its features' weights, through a sigmoid.
Learning takes scikit-learn; scoring takes only NumPy.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gemwright.core.arrays import read_arrays
from gemwright.data.plain import Array
from gemwright.data.rules.batch import Batch, Verdicts
from gemwright.data.rules.features import COUNT, Features, features


@dataclass(frozen=True)
class LinearModel:
    """Weights of hashed features.

    Attributes:
      weights: (COUNT,) float32.
      bias: added to every text's sum.
    """

    weights: Array
    bias: float

    def scores(self, texts: Sequence[str]) -> Array:
        """(texts,) probability of the positive label."""
        return self.of(features(texts))

    def of(self, found: Features) -> Array:
        """(texts,) probability of the positive label, of texts whose features are known."""
        sums = np.concatenate([[0.0], np.cumsum(self.weights[found.numbers], dtype=np.float64)])
        counts = np.diff(found.starts)
        scaled = np.diff(sums[found.starts]) / np.sqrt(np.maximum(counts, 1)) + self.bias
        return 1 / (1 + np.exp(-np.clip(scaled, -50, 50)))

    def save(self, path: Path) -> None:
        """Weights as float16, 192 KB at most."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:  # given the name, NumPy would add .npz to one without it
            np.savez_compressed(file, weights=self.weights.astype(np.float16), bias=np.float32(self.bias))


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
    if model.weights.shape != (COUNT,):
        raise ValueError(f"{path}: expected {COUNT} weights, found an array of shape {model.weights.shape}")
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

    found = features(texts)
    counts = np.diff(found.starts)
    values = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts)
    return csr_array((values, found.numbers, found.starts), shape=(len(texts), COUNT))


@dataclass(frozen=True)
class Learned:
    """Drop texts by a model's score.

    Attributes:
      model: path of a model, or `toxicity` or `quality`, which come with the package.
      drop: whether scores above or below the threshold go.
      threshold: between 0 and 1.
      part: characters scored together; the worst part of a text counts where scores above go, the mean otherwise.
    """

    model: str = "toxicity"
    drop: Literal["above", "below"] = "above"
    threshold: float = 0.85
    part: int = 500
    name: str = "toxicity"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"{self.name}: expected a threshold from 0 to 1, found {self.threshold}")

    def __call__(self, batch: Batch) -> Verdicts:
        parts = batch.shared(_parts, self.part)
        scores = _loaded(self.model).of(parts.features)
        if self.drop == "above":
            worst = np.maximum.reduceat(scores, parts.starts[:-1]) if len(batch) else scores
            return Verdicts([f"score above {self.threshold:g}" if score > self.threshold else None for score in worst])
        means = np.add.reduceat(scores, parts.starts[:-1]) / np.diff(parts.starts) if len(batch) else scores
        return Verdicts([f"score below {self.threshold:g}" if score < self.threshold else None for score in means])


def quality(model: str = "quality", threshold: float = 0.2) -> Learned:
    """Drop what a model scores low; the package's own, of English, is learned by `recipes/quality.py`."""
    return Learned(model, "below", threshold, name="quality")


@dataclass(frozen=True)
class _Parts:
    """Texts in parts of equal length: the parts' features; (texts + 1,) where each text's parts begin."""

    features: Features
    starts: Array


def _parts(texts: Sequence[str], size: int) -> _Parts:
    parts = [[text[begin : begin + size] for begin in range(0, max(len(text), 1), size)] for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in parts], dtype=np.int64)]).astype(np.int64)
    return _Parts(features([part for one in parts for part in one]), starts)


@functools.lru_cache(maxsize=8)
def _loaded(name: str) -> LinearModel:
    return load_model(Path(__file__).parent / f"{name}.npz" if name in ("toxicity", "quality") else name)
