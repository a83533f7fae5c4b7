"""Masks from codes: against NumPy in float64 and, live, against torch; and its file read."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.mask_decoder import FILE_NAME, load_mask_decoder
from gemwright.core.module import count, initialise, named_leaves
from gemwright.models.mask_decoder import Config, Conv, Doubling, MaskDecoder, published_names
from tests.tolerances import LOGITS, SAME

SMALL = Config(codes=9, code_dim=12, channels=16, doublings=4)
CODES = np.random.default_rng(0).integers(9, size=(3, 16))


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape)


def test_a_convolution_is_the_formula_in_float64() -> None:
    x, kernel, bias = normal(2, 5, 5, 3), normal(4, 3, 3, 3), normal(4)
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    exact = sum(
        np.einsum("bhwi,oi->bhwo", wide[:, r : r + 5, c : c + 5], kernel[:, :, r, c])
        for r in range(3)
        for c in range(3)
    )
    found = Conv(jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(np.asarray(found), exact + bias, rtol=0, atol=SAME)


def test_a_doubling_is_the_formula_in_float64() -> None:
    x, kernel, bias = normal(2, 3, 3, 5), normal(5, 4, 4, 4), normal(4)
    spread = np.zeros((2, 10, 10, 4))  # each input adds its kernel at twice its place; one line is cut off all around
    for row in range(3):
        for column in range(3):
            added = np.einsum("bi,iorc->brco", x[:, row, column], kernel)
            spread[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += added
    found = Doubling(jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(np.asarray(found), spread[:, 1:7, 1:7] + bias, rtol=0, atol=SAME)


def test_masks_are_64_on_a_side_and_the_published_decoder_has_its_size() -> None:
    specs = MaskDecoder.specs(Config())
    weights = jax.tree.map(lambda spec: jax.ShapeDtypeStruct(spec.shape, jnp.float32), specs)
    masks = jax.eval_shape(lambda weights, codes: weights(codes), weights, jax.ShapeDtypeStruct((5, 16), jnp.int32))
    assert masks.shape == (5, 64, 64)
    layers = 512 * 128 + 128 + 2 * (2 * (9 * 128 * 128 + 128) + 128 * 128 + 128)
    doublings = sum(16 * a * b + b for a, b in ((128, 128), (128, 64), (64, 32), (32, 16)))
    assert count(specs) == 128 * 512 + layers + doublings + 16 + 1


def test_a_code_moves_its_own_corner_of_the_mask() -> None:
    weights = initialise(MaskDecoder.specs(SMALL), seed=0)
    other = CODES.copy()
    other[:, 0] = (other[:, 0] + 1) % 9
    run = jax.jit(lambda codes: weights(codes))
    moved = np.abs(np.asarray(run(jnp.asarray(CODES)) - run(jnp.asarray(other))))
    assert moved[:, :16, :16].max() > 10 * moved[:, 48:, 48:].max()


# ------------------------------------------------------------------------------------------- files


def saved(folder: Path, **changes: np.ndarray | None) -> MaskDecoder:
    weights = initialise(MaskDecoder.specs(SMALL), seed=1)
    names = published_names(SMALL)
    arrays = {names[name]: np.asarray(value) for name, value in named_leaves(weights).items()} | changes
    np.savez(folder / FILE_NAME, **{name: array for name, array in arrays.items() if array is not None})
    return weights


def test_a_file_is_read_from_its_path_and_from_its_folder(tmp_path: Path) -> None:
    weights = saved(tmp_path, **{"encoder.0.weight": np.zeros(3)})
    for path in (tmp_path, tmp_path / FILE_NAME):
        for name, value in named_leaves(load_mask_decoder(path, SMALL)).items():
            np.testing.assert_array_equal(value, named_leaves(weights)[name])


def test_layers_have_their_numbers_of_the_published_file() -> None:
    names = published_names(Config())
    assert names["codebook"] == "_vq_vae._embedding"
    assert names["residuals.1.second.kernel"] == "decoder.3.net.2.weight"
    assert names["doublings.3.bias"] == "decoder.10.bias"
    assert names["outward.kernel"] == "decoder.12.weight"
    assert set(names) == set(named_leaves(MaskDecoder.specs(Config())))


def test_what_is_not_the_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such file; masks need big_vision's vae-oid.npz"):
        load_mask_decoder(tmp_path)
    saved(tmp_path, **{"decoder.6.bias": None})
    with pytest.raises(CheckpointError, match=r"expected an array 'decoder.6.bias', found none"):
        load_mask_decoder(tmp_path, SMALL)
    saved(tmp_path, **{"decoder.6.bias": np.zeros(3)})
    with pytest.raises(CheckpointError, match=r"expected 'decoder.6.bias' of shape \(8,\), found \(3,\)"):
        load_mask_decoder(tmp_path, SMALL)
    whole = (tmp_path / FILE_NAME).read_bytes()
    for data in (whole[:1000], b"", b"hello"):
        (tmp_path / FILE_NAME).write_bytes(data)
        with pytest.raises(CheckpointError, match=r"expected an .npz"):
            load_mask_decoder(tmp_path, SMALL)


# ------------------------------------------------------------------------------------------ parity


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
def test_masks_are_those_of_the_published_layers_in_torch() -> None:
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, wide: int) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(),
                nn.Conv2d(wide, wide, 1),
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.net(x)

    def doubling(inward: int, outward: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(inward, outward, 4, stride=2, padding=1), nn.ReLU()]

    layers = [nn.Conv2d(12, 16, 1), nn.ReLU(), Residual(16), Residual(16)]
    layers += [*doubling(16, 16), *doubling(16, 8), *doubling(8, 4), *doubling(4, 2), nn.Conv2d(2, 1, 1)]
    model = nn.Sequential(*layers)
    weights = initialise(MaskDecoder.specs(SMALL), seed=2)
    ours, names = named_leaves(weights), published_names(SMALL)
    state = {names[name]: torch.tensor(np.asarray(value)) for name, value in ours.items()}
    codebook = state.pop("_vq_vae._embedding")
    model.load_state_dict({name.removeprefix("decoder."): value for name, value in state.items()}, strict=True)
    with torch.inference_mode():
        theirs = model(codebook[torch.tensor(CODES)].reshape(3, 4, 4, 12).permute(0, 3, 1, 2))[:, 0].numpy()
    np.testing.assert_allclose(np.asarray(weights(jnp.asarray(CODES))), theirs, rtol=0, atol=LOGITS)
