"""Archives: what is written is read back, by this reader and by kaldi_native_io, and damage is named."""

import gzip
from pathlib import Path

import kaldi_native_io
import numpy as np
import pytest

from asr_kd.errors import UserError
from asr_kd.kaldi.archive import read_alignments, write_archive

ALIGNMENTS = {"spk1-a": [0, 0, 7, 1500, 3], "spk1-b": [12], "spk2-ü": [2**31 - 1, 0]}


def write_binary(path: Path) -> Path:
    with kaldi_native_io.Int32VectorWriter(f"ark:{path}") as writer:
        for name, values in ALIGNMENTS.items():
            writer[name] = values
    return path


def assert_all_there(found: dict[str, np.ndarray]) -> None:
    assert {name: values.tolist() for name, values in found.items()} == ALIGNMENTS
    assert all(values.dtype == np.int32 for values in found.values())


def test_integers_round_trip_through_archive_and_index(tmp_path: Path) -> None:
    assert write_archive(tmp_path / "with space" / "pdf", "Int32Vector", ALIGNMENTS.items()) == 3
    archive, index = tmp_path / "with space" / "pdf.ark", tmp_path / "with space" / "pdf.scp"
    assert_all_there(read_alignments([str(archive)]))
    assert_all_there(read_alignments([f"ark:{archive}"]))
    with kaldi_native_io.SequentialInt32VectorReader(f"scp:{index}") as reader:
        assert dict(reader) == ALIGNMENTS
    assert sorted(path.name for path in index.parent.iterdir()) == ["pdf.ark", "pdf.scp"]


def test_matrices_round_trip(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    write_archive(tmp_path / "post", "FloatMatrix", [("u", matrix)])
    with kaldi_native_io.RandomAccessFloatMatrixReader(f"scp:{tmp_path / 'post.scp'}") as reader:
        np.testing.assert_array_equal(reader["u"], matrix)
    write_archive(tmp_path / "small", "CompressedMatrix", [("u", matrix)])
    with kaldi_native_io.RandomAccessFloatMatrixReader(f"scp:{tmp_path / 'small.scp'}") as reader:
        np.testing.assert_allclose(reader["u"], matrix, atol=np.ptp(matrix) / 100)


def test_text_binary_and_packed_archives_are_read_alike(tmp_path: Path) -> None:
    text = "".join(f"{name} {' '.join(map(str, values))} \n" for name, values in ALIGNMENTS.items())
    (tmp_path / "ali.txt").write_text(text, encoding="utf-8")
    assert_all_there(read_alignments([str(tmp_path / "ali.txt")]))
    assert_all_there(read_alignments([f"ark,t:{tmp_path / 'ali.txt'}"]))
    (tmp_path / "text.gz").write_bytes(gzip.compress(text.encode()))
    assert_all_there(read_alignments([str(tmp_path / "text.gz")]))
    (tmp_path / "binary.gz").write_bytes(gzip.compress(write_binary(tmp_path / "a.ark").read_bytes()))
    assert_all_there(read_alignments([str(tmp_path / "binary.gz")]))


def test_a_pattern_names_several_archives(tmp_path: Path) -> None:
    for number, (name, values) in enumerate(ALIGNMENTS.items(), start=1):
        (tmp_path / f"pdf.{number}.txt").write_text(f"{name} {' '.join(map(str, values))}\n", encoding="utf-8")
    assert_all_there(read_alignments([str(tmp_path / "pdf.*.txt")]))
    with pytest.raises(UserError, match=r"pdf\.1\.txt: spk1-a occurs twice"):
        read_alignments([str(tmp_path / "pdf.*.txt"), str(tmp_path / "pdf.1.txt")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2\nb 1 x 3\n", r"ali\.txt:2: want an utterance and one whole number a frame"),
        ("a 1 2\n\nb 1 -3\n", r"ali\.txt:3: b has a negative number"),
        ("a 1 99999999999\n", r"ali\.txt:1: want an utterance"),
        ("a [ 0.1 0.2 ]\n", r"ali\.txt:1: want an utterance"),
        ("a\0b", r"ali\.txt: not an archive of integer vectors"),
    ],
)
def test_a_damaged_text_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ali.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_alignments([str(tmp_path / "ali.txt")])


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    whole = write_binary(tmp_path / "a.ark").read_bytes()
    for end in range(len(whole)):
        (tmp_path / "b.ark").write_bytes(whole[:end])
        try:
            found = read_alignments([str(tmp_path / "b.ark")])
        except UserError as error:
            assert "b.ark" in str(error) and "\n" not in str(error)
        else:  # cut between two entries, which no format can tell from an archive that ends there
            assert list(found) == list(ALIGNMENTS)[: len(found)] and len(found) < 3
    packed = gzip.compress(whole)
    for damaged in (packed[:-9], packed[:20] + b"\0\0\0" + packed[23:]):
        (tmp_path / "c.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"c\.gz: cannot be read"):
            read_alignments([str(tmp_path / "c.gz")])
    write_archive(tmp_path / "post", "FloatMatrix", [("u", np.zeros((2, 2), np.float32))])
    with pytest.raises(UserError, match=r"post\.ark: no integer vector at byte 0; make it by ali-to-pdf"):
        read_alignments([str(tmp_path / "post.ark")])


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hmm\.external\.alignment: .*none\.ark: no such file"):
        read_alignments([str(tmp_path / "none.ark")])
    for source in ("ark:gunzip -c ali.*.gz|", "scp:ali.scp"):
        with pytest.raises(UserError, match="name the archives themselves"):
            read_alignments([source])
    with pytest.raises(UserError, match="comma"):
        write_archive(tmp_path / "a,b" / "pdf", "Int32Vector", [])


def test_an_interrupted_write_leaves_the_old_archive(tmp_path: Path) -> None:
    write_archive(tmp_path / "pdf", "Int32Vector", ALIGNMENTS.items())

    def broken() -> object:
        yield "spk1-a", [1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(tmp_path / "pdf", "Int32Vector", broken())
    assert_all_there(read_alignments([str(tmp_path / "pdf.ark")]))
    assert len(list(tmp_path.iterdir())) == 2
