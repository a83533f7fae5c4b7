"""The header of a GGUF file: what the library `gguf` writes is read as it says; damage is an error, and no worse."""

import struct
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_header import Strings, TensorEntry, read_header
from gemwright.checkpoints.gguf_names import TYPES
from gemwright.checkpoints.gguf_reader import GgufFile, match_gguf, open_gguf
from gemwright.checkpoints.gguf_tokenizer import read_tokenizer
from gemwright.checkpoints.gguf_writer import save_gguf
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import sharp_weights
from tests.checkpoints.gguf_files import GGUF_CONFIGS, K_TYPES

Kind = gguf.GGUFValueType

# ----------------------------------------------------------------------------------- good headers

NUMBERS = {
    Kind.UINT8: st.integers(0, 2**8 - 1),
    Kind.INT8: st.integers(-(2**7), 2**7 - 1),
    Kind.UINT16: st.integers(0, 2**16 - 1),
    Kind.INT16: st.integers(-(2**15), 2**15 - 1),
    Kind.UINT32: st.integers(0, 2**32 - 1),
    Kind.INT32: st.integers(-(2**31), 2**31 - 1),
    Kind.UINT64: st.integers(0, 2**64 - 1),
    Kind.INT64: st.integers(-(2**63), 2**63 - 1),
    Kind.FLOAT32: st.floats(width=32, allow_nan=False),
    Kind.FLOAT64: st.floats(allow_nan=False),
    Kind.BOOL: st.booleans(),
    Kind.STRING: st.text(st.characters(exclude_categories=["Cs"])),
}


@st.composite
def values(draw: st.DrawFn) -> tuple[Kind, Kind | None, Any]:
    """Type, type of the elements, value."""
    kind = draw(st.sampled_from(list(NUMBERS)))
    if draw(st.booleans()):
        return kind, None, draw(NUMBERS[kind])
    return Kind.ARRAY, kind, draw(st.lists(NUMBERS[kind], min_size=1, max_size=5))


@given(st.dictionaries(st.text("abc.", min_size=1, max_size=9), values(), max_size=6))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_metadata_are_what_was_written(tmp_path: Path, metadata: dict[str, tuple[Kind, Kind | None, Any]]) -> None:
    writer = gguf.GGUFWriter(tmp_path / "any.gguf", "any")
    for key, (kind, element, value) in metadata.items():
        writer.add_key_value(key, value, kind, element)
    finish(writer)
    found, tensors = read_header(memoryview((tmp_path / "any.gguf").read_bytes()))
    assert tensors == {}
    assert list(found) == ["general.architecture", *metadata]
    for key, (kind, _, value) in metadata.items():
        assert list(found[key]) == value if kind == Kind.ARRAY else found[key] == value, key
        assert kind == Kind.ARRAY or type(found[key]) is type(value)


def finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("alignment", [None, 64])
def test_tensors_lie_where_the_library_finds_them(tmp_path: Path, alignment: int | None) -> None:
    writer = gguf.GGUFWriter(tmp_path / "any.gguf", "any")
    if alignment:
        writer.add_custom_alignment(alignment)
    random = np.random.default_rng(0)
    for rows, kind in enumerate(("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "IQ4_NL"), start=1):
        data = random.integers(0, 256, (rows, 256 // TYPES[kind].block * TYPES[kind].block_bytes), np.uint8)
        writer.add_tensor(kind, data, raw_dtype=K_TYPES[kind])
    finish(writer)
    data = (tmp_path / "any.gguf").read_bytes()
    _, entries = read_header(memoryview(data))
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "any.gguf").tensors}
    assert list(entries) == list(theirs)
    for name, entry in entries.items():
        tensor = theirs[name]
        assert (entry.kind, entry.shape) == (name, tuple(reversed(tensor.shape.tolist())))
        assert (entry.start, entry.stop - entry.start) == (tensor.data_offset, tensor.n_bytes)


def test_the_types_are_the_librarys() -> None:
    for kind, (block, block_bytes) in gguf.GGML_QUANT_SIZES.items():
        stored = TYPES[kind.name]
        assert (stored.number, stored.block, stored.block_bytes) == (kind.value, block, block_bytes), kind


def test_strings_are_a_sequence(tmp_path: Path) -> None:
    words = ["", "ab", "▁ñ", "c" * 300]
    strings = string_array(tmp_path, words)
    assert list(strings) == words
    assert len(strings) == 4
    assert strings[-1] == words[-1]
    assert strings[1:3] == words[1:3]
    with pytest.raises(IndexError):
        strings[4]


def string_array(tmp_path: Path, words: list[str]) -> Strings:
    writer = gguf.GGUFWriter(tmp_path / "words.gguf", "any")
    writer.add_array("words", words)
    finish(writer)
    return read_header(memoryview((tmp_path / "words.gguf").read_bytes()))[0]["words"]


# -------------------------------------------------------------------------------- written by hand


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def u32(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(*parts: bytes, tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join(parts)


def test_version_2_is_read() -> None:
    data = header(u32("a", 7), tensor("t", (3,), 0, 0), tensors=1, keys=1, version=2)
    start = len(data) + -len(data) % 32
    metadata, entries = read_header(memoryview(data + bytes(start + 12 - len(data))))
    assert metadata == {"a": 7}
    assert (entries["t"].start, entries["t"].stop, entries["t"].shape) == (start, start + 12, (3,))


HUGE = 2**63
BAD = {
    "expected the first bytes b'GGUF', found b'PK\\x03\\x04'": b"PK\x03\x04" + bytes(40),
    "version: expected 2 or 3, found 1": header(version=1),
    "version: expected 2 or 3, found 70000": header(version=70000),
    "expected little-endian numbers, found big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "the number of tensors: expected 8 bytes from byte 8, found a file of 12: it is truncated": header()[:12],
    "a key: expected 8 bytes": header(keys=HUGE),
    "a key: expected at most 65,535 bytes, found a length of": header(struct.pack("<Q", HUGE), keys=1),
    "key: expected 9 bytes from": header(text("key") + struct.pack("<IQ", 8, 9), keys=1),
    "key: expected at most 67,108,864 bytes": header(text("key") + struct.pack("<IQ", 8, HUGE), keys=1),
    "key: expected one such key, found two": header(u32("key", 1), u32("key", 1), keys=2),
    "key: expected a number, a string or an array of such, found type 13": header(
        text("key") + struct.pack("<I", 13), keys=1
    ),
    "key: expected a number, a string or an array of such, found type 9": header(
        text("key") + struct.pack("<IIQ", 9, 9, 1), keys=1
    ),
    "key: expected 36,893,488,147,419,103,232 bytes": header(text("key") + struct.pack("<IIQ", 9, 4, HUGE), keys=1),
    "key: expected at most 4,194,304 strings, found": header(text("key") + struct.pack("<IIQ", 9, 8, HUGE), keys=1),
    "key: expected 8 bytes": header(text("key") + struct.pack("<IIQ", 9, 8, 3) + text("") + text(""), keys=1),
    "key: expected 0 or 1 for a truth value, found 2": header(text("key") + struct.pack("<IB", 7, 2), keys=1),
    "general.alignment: expected a power of two, found 0": header(u32("general.alignment", 0), keys=1),
    "general.alignment: expected a power of two, found 48": header(u32("general.alignment", 48), keys=1),
    "the name of a tensor: expected 8 bytes": header(tensors=HUGE),
    "tensor t: expected at most 4 axes, found 5": header(tensor("t", (1,) * 5, 0, 0), tensors=1),
    "tensor t: expected a type of llama.cpp's, found number 99": header(tensor("t", (1,), 99, 0), tensors=1),
    "tensor t: expected one of this name, found two": header(
        tensor("t", (8,), 0, 0), tensor("t", (8,), 0, 32), bytes(99), tensors=2
    ),
    "tensor u: expected at byte 128 of the file, found 129": header(
        tensor("t", (8,), 0, 0), tensor("u", (8,), 0, 33), bytes(99), tensors=2
    ),
    "tensor t: expected rows of whole blocks of 32 (Q8_0), found 33": header(tensor("t", (33,), 8, 0), tensors=1),
    "tensor u: expected 172 bytes in the file, found 155: the file is truncated": header(
        tensor("t", (8,), 0, 0), tensor("u", (11,), 0, 32), bytes(65), tensors=2
    ),
    "a key: expected printable text, found '\\x1b[2J\\nkey'": header(u32("\x1b[2J\nkey", 1), keys=1),
    "'utf-8' codec can't decode": header(text(b"\xff") + struct.pack("<II", 4, 1), keys=1),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_said(tmp_path: Path, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(BAD[message])
    with pytest.raises(CheckpointError) as caught:
        open_gguf(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


# ----------------------------------------------------------------------------------------- damage


@dataclass(frozen=True)
class Sample:
    """A small model's file with a tokenizer, what is read of it, and where its tensors lie."""

    data: bytes
    file: GgufFile
    entries: dict[str, TensorEntry]

    @property
    def header(self) -> int:
        return min(entry.start for entry in self.entries.values())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Sample:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    config = GGUF_CONFIGS["gemma2"]
    save_gguf(path, config, sharp_weights(config), tokenizer, kind="f16")
    return Sample(path.read_bytes(), open_gguf(path), read_header(memoryview(path.read_bytes()))[1])


LARGEST = 2**22  # bytes that reading the sample's header may take, whatever is wrong with it


def read_all(path: Path, data: bytes) -> GgufFile | str:
    """What is read of a file, or the one line by which it is refused."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        file = open_gguf(path)
        match_gguf(file)
        read_tokenizer(file)
    except CheckpointError as error:
        return str(error)
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < LARGEST
    return file


many = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@given(st.data())
@many
def test_a_truncated_file_is_refused_and_the_tensor_named(tmp_path: Path, sample: Sample, draws: st.DataObject) -> None:
    in_header = draws.draw(st.booleans())
    limits = (0, sample.header) if in_header else (sample.header, len(sample.data) - 32)  # what may follow is padding
    kept = draws.draw(st.integers(*limits).filter(lambda kept: kept < limits[1]))
    message = read_all(tmp_path / "cut.gguf", sample.data[:kept])
    assert isinstance(message, str)
    assert f"{kept:,}" in message
    assert "truncated" in message
    if not in_header:
        cut = next(name for name, entry in sample.entries.items() if entry.stop > kept)
        assert f"tensor {cut}:" in message


@given(st.data())
@many
def test_a_changed_byte_is_refused_or_changes_one_thing(tmp_path: Path, sample: Sample, draws: st.DataObject) -> None:
    data = bytearray(sample.data)
    data[draws.draw(st.integers(0, sample.header - 1))] ^= draws.draw(st.integers(1, 255))
    found = read_all(tmp_path / "changed.gguf", bytes(data))
    if isinstance(found, str):
        assert "\n" not in found
        return
    before, after = things(sample.file), things(found)
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1


def test_more_layers_than_tensors_are_refused_before_any_is_declared(tmp_path: Path, sample: Sample) -> None:
    key = next(key for key in sample.file.metadata if key.endswith(".block_count"))
    at = sample.data.index(key.encode()) + len(key) + 4  # behind the value's type
    message = read_all(tmp_path / "many.gguf", sample.data[:at] + struct.pack("<I", 2**24) + sample.data[at + 4 :])
    assert isinstance(message, str)
    assert "block_count: expected no more layers than" in message


def things(file: GgufFile) -> list[Any]:
    pairs = [(key, list(value) if hasattr(value, "__len__") else value) for key, value in file.metadata.items()]
    return [*pairs, *((name, tensor.kind, tensor.shape) for name, tensor in file.tensors.items())]
