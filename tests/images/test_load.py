"""Pictures of every kind become upright RGB, or one line says why not."""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gemwright.images import load
from gemwright.images.load import PictureError, load_picture

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"  # beside the checkout, where it is
ORIENTATION = 0x0112  # the EXIF tag


def noise(width: int = 12, height: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(height, width, channels), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def levels(data: bytes) -> np.ndarray:
    picture = load_picture(data)
    assert picture.mode == "RGB"
    return np.asarray(picture)


# ------------------------------------------------------------------------------------------ handled


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_a_picture_kept_without_loss_comes_back_exactly(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(levels(encoded(Image.fromarray(noise()), kind, **options)), noise())


def test_a_path_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "picture.of.no.known.kind"
    path.write_bytes(encoded(Image.fromarray(noise())))
    np.testing.assert_array_equal(np.asarray(load_picture(path)), noise())
    np.testing.assert_array_equal(np.asarray(load_picture(str(path))), noise())


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.swapaxes(0, 1)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: np.rot90(x, 2).swapaxes(0, 1)),
        (8, lambda x: np.rot90(x)),
    ],
)
def test_a_picture_is_turned_upright_as_its_camera_noted(orientation: int, undo: Any) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.fromarray(noise()), exif=exif)
    np.testing.assert_array_equal(levels(data), undo(noise()))


def test_what_is_transparent_is_laid_on_white() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0] = (200, 100, 0, 255)
    clear[1] = (0, 0, 0, 128)
    found = levels(encoded(Image.fromarray(clear)))
    assert found[0, 0].tolist() == [200, 100, 0]
    assert abs(int(found[1, 0, 0]) - 127) <= 1
    assert found[3, 3].tolist() == [255, 255, 255]


def test_a_transparent_grey_is_laid_on_white_too() -> None:
    clear = np.zeros((2, 2, 2), np.uint8)
    clear[0] = (60, 255)
    found = levels(encoded(Image.merge("LA", _bands(clear))))
    assert found[0, 0].tolist() == [60, 60, 60]
    assert found[1, 1].tolist() == [255, 255, 255]


def _bands(values: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(np.ascontiguousarray(values[..., band])) for band in range(values.shape[-1])]


def test_a_palette_gives_its_colours_and_its_hole_is_white() -> None:
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.putdata([0, 1, 2])
    assert levels(encoded(picture)).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert levels(encoded(picture, transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_grey_and_black_and_white_fill_all_channels() -> None:
    grey = noise(channels=1)[..., 0]
    np.testing.assert_array_equal(levels(encoded(Image.fromarray(grey))), np.stack([grey] * 3, axis=-1))
    assert set(levels(encoded(Image.fromarray(grey).convert("1"))).ravel().tolist()) == {0, 255}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    assert levels(encoded(Image.fromarray(deep), kind))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_16_bit_colour_keeps_its_upper_bits() -> None:
    assert levels(png_of_16_bits([[0x12FF, 0x3400, 0xFFFF]])).tolist() == [[[0x12, 0x34, 0xFF]]]


def png_of_16_bits(pixels: list[list[int]]) -> bytes:
    """One row of RGB, which Pillow reads and does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    size = len(pixels).to_bytes(4, "big") + (1).to_bytes(4, "big")
    row = b"\0" + b"".join(value.to_bytes(2, "big") for pixel in pixels for value in pixel)
    header = chunk(b"IHDR", size + bytes([16, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


def test_ink_on_paper_becomes_light() -> None:
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    for data in (encoded(ink, "TIFF"), encoded(ink, "JPEG", quality=95)):
        red, green, blue = levels(data)[4, 4].tolist()
        assert red < 5
        assert min(green, blue) > 250


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_or_of_pages_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert levels(data)[0, 0].tolist() == [255, 0, 0]


def test_a_picture_may_be_one_pixel() -> None:
    assert levels(encoded(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


# ------------------------------------------------------------------------------------------ refused


def refusal(source: Any) -> str:
    with pytest.raises(PictureError) as caught:
        load_picture(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.png") == f"{tmp_path}/none.png: expected a picture file, found nothing"
    assert refusal(tmp_path) == f"{tmp_path}: expected a picture file, found a folder"


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"])
def test_what_is_no_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path}: expected a picture (JPEG, PNG,")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_picture_cut_off_is_refused(kind: str) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    assert "damaged or cut off" in refusal(data[: len(data) * 2 // 3])


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    side = 30_000
    small = encoded(Image.new("1", (8, 8)))
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + small[24:29]
    bomb = small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]
    assert "expected at most 89,478,485 pixels, found more" in refusal(bomb)


def test_a_picture_a_little_too_large_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MOST_PIXELS", 95)
    assert "expected at most 95 pixels, found 12 x 8; make it smaller" in refusal(encoded(Image.fromarray(noise())))


def test_colours_of_other_kinds_are_refused() -> None:
    assert "expected 8 or 16 bits a channel, found 32" in refusal(encoded(Image.new("I", (2, 2), 70_000), "TIFF"))
    assert "found F; save it as PNG in RGB" in refusal(encoded(Image.new("F", (2, 2), 0.5), "TIFF"))
    assert "found LAB; save it as PNG in RGB" in refusal(encoded(Image.new("LAB", (2, 2)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_damaged_bytes_give_a_picture_or_a_reason_and_nothing_else(kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    whole = encoded(Image.fromarray(noise(24, 24)), kind, **options)
    draw = np.random.default_rng(1)
    outcomes = set()
    for _ in range(60):
        data = bytearray(whole)
        for at in draw.integers(len(data), size=3):
            data[at] = draw.integers(256)
        outcomes.add(outcome(bytes(data)))
    assert outcomes <= {"RGB", "refused"}


def outcome(data: bytes) -> str:
    try:
        return load_picture(data).mode
    except PictureError as error:
        return "several lines" if "\n" in str(error) else "refused"


def test_two_pictures_in_one_jpeg_give_the_first() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    red, _, blue = levels(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95))[0, 0].tolist()
    assert red > 250
    assert blue < 5


def test_without_pillow_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    import gemwright.images

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gemwright\[images\]'"):
        importlib.reload(gemwright.images)


# ------------------------------------------------------------------------------------ real pictures


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real pictures are not here")
@pytest.mark.parametrize("folder", ["images_gemma", "images_skimage"])
def test_real_photographs_load(folder: str) -> None:
    paths = [path for path in (SHARED / folder).iterdir() if path.suffix.lower() in (".jpg", ".png")]
    assert paths
    for path in paths:
        picture = load_picture(path)
        assert picture.mode == "RGB"
        assert np.asarray(picture).std() > 5
