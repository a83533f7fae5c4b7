"""A picture file as upright RGB of 8 bits a channel, or one line that says why not.

What becomes of the unusual ones:
- rotated by an EXIF tag: turned upright;
- transparent: laid on white, as transformers' processors do;
- animated or of several pages: the first frame;
- 16-bit grey: scaled to 8 bits, rounding; 16-bit colour: the upper 8 bits, which is what Pillow decodes;
- CMYK, grey, palette, black and white: converted; colour profiles are not applied;
- larger than `MOST_PIXELS`, damaged, cut off, or in colours of other kinds (LAB, 32 bits a channel): refused.
"""

import io
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 89_478_485
"""256 MiB of RGB, where Pillow too begins to speak of decompression bombs."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is opened, whatever a file is called. Pillow knows more; some of those start other programs."""

_WHITE = (255, 255, 255, 255)
_CONVERTIBLE = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


class PictureError(ValueError):
    """A picture cannot be used. One line: which, what was expected and found, what to do."""


def load_picture(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Read a picture, upright and RGB.

    Args:
      source: a path, the bytes of a file, or a picture that Pillow has opened.

    Raises:
      PictureError: if it is no picture, is damaged, or is too large.
    """
    if isinstance(source, Image.Image):
        return _upright(source)
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), f"picture of {len(source)} bytes")
    path = Path(source)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise PictureError(f"{path}: expected a picture file, found {found}")
    with path.open("rb") as stream:
        return _read(stream, str(path))


def to_rgb(picture: Image.Image) -> Image.Image:
    """A decoded picture in RGB, on white where it is transparent.

    Raises:
      PictureError: if its colours are of a kind that has no plain conversion.
    """
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return _narrowed(picture).convert("RGB")
    if picture.mode not in _CONVERTIBLE:
        raise PictureError(
            f"expected colours as RGB, grey, palette or CMYK, found {picture.mode}; save it as PNG in RGB"
        )
    if picture.has_transparency_data:
        opaque = Image.new("RGBA", picture.size, _WHITE)
        return Image.alpha_composite(opaque, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _read(stream: IO[bytes], name: str) -> Image.Image:
    try:
        # Pillow warns of large pictures and of odd metadata: the first is refused below, the second harmless.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=FORMATS) as picture:
                return _upright(picture)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise PictureError(f"{name}: expected a picture ({', '.join(FORMATS)}), found none of them") from None
    except Image.DecompressionBombError:
        raise PictureError(f"{name}: expected at most {MOST_PIXELS:,} pixels, found more; make it smaller") from None
    except Exception as error:  # Pillow's decoders meet damaged bytes with errors of a dozen kinds
        raise PictureError(f"{name}: damaged or cut off ({_one_line(error)}); get the file again") from None


def _upright(picture: Image.Image) -> Image.Image:
    _check_size(picture)
    return to_rgb(ImageOps.exif_transpose(picture))


def _check_size(picture: Image.Image) -> None:
    """Before decoding: only the header has been read."""
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise PictureError(f"expected at most {MOST_PIXELS:,} pixels, found {width} x {height}; make it smaller")


def _narrowed(picture: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; Pillow's own conversion would clip at 255."""
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise PictureError("expected 8 or 16 bits a channel, found 32; save it as PNG in 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
