"""Readers against files written here in the published formats, and against MNIST itself."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from asr_kd.errors import UserError
from asr_kd.images.readers import read_cifar10, read_images, read_mnist, read_svhn
from asr_kd.recipe import Corpus

Write = Callable[[Path], Path]
DRAWS = np.random.default_rng(0)
GREY = DRAWS.integers(0, 256, (12, 28, 28), np.uint8)
COLOUR = DRAWS.integers(0, 256, (12, 3, 32, 32), np.uint8)
LABELS = np.array([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 0, 7], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, packed: bool = False) -> Path:
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", GREY), ("labels-idx1", LABELS)):
            contents = idx(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(contents) if packed else contents)
    return folder / f"train-images-idx3-ubyte{'.gz' if packed else ''}"


def write_svhn(folder: Path, **arrays: np.ndarray) -> Path:
    contents = {"X": COLOUR.transpose(2, 3, 1, 0), "y": np.where(LABELS == 0, 10, LABELS)[:, None], **arrays}
    savemat(folder / "train_32x32.mat", contents)
    return folder / "train_32x32.mat"


def write_cifar10(folder: Path) -> Path:
    for number in range(5):
        images = range(number, 12, 5)
        records = [bytes([LABELS[image]]) + COLOUR[image].tobytes() for image in images]
        (folder / f"data_batch_{number + 1}.bin").write_bytes(b"".join(records))
    return folder / "data_batch_1.bin"


@pytest.mark.parametrize("packed", [False, True])
def test_reads_idx_files(tmp_path: Path, packed: bool) -> None:
    write_mnist(tmp_path, packed)
    for part in ("train", "test"):
        images = read_mnist(tmp_path, part)
        assert np.array_equal(images.pixels[:, 0], GREY)
        assert np.array_equal(images.labels, LABELS)


def test_reads_matlab_files_whose_zeros_are_labelled_ten(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    images = read_svhn(tmp_path, "train")
    assert np.array_equal(images.pixels, COLOUR)
    assert np.array_equal(images.labels, LABELS)


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin"])
def test_reads_binary_batches_in_order(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    write_cifar10(tmp_path / folder)
    images = read_cifar10(tmp_path, "train")
    order = [0, 5, 10, 1, 6, 11, 2, 7, 3, 8, 4, 9]
    assert np.array_equal(images.pixels, COLOUR[order])
    assert np.array_equal(images.labels, LABELS[order])


def test_reads_the_published_digits(shared_data: Path) -> None:
    corpus = Corpus(kind="mnist", dir=str(shared_data / "mnist"))
    train, test = (read_images(corpus, part) for part in ("train", "test"))
    assert train.pixels.shape == (60000, 1, 28, 28)
    assert np.bincount(train.labels)[3] == 6131
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(test.labels)[[3, 7, 8]].tolist() == [1010, 1028, 974]
    # The corners are background, the middle is ink.
    assert train.pixels[:, 0, :2, :2].mean() < 0.1 < 50 < train.pixels[:, 0, 12:16, 12:16].mean()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 3, 7, 15, 100, -1])
def test_a_truncated_idx_file_is_named(tmp_path: Path, packed: bool, kept: int) -> None:
    path = write_mnist(tmp_path, packed)
    path.write_bytes(path.read_bytes()[:kept])
    complain(lambda: read_mnist(tmp_path, "train"), path)


@pytest.mark.parametrize("place", [2, 3, 7, 40])
def test_a_changed_byte_of_a_gzipped_idx_file_is_noticed(tmp_path: Path, place: int) -> None:
    path = write_mnist(tmp_path, packed=True)
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2 + place] ^= 0x55
    path.write_bytes(bytes(contents))
    complain(lambda: read_mnist(tmp_path, "train"), path)


def test_an_idx_file_of_another_type_is_refused(tmp_path: Path) -> None:
    path = write_mnist(tmp_path)
    path.write_bytes(b"\0\0\x0d\3" + path.read_bytes()[4:])
    complain(lambda: read_mnist(tmp_path, "train"), path)


def truncated(folder: Path) -> Path:
    path = write_svhn(folder)
    path.write_bytes(path.read_bytes()[:-5000])
    return path


def empty(folder: Path) -> Path:
    (folder / "train_32x32.mat").touch()
    return folder / "train_32x32.mat"


def of_matlab_7_3(folder: Path) -> Path:
    path = folder / "train_32x32.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(2000))
    return path


def without_labels(folder: Path) -> Path:
    savemat(folder / "train_32x32.mat", {"X": COLOUR})
    return folder / "train_32x32.mat"


@pytest.mark.parametrize(
    "write",
    [
        truncated,
        empty,
        of_matlab_7_3,
        without_labels,
        lambda folder: write_svhn(folder, X=COLOUR),
        lambda folder: write_svhn(folder, X=COLOUR.transpose(2, 3, 1, 0).astype(float)),
        lambda folder: write_svhn(folder, y=np.full((12, 1), 11)),
        lambda folder: write_svhn(folder, y=np.full((12, 1), 1.5)),
    ],
)
def test_a_matlab_file_that_is_no_svhn_is_named(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path)
    complain(lambda: read_svhn(tmp_path, "train"), path)


def test_as_many_labels_as_images(tmp_path: Path) -> None:
    path = write_svhn(tmp_path, y=np.ones((11, 1), np.uint8))
    complain(lambda: read_images(Corpus(kind="svhn", dir=str(tmp_path)), "train"), path)


@pytest.mark.parametrize("contents", [b"", bytes(3072), bytes([10]) + bytes(3072)])
def test_a_binary_batch_that_is_no_cifar10_is_named(tmp_path: Path, contents: bytes) -> None:
    path = write_cifar10(tmp_path)
    path.write_bytes(contents)
    complain(lambda: read_cifar10(tmp_path, "train"), path)


def test_a_label_beyond_the_classes_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(idx(LABELS + 1))
    complain(lambda: read_images(Corpus(kind="mnist", dir=str(tmp_path)), "train"), path)


@pytest.mark.parametrize("kind", ["mnist", "svhn", "cifar10"])
def test_a_missing_file_directory_or_part_is_named(tmp_path: Path, kind: str) -> None:
    corpus = Corpus(kind=kind, dir=str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"no such file; name the directory that holds it in corpus\.dir"):
        read_images(corpus, "train")
    with pytest.raises(UserError, match=r"no part is called validation; one of train,"):
        read_images(corpus, "validation")
    with pytest.raises(UserError, match=rf"corpus\.dir: no directory; name the one that holds {kind}'s files"):
        read_images(Corpus(kind=kind), "train")  # type: ignore[arg-type]


def complain(read: Callable[[], object], path: Path) -> None:
    with pytest.raises(UserError, match=r"fetch (it|the file|both) again$") as error:
        read()
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
