"""The decoder of `<segNNN>` tokens: 16 codes of a codebook become a mask of 64 x 64.

A small convolutional network, a checkpoint of its own (`vae-oid.npz`, which google-research/big_vision
publishes beside PaliGemma). Source: big_vision `evaluators/proj/paligemma/transfers/segmentation.py`.

Letters: M masks, C channels of a layer.
"""

from dataclasses import dataclass

import jax

from gemwright.core.module import module, weight

# ---------------------------------------------------------------------------------------- config


@dataclass(frozen=True)
class Config:
    """The constants, those of the published checkpoint unless given.

    Attributes:
      codes: entries of the codebook.
      code_dim: width of an entry.
      channels: width of the first layers; each doubling of the side halves it.
      doublings: how often the side of 4 is doubled.
    """

    codes: int = 128
    code_dim: int = 512
    channels: int = 128
    doublings: int = 4

    @property
    def side(self) -> int:
        return SIDE << self.doublings


SIDE = 4
"""Codes along one side of a mask; they stand row by row."""

# ----------------------------------------------------------------------------------------- parts


@module
class Conv:
    """A convolution that keeps the side."""

    kernel: jax.Array  # (out, in, rows, columns)
    bias: jax.Array  # (out,)

    @staticmethod
    def specs(inward: int, outward: int, side: int) -> "Conv":
        axes = ("channels_out", "channels_in", "row", "column")
        return Conv(weight((outward, inward, side, side), axes, inputs=3, product=False), _bias(outward))

    def __call__(self, x: jax.Array) -> jax.Array:
        kept = jax.lax.conv_general_dilated(x, self.kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC"))
        return kept + self.bias


@module
class Doubling:
    """A transposed convolution of 4 x 4 at stride 2: twice the side."""

    kernel: jax.Array  # (in, out, 4, 4)
    bias: jax.Array  # (out,)

    @staticmethod
    def specs(inward: int, outward: int) -> "Doubling":
        axes = ("channels_in", "channels_out", "row", "column")
        return Doubling(weight((inward, outward, 4, 4), axes, inputs=3, product=False), _bias(outward))

    def __call__(self, x: jax.Array) -> jax.Array:
        # The gradient of a convolution: its kernel turned by half a circle over an input with gaps.
        turned = self.kernel[:, :, ::-1, ::-1]
        numbers = ("NHWC", "IOHW", "NHWC")
        doubled = jax.lax.conv_general_dilated(
            x, turned, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=numbers
        )
        return doubled + self.bias


@module
class Residual:
    first: Conv
    second: Conv
    third: Conv

    @staticmethod
    def specs(channels: int) -> "Residual":
        wide = Conv.specs(channels, channels, 3)
        return Residual(wide, wide, Conv.specs(channels, channels, 1))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.third(jax.nn.relu(self.second(jax.nn.relu(self.first(x)))))


def _bias(size: int) -> jax.Array:
    return weight((size,), ("channels_out",), init="zeros")


# ----------------------------------------------------------------------------------------- model


@module
class MaskDecoder:
    codebook: jax.Array  # (codes, code_dim)
    inward: Conv
    residuals: tuple[Residual, ...]
    doublings: tuple[Doubling, ...]
    outward: Conv

    @staticmethod
    def specs(config: Config) -> "MaskDecoder":
        wide = config.channels
        widths = [wide, *(wide >> step for step in range(config.doublings))]
        return MaskDecoder(
            codebook=weight((config.codes, config.code_dim), ("code", "embed"), product=False),
            inward=Conv.specs(config.code_dim, wide, 1),
            residuals=(Residual.specs(wide),) * 2,
            doublings=tuple(map(Doubling.specs, widths, widths[1:])),
            outward=Conv.specs(widths[-1], 1, 1),
        )

    def __call__(self, codes: jax.Array) -> jax.Array:
        """(M, 16) integers -> (M, side, side): above 0 is inside, about -1 to 1."""
        x = self.codebook[codes].reshape(len(codes), SIDE, SIDE, -1)
        x = jax.nn.relu(self.inward(x))
        for residual in self.residuals:
            x = residual(x)
        for doubling in self.doublings:
            x = jax.nn.relu(doubling(x))
        return self.outward(x)[..., 0]


# ------------------------------------------------------------------------------------ name table


def published_names(config: Config) -> dict[str, str]:
    """A layer's name here, and in the published file, where each layer has its number in one list."""
    parts = {"first": 0, "second": 2, "third": 4}
    names = {"inward": "decoder.0", "outward": f"decoder.{4 + 2 * config.doublings}"}
    names |= {f"residuals.{i}.{part}": f"decoder.{2 + i}.net.{at}" for i in range(2) for part, at in parts.items()}
    names |= {f"doublings.{i}": f"decoder.{4 + 2 * i}" for i in range(config.doublings)}
    both = (("kernel", "weight"), ("bias", "bias"))
    arrays = {f"{ours}.{a}": f"{theirs}.{b}" for ours, theirs in names.items() for a, b in both}
    return {"codebook": "_vq_vae._embedding", **arrays}
