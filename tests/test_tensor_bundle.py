"""The reader of TensorFlow checkpoints: real index files, written ones, and hostile ones."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpoint_writer import (
    block,
    entry,
    field,
    header,
    masked_crc,
    table,
    varint,
    with_index,
    write_checkpoint,
)
from dgam.core.errors import InputError
from dgam.encoders.crc32c import crc32c, masked_crc32c
from dgam.encoders.i3d import I3D
from dgam.encoders.i3d_names import tensorflow_names
from dgam.encoders.tensor_bundle import TensorBundle

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "reference" / "kinetics_i3d_index"

# RFC 3720, appendix B.4.
VECTORS = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (b"123456789", 0xE3069283),
    (b"", 0),
]


@pytest.mark.parametrize(("data", "wanted"), VECTORS)
def test_crc32c_of_the_standards_examples(data: bytes, wanted: int) -> None:
    assert crc32c(data) == wanted


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.one_of(st.integers(0, 300), st.integers(2000, 9000)))
def test_crc32c_in_lanes_agrees_with_bit_by_bit(seed: int, length: int) -> None:
    data = np.random.default_rng(seed).bytes(length)
    assert masked_crc32c(data) == masked_crc(data)


@pytest.mark.parametrize(("stream", "scope", "channels"), [("rgb", "RGB", 3), ("flow", "Flow", 2)])
def test_every_variable_of_the_published_index_is_one_of_ours(stream: str, scope: str, channels: int) -> None:
    prefix = REAL / f"{stream}_imagenet" / "model.ckpt"
    if not Path(f"{prefix}.index").exists():
        pytest.skip("the published index files are not here")
    entries = TensorBundle(prefix).entries
    network = I3D(channels)
    ours = {f"{scope}/inception_i3d/{theirs}": name for name, theirs in tensorflow_names(network).items()}
    assert set(entries) == set(ours)  # one to one: 57 units of 4 variables, and the classifier's 2
    assert len(set(ours.values())) == len(network.state_dict()) == 230
    state = network.state_dict()
    offset = 0
    for name in sorted(entries):  # the data file holds them in this order, without a gap
        found, shape = entries[name], tuple(state[ours[name]].shape)
        if len(shape) == 5:
            shape = (*shape[2:], shape[1], shape[0])
        elif ours[name] == "Logits.weight":
            shape = (1, 1, 1, 1024, 400)
        assert found.shape == shape
        assert (found.dtype, found.shard, found.sliced) == (1, 0, False)
        assert found.offset == offset
        assert found.size == 4 * state[ours[name]].numel()
        offset += found.size


def some_arrays(count: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    arrays = {
        f"net/block_{i % 7}/layer_{i:02d}/w": rng.standard_normal((i % 4 + 1, 3)).astype(np.float32)
        for i in range(count)
    }
    return arrays | {
        "global_step": np.array(7, dtype=np.int64),
        "half": np.arange(5, dtype=np.float16),
        "double": np.ones((2, 0, 3)),
        "名": np.arange(3, dtype=np.int32),
    }


def test_a_written_checkpoint_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_checkpoint(tmp_path / "model.ckpt", arrays)
    bundle = TensorBundle(tmp_path / "model.ckpt")
    assert set(bundle.entries) == set(arrays)
    for name, wanted in arrays.items():
        got = bundle.read(name)
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        assert got.tobytes() == wanted.tobytes()
    with pytest.raises(KeyError):
        bundle.read("net/other")


def test_damaged_data_is_noticed(tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt"
    write_checkpoint(prefix, some_arrays())
    data = Path(f"{prefix}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    bundle = TensorBundle(prefix)
    found = bundle.entries["net/block_3/layer_03/w"]
    content[found.offset + 2] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"checksum of variable 'net/block_3/layer_03/w' is wrong"):
        bundle.read("net/block_3/layer_03/w")
    bundle.read("net/block_4/layer_04/w")
    data.write_bytes(bytes(content[: found.offset + 1]))
    with pytest.raises(InputError, match=r"ends at byte \d+, the file at \d+"):
        bundle.read("net/block_3/layer_03/w")
    data.unlink()
    with pytest.raises(InputError, match=r"two files, \.index and \.data"):
        bundle.read("net/block_3/layer_03/w")


def open_bytes(tmp_path: Path, content: bytes) -> TensorBundle:
    (tmp_path / "x.index").write_bytes(content)
    return TensorBundle(tmp_path / "x")


def one(value: bytes, key: bytes = b"a") -> bytes:
    return table([(b"", header()), (key, value)])


GOOD = entry(1, (2, 3), 0, 24, 0)
HUGE = 1 << 63
SLICED = entry(1, (2, 3), 0, 0, 0) + field(7, field(1, 1))
OVERLAP = block([(b"", header()), (b"a", GOOD)])
HOSTILE = {
    "empty": (b"", "does not end in the mark"),
    "other file": (b"\x89PNG" * 40, "does not end in the mark"),
    "no header": (table([(b"a", GOOD)]), "no header entry"),
    "no entries": (table([]), "no header entry"),
    "no shards": (table([(b"", header(shards=0))]), "speaks of 0 data files"),
    "many shards": (table([(b"", header(shards=HUGE))]), "data files"),
    "big-endian": (table([(b"", header(endianness=1))]), "big-endian"),
    "huge size": (one(entry(1, (2, 3), 0, HUGE, 0)), "a place that cannot be"),
    "huge offset": (one(entry(1, (2, 3), HUGE, 24, 0)), "a place that cannot be"),
    "huge shape": (one(entry(1, (1 << 39, 1 << 39), 0, 24, 0)), "cannot have 24 bytes"),
    "impossible shape": (one(entry(1, (HUGE,), 0, 24, 0)), "impossible size"),
    "negative shape": (one(entry(1, ((1 << 64) - 1,), 0, 24, 0)), "impossible size"),
    "many dimensions": (one(entry(1, (1,) * 17, 0, 4, 0)), "17 dimensions"),
    "size unlike shape": (one(entry(1, (2, 3), 0, 20, 0)), "cannot have 20 bytes"),
    "unknown shard": (one(entry(1, (2, 3), 0, 24, 0, shard=1)), "a place that cannot be"),
    "name no UTF-8": (one(GOOD, b"\xff\xfe"), "no UTF-8"),
    "number too long": (one(b"\x08" + b"\xff" * 10), "longer than 64 bits"),
    "record past end": (one(b"\x12\x7f\x01"), "runs past its end"),
    "unknown wire type": (one(b"\x0b"), "unknown wire type 3"),
    "shape no message": (one(field(1, 1) + field(2, field(2, 5))), "a shape in it cannot be read"),
    "keys out of order": (table([(b"", header()), (b"b", GOOD), (b"a", GOOD)]), "out of order"),
    "key twice": (table([(b"", header()), (b"a", GOOD), (b"a", GOOD)]), "out of order"),
    "overlapping blocks": (
        with_index(OVERLAP, [(b"a", varint(0) + varint(len(OVERLAP) - 5)), (b"b", varint(0) + varint(4))]),
        "overlap",
    ),
    "block outside": (with_index(OVERLAP, [(b"a", varint(0) + varint(1 << 40))]), "outside the file"),
    "long key": (one(GOOD, b"k" * 2000), "impossible length"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_index_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    with pytest.raises(InputError, match=message) as caught:
        open_bytes(tmp_path, content)
    assert str(tmp_path / "x.index") in str(caught.value)


def test_a_sliced_or_unknown_variable_is_listed_but_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(100))
    bundle = open_bytes(tmp_path, table([(b"", header()), (b"a", SLICED), (b"b", entry(7, (1,), 0, 3, 0))]))
    assert set(bundle.entries) == {"a", "b"}
    for name in ("a", "b"):
        with pytest.raises(InputError, match=re.escape(f"variable {name!r} is of a kind that is not read")):
            bundle.read(name)


def test_a_compressed_block_is_refused(tmp_path: Path) -> None:
    content = bytearray(one(GOOD))
    size = len(block([(b"", header()), (b"a", GOOD)]))
    content[size - 5] = 1
    content[size - 4 : size] = masked_crc(bytes(content[: size - 4])).to_bytes(4, "little")
    with pytest.raises(InputError, match=r"compressed \(type 1\)"):
        open_bytes(tmp_path, bytes(content))


def test_a_missing_index_says_how_to_name_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Name a checkpoint by the path without '\.index'"):
        TensorBundle(tmp_path / "model.ckpt")


def test_a_large_index_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "x.index", "wb") as file:
        file.truncate(1 << 34)  # sparse
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="larger than 16 MiB"):
            TensorBundle(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("fuzz") / "x"
    write_checkpoint(prefix, some_arrays(12))
    return prefix


def read_all_or_refuse(prefix: Path) -> int:
    """Read every variable; how many came. Anything but InputError is a defect of the reader."""
    try:
        bundle = TensorBundle(prefix)
    except InputError:
        return 0
    count = 0
    for name in bundle.entries:
        try:
            array = bundle.read(name)
        except InputError:
            continue
        assert array.nbytes <= Path(f"{prefix}.data-00000-of-00001").stat().st_size
        count += 1
    return count


EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, cut=st.one_of(st.none(), st.integers(0, 10**6)), repair=st.booleans())
def test_mutated_and_truncated_files_raise_nothing_but_input_errors(
    written: Path, tmp_path: Path, edits: list[tuple[int, int]], cut: int | None, repair: bool
) -> None:
    index = bytearray(Path(f"{written}.index").read_bytes())
    for at, value in edits:
        index[at % len(index)] = value
    if cut is not None:
        del index[cut % len(index) :]
    if repair:  # with the checksum of the first block right again, the damage gets past it
        size = Path(f"{written}.index").read_bytes().find(block([]))
        if 0 < size < len(index):
            index[size - 4 : size] = masked_crc(bytes(index[: size - 4])).to_bytes(4, "little")
    prefix = tmp_path / "x"
    Path(f"{prefix}.index").write_bytes(bytes(index))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(Path(f"{written}.data-00000-of-00001").read_bytes())
    read_all_or_refuse(prefix)


def test_the_unharmed_file_is_read_whole(written: Path) -> None:
    assert read_all_or_refuse(written) == 16


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(max_size=60), key=st.binary(min_size=1, max_size=20), head=st.binary(max_size=20))
def test_arbitrary_records_in_a_sound_table_raise_nothing_but_input_errors(
    tmp_path: Path, value: bytes, key: bytes, head: bytes
) -> None:
    prefix = tmp_path / "x"
    Path(f"{prefix}.data-00000-of-00001").write_bytes(bytes(64))
    for first in (header(), head):
        Path(f"{prefix}.index").write_bytes(table([(b"", first), (key, value)]))
        read_all_or_refuse(prefix)
