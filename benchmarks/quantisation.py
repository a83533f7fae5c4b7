"""What quantising costs, beside llama.cpp's Q4_0 and Q8_0: divergence and perplexity on held-out text.

    python -m benchmarks.quantisation --corpus FOLDER [--model FOLDER] [--tokens 16384]

Weights alone: every form becomes float32 again and the model computes in float32. llama.cpp's are rounded
by its own library, `gguf`. The importance is learnt from training documents of the same corpus. Prints a
table, and as its last line one JSON object.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gguf import GGMLQuantizationType, quants

import gemwright
from gemwright.core.module import Spec, map_specs, named_leaves
from gemwright.core.packed import pack_weights
from gemwright.core.quantise import dequantise, quantise
from gemwright.data.documents import Split
from gemwright.models.family import Decoder, specs_of
from gemwright.quantisation.compare import compare
from gemwright.quantisation.importance import importance
from gemwright.quantisation.mixed import choose_bits, sensitivities, stored_bytes
from gemwright.quantisation.texts import windows
from recipes.mini import documents

Array = np.ndarray[Any, Any]

ROW = 512
MIXED = (5.0, 5.5, 6.5)


@dataclass(frozen=True)
class Form:
    """A way to store the matrices: its size, and the values that come out again."""

    name: str
    bits_per_weight: float
    weights: Decoder


def forms(model: gemwright.Model, calibration: Array) -> Iterator[Form]:
    specs = specs_of(model.config)
    weights = model.weights
    important = importance(weights, model.config, calibration)
    for bits, kind in ((4, GGMLQuantizationType.Q4_0), (8, GGMLQuantizationType.Q8_0)):
        yield Form(f"llama.cpp {kind.name}", bits + 0.5, _rounded(specs, weights, lambda _, m, k=kind: _llama(m, k)))
        yield Form(f"{bits} bits", bits + 0.5, _rounded(specs, weights, lambda _, m, b=bits: _ours(m, b, None)))
        yield Form(
            f"{bits} bits, importance",
            bits + 0.5,
            _rounded(specs, weights, lambda name, m, b=bits: _ours(m, b, important[name])),
        )
    packed = pack_weights(specs, weights, 4, important)
    found = sensitivities(weights, packed, model.config, calibration[:4])
    for average in MIXED:
        chosen = choose_bits(model.config, found, average)
        dense = _rounded(specs, weights, lambda name, m, c=chosen: _ours(m, c[name], important[name]))
        yield Form("mixed, importance", _average(specs, chosen), dense)


def _rounded(specs: Decoder, weights: Decoder, change: Callable[[str, Array], Array]) -> Decoder:
    def each(name: str, spec: Spec, weight: jax.Array) -> jax.Array:
        if not spec.is_matrix:
            return weight
        matrix = np.asarray(weight, np.float32).reshape(-1, spec.fan_in)
        return jnp.asarray(change(name, matrix)).reshape(spec.shape)

    return map_specs(each, specs, weights)


def _llama(matrix: Array, kind: GGMLQuantizationType) -> Array:
    return quants.dequantize(quants.quantize(matrix, kind), kind)


def _ours(matrix: Array, bits: int, important: Array | None) -> Array:
    return dequantise(*quantise(matrix, bits, important), matrix.shape[1])


def _average(specs: Decoder, bits: dict[str, int]) -> float:
    named: dict[str, Spec] = named_leaves(specs)
    return 8 * sum(stored_bytes(named[n], b) for n, b in bits.items()) / sum(named[n].size for n in bits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with training and held-out documents")
    parser.add_argument("--model", help="folder of the model; the default model if left out")
    parser.add_argument("--tokens", type=int, default=16_384, help="to measure on")
    parser.add_argument("--calibration", type=int, default=16_384, help="tokens to calibrate on")
    arguments = parser.parse_args()
    model = gemwright.load(arguments.model, dtype="float32")
    found = documents(arguments.corpus)

    def rows(split: Split, tokens: int) -> Array:
        chosen = [d for d in found if d.split == split]
        order = np.random.default_rng(0).permutation(len(chosen))
        return windows((chosen[i].text[:4_000] for i in order), model.tokenizer, tokens, ROW)

    held_out = rows("heldout", arguments.tokens)
    results: list[dict[str, Any]] = []
    print(f"{'form':30}{'bits':>8}{'KL':>12}{'perplexity':>12}{'rise':>9}{'same':>9}")
    for form in forms(model, rows("train", arguments.calibration)):
        c = compare(model.weights, form.weights, model.config, held_out)
        shown = f"{c.divergence:12.6f}{c.other_perplexity:12.4f}{c.rise:9.3%}{c.agreement:9.2%}"
        print(f"{form.name:30}{form.bits_per_weight:8.2f}{shown}", flush=True)
        results.append({"form": form.name, "bits_per_weight": form.bits_per_weight, **c.to_json()})
    print(json.dumps(results))


if __name__ == "__main__":
    main()
