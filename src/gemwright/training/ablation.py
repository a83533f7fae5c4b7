"""Which mixture of sources is best: small proxies are trained on each, and compared on held-out text of every source.

A recipe's function `ablation` returns what is tried. Each proxy has a folder of its own and is done once its result is
there; killed at any moment, the same command goes on. What they used and reached is also what a law of loss is
fitted to.
"""

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.data.mixture import Mixture, MixtureStage
from gemwright.data.packing import Rows, Tokens
from gemwright.data.pipeline.shards import write_json
from gemwright.data.pipeline.tokens import streams_by_source
from gemwright.data.recipe_file import in_recipe
from gemwright.models.family import Decoder
from gemwright.models.gemma import gemma1
from gemwright.text.tokenizer import Tokenizer, load_tokenizer
from gemwright.training.loop import train
from gemwright.training.pretrain import recipe_module
from gemwright.training.run import Optimizer, Run, Stage
from gemwright.training.run_report import losses_by_position

FUNCTION = "ablation"

_NO_NAME = re.compile(r"[^\w .-]")  # in a folder's name
_HELD_OUT = 1 << 14  # tokens of a source that proxies are examined with, at most

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """A proxy: about `12 * layers * width**2` weights and its embeddings."""

    width: int = 64
    layers: int = 2
    steps: int = 300


@dataclass(frozen=True)
class Ablation:
    """What is tried.

    Attributes:
      documents: folder of a `gemwright data run` that ended in tokens.
      tokenizer: the one that it cut them with.
      candidates: weights of sources, by the mixture's name.
      sizes: each candidate is trained at each size; the last one ranks.
      seeds: of weights and orders, the same for all candidates; at least two, for an interval.
      length: tokens of a row.
      tokens_per_step: in all rows of a step.
      lr: highest learning rate.
    """

    documents: Path
    tokenizer: Path
    candidates: Mapping[str, Mapping[str, float]]
    sizes: tuple[Size, ...] = (Size(),)
    seeds: tuple[int, ...] = (0, 1, 2)
    length: int = 128
    tokens_per_step: int = 2048
    lr: float = 4e-3

    def __post_init__(self) -> None:
        if not self.candidates or not self.sizes or len(set(self.seeds)) < 2:
            raise ValueError("expected candidates, sizes, and at least two different seeds to tell chance from merit")


@dataclass(frozen=True)
class Score:
    """Bits per byte: the mean over seeds, and half the width of its 95% interval (Student's t)."""

    mean: float
    margin: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Score":
        from scipy.stats import t

        spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return cls(float(np.mean(values)), float(t.ppf(0.975, len(values) - 1)) * spread)


@dataclass(frozen=True)
class Ranked:
    """A candidate's place: on all held-out text together, and on each source's."""

    name: str
    weights: Mapping[str, float]
    total: Score
    sources: Mapping[str, Score] = field(default_factory=dict[str, Score])


def read_ablation(path: Path) -> Ablation:
    """Run a recipe's function `ablation`.

    Raises:
      ValueError: if the file cannot be run, or has no such function.
    """
    function = getattr(recipe_module(path), FUNCTION, None)
    if not callable(function):
        raise ValueError(f"{path}: expected a function {FUNCTION}() -> Ablation, found none; see recipes/ablation.py")
    with in_recipe(path):
        found = function()
    if not isinstance(found, Ablation):
        raise ValueError(f"{path}: expected {FUNCTION} to return an Ablation, found {type(found).__name__}")
    return found


def ablate(ablation: Ablation, out: Path, say: Say = lambda text: None) -> list[Ranked]:
    """Train what is missing, and rank the candidates, the best first.

    `out` receives a folder a proxy, `ranking.json`, `ranking.png` and, for `gemwright data scaling`, `runs.jsonl`.

    Raises:
      ValueError: if the run has no such source, or `out` holds proxies of other settings.
    """
    texts = _Texts.read(ablation)
    proxies = [(name, size, seed) for size in ablation.sizes for name in ablation.candidates for seed in ablation.seeds]
    results: list[dict[str, Any]] = []
    spent, trained = 0.0, 0
    for number, (name, size, seed) in enumerate(proxies, 1):
        folder = out / f"{_NO_NAME.sub('_', name)}-{size.width}x{size.layers}-{size.steps}-{seed}"
        left = f"; about {spent / trained * (len(proxies) - number + 1) / 60:.0f} min left" if trained else ""
        if not (folder / "result.json").exists():
            say(f"proxy {number} of {len(proxies)}: {name}, width {size.width}, seed {seed}{left}")
            begin = time.perf_counter()
            _train_proxy(ablation, texts, name, size, seed, folder)
            spent, trained = spent + time.perf_counter() - begin, trained + 1
        results.append(_read_result(folder, _settings(ablation, texts, name, size, seed)))
    last = [row for row in results if row["size"] == asdict(ablation.sizes[-1])]
    ranking = sorted((_ranked(name, last) for name in ablation.candidates), key=lambda one: one.total.mean)
    _write(out, ranking, results)
    return ranking


@dataclass(frozen=True)
class _Texts:
    """Streams by source, and for each source how many bytes its held-out tokens stand for."""

    train: Mapping[str, Tokens]
    held_out: Mapping[str, Tokens]
    bytes: Mapping[str, int]
    tokenizer: Tokenizer
    fingerprint: str

    @classmethod
    def read(cls, ablation: Ablation) -> "_Texts":
        manifest = ablation.documents / "tokens" / "manifest.json"
        if not manifest.exists():
            raise ValueError(f"{ablation.documents}: expected a run that ended in tokens; its recipe needs a tokenizer")
        tokenizer = load_tokenizer(ablation.tokenizer)
        if json.loads(manifest.read_text(encoding="utf-8"))["tokenizer"] != tokenizer.fingerprint:
            raise ValueError(
                f"{ablation.documents}: was cut into tokens by another tokenizer than {ablation.tokenizer}"
            )
        held = streams_by_source(ablation.documents, "heldout")
        held = {name: part[:_HELD_OUT] for name, part in held.items() if len(part) > 2 * ablation.length}
        if not held:
            raise ValueError(f"{ablation.documents}: no source has {2 * ablation.length} tokens held out to compare by")
        sizes = {name: len(tokenizer.decode(part.tolist()).encode()) for name, part in held.items()}
        return cls(streams_by_source(ablation.documents), held, sizes, tokenizer, manifest.read_text(encoding="utf-8"))


def _settings(ablation: Ablation, texts: _Texts, name: str, size: Size, seed: int) -> dict[str, Any]:
    """All that a proxy's result depends on."""
    read = {"length": ablation.length, "tokens_per_step": ablation.tokens_per_step, "lr": ablation.lr}
    own = {"candidate": name, "weights": dict(ablation.candidates[name]), "size": asdict(size), "seed": seed}
    return {**own, **read, "documents": texts.fingerprint}


def _train_proxy(ablation: Ablation, texts: _Texts, name: str, size: Size, seed: int, folder: Path) -> None:
    settings = _settings(ablation, texts, name, size, seed)
    begun = folder / "settings.json"
    if not begun.exists():
        write_json(begun, settings)
    _check(json.loads(begun.read_text(encoding="utf-8")), settings, folder)
    run = _run(ablation, texts, size, seed)
    bos = texts.tokenizer.bos_id
    sources = {source: Rows(stream, bos, seed) for source, stream in texts.train.items()}
    mixture = Mixture(sources, (MixtureStage(size.steps, ablation.candidates[name]),))
    weights = train(run, mixture, folder, save_every=100)
    bits, nats = _examined(run, weights, texts)
    tokens = size.steps * ablation.tokens_per_step
    used = {"parameters": _count(weights), "tokens": tokens, "loss": nats}
    write_json(folder / "result.json", {**settings, **used, "bits_per_byte": bits})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _run(ablation: Ablation, texts: _Texts, size: Size, seed: int) -> Run:
    heads = max(1, size.width // 32)
    model = gemma1(
        vocab_size=texts.tokenizer.vocab_size, embed_dim=size.width, num_layers=size.layers, num_heads=heads,
        num_kv_heads=1, head_dim=32, mlp_dim=3 * size.width, max_positions=ablation.length,
    )  # fmt: skip
    optimizer = Optimizer(lr=ablation.lr, warmup=max(1, size.steps // 10))
    return Run(model, (Stage(size.steps, ablation.length),), ablation.tokens_per_step, optimizer, seed=seed)


def _examined(run: Run, weights: Decoder, texts: _Texts) -> tuple[dict[str, float], float]:
    """Bits per byte of each source's held-out text and of all together (""), and the loss of all in nats a token."""
    bits: dict[str, float] = {}
    nats = dict.fromkeys(texts.held_out, 0.0)
    for source, stream in texts.held_out.items():
        curve = losses_by_position(run, weights, Rows(stream, texts.tokenizer.bos_id, 0), len(stream))
        mean = sum(loss * count for _, _, loss, count in curve) / sum(count for *_, count in curve)
        nats[source] = mean * _predicted(stream, texts.tokenizer.bos_id)
        bits[source] = nats[source] / math.log(2) / texts.bytes[source]
    bits[""] = sum(nats.values()) / math.log(2) / sum(texts.bytes.values())
    predicted = sum(_predicted(stream, texts.tokenizer.bos_id) for stream in texts.held_out.values())
    return bits, sum(nats.values()) / predicted


def _predicted(stream: Tokens, bos: int) -> int:
    """Tokens that follow another of their document."""
    return int((stream != bos).sum())


def _count(weights: Decoder) -> int:
    import jax

    return sum(int(leaf.size) for leaf in jax.tree.leaves(weights))


def _read_result(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    _check({name: result.get(name) for name in settings}, settings, folder)
    return result


def _check(kept: dict[str, Any], settings: dict[str, Any], folder: Path) -> None:
    for name, value in settings.items():
        if kept.get(name) != value:
            raise ValueError(f"{folder}: holds a proxy with another {name}; choose another folder for this ablation")


def _ranked(name: str, results: Sequence[dict[str, Any]]) -> Ranked:
    own = [row for row in results if row["candidate"] == name]
    scores = {key: Score.of([row["bits_per_byte"][key] for row in own]) for key in own[0]["bits_per_byte"]}
    total = scores.pop("")
    return Ranked(name, own[0]["weights"], total, scores)


def _write(out: Path, ranking: Sequence[Ranked], results: Sequence[dict[str, Any]]) -> None:
    write_json(out / "ranking.json", [asdict(one) for one in ranking])
    rows = [json.dumps({name: row[name] for name in ("parameters", "tokens", "loss")}) for row in results]
    (out / "runs.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    plot(out / "ranking.png", ranking)


def plot(path: Path, ranking: Sequence[Ranked]) -> None:
    """Bits per byte of each candidate, on all text and by source, with intervals; the best at the top."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    sources = sorted(ranking[0].sources)
    figure, all_axes = plt.subplots(
        1,
        len(sources) + 1,
        figsize=(3 + 2.2 * (len(sources) + 1), 1.2 + 0.4 * len(ranking)),
        sharey=True,
        squeeze=False,
    )
    for axes, source in zip(all_axes[0], ["", *sources], strict=True):
        scores = [one.sources[source] if source else one.total for one in ranking]
        places = range(len(ranking) - 1, -1, -1)
        axes.errorbar([s.mean for s in scores], places, xerr=[s.margin for s in scores], fmt="o", capsize=3)
        axes.set(
            yticks=list(places),
            yticklabels=[one.name for one in ranking],
            title=source or "all",
            xlabel="bits per byte",
        )
        axes.margins(y=0.3)
        axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
