"""Labelled images as their publishers store them: MNIST's IDX files, SVHN's .mat files, CIFAR-10's binary files."""

import gzip
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from asr_kd.errors import UserError
from asr_kd.images.download import download_mnist
from asr_kd.recipe import Corpus

NUM_CLASSES = 10
UNSIGNED_BYTES = 0x08  # IDX's code of the only type that MNIST uses
MNIST_PARTS = {"train": "train", "test": "t10k"}
SVHN_PARTS = ("train", "extra", "test")
CIFAR10_PARTS = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
CIFAR10_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Images:
    """pixels: (N, channels, height, width) uint8; labels: (N,) uint8 below 10; files: what they were read from."""

    pixels: np.ndarray
    labels: np.ndarray
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.labels)


def read_images(corpus: Corpus, part: str) -> Images:
    """A part of an image corpus, `train` or `test` (SVHN has `extra` too), in the files' order.

    Raises UserError that names the file, or the key, for what is missing, damaged, or no such data.
    """
    if corpus.dir is None:
        raise UserError(f"corpus.dir: no directory; name the one that holds {corpus.kind}'s files")
    if corpus.download:
        if corpus.kind != "mnist":
            raise UserError(f"corpus.download: only mnist can be fetched; put {corpus.kind}'s files into {corpus.dir}")
        download_mnist(Path(corpus.dir))
    images = READERS[corpus.kind](Path(corpus.dir), part)
    if len(images.pixels) != len(images.labels) or not len(images):
        raise UserError(
            f"{images.files[-1]}: {len(images.labels)} labels for {len(images.pixels)} images; fetch both again"
        )
    if (highest := int(images.labels.max())) >= NUM_CLASSES:
        raise UserError(f"{images.files[-1]}: label {highest}, classes end at {NUM_CLASSES - 1}; fetch the file again")
    return images


def read_mnist(folder: Path, part: str) -> Images:
    """IDX files, gzipped or not, under either of the names in use: `train-images-idx3-ubyte`, `train-images.idx3-…`."""
    stem = MNIST_PARTS[_checked(part, MNIST_PARTS)]
    pixels, labels = _mnist_file(folder, f"{stem}-images", 3), _mnist_file(folder, f"{stem}-labels", 1)
    return Images(read_idx(pixels, 3)[:, None], read_idx(labels, 1), (pixels, labels))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes: 0, 0, type, number of dimensions, each as a big-endian uint32, then the values."""
    data = _contents(path)
    start = 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, UNSIGNED_BYTES, dimensions)) or len(data) < start:
        raise UserError(f"{path}: no IDX file of bytes in {dimensions} dimensions; fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], ">u4"))
    if len(data) != (expected := start + math.prod(shape)):
        raise UserError(f"{path}: {len(data)} bytes, its head promises {expected}; fetch it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_svhn(folder: Path, part: str) -> Images:
    """MATLAB 5 files of the cropped digits: X (32, 32, 3, N) and y (N, 1), the digit 0 labelled 10."""
    path = folder / f"{_checked(part, SVHN_PARTS)}_32x32.mat"
    _check_exists(path)
    try:
        arrays = loadmat(path, variable_names=("X", "y"))
        pixels, labels = np.asarray(arrays["X"]), np.asarray(arrays["y"]).ravel()
    except Exception as error:  # a damaged file ends in errors of half a dozen types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: no MATLAB 5 file with X and y ({reason}); fetch it again") from None
    if pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3) or pixels.dtype != np.uint8:
        raise UserError(f"{path}: X is {pixels.dtype} {pixels.shape}, not uint8 (32, 32, 3, N); fetch it again")
    if labels.dtype.kind not in "uif" or not np.isin(labels, np.arange(1, NUM_CLASSES + 1)).all():
        raise UserError(f"{path}: y holds other values than 1 to {NUM_CLASSES}; fetch it again")
    return Images(pixels.transpose(3, 2, 0, 1), (labels % NUM_CLASSES).astype(np.uint8), (path,))


def read_cifar10(folder: Path, part: str) -> Images:
    """Binary files: for each image a byte with the label, then 32 × 32 bytes of red, of green and of blue."""
    below = folder / "cifar-10-batches-bin"  # as the published archive unpacks
    paths = tuple((below if below.is_dir() else folder) / name for name in CIFAR10_PARTS[_checked(part, CIFAR10_PARTS)])
    size = 1 + math.prod(CIFAR10_SHAPE)
    batches = []
    for path in paths:
        data = np.frombuffer(_contents(path), np.uint8)
        if not len(data) or len(data) % size:
            raise UserError(f"{path}: {len(data)} bytes are no whole number of images of {size}; fetch it again")
        batches.append(data.reshape(-1, size))
        if (highest := int(batches[-1][:, 0].max())) >= NUM_CLASSES:
            raise UserError(f"{path}: label {highest}, classes end at {NUM_CLASSES - 1}; fetch it again")
    rows = np.concatenate(batches)
    return Images(rows[:, 1:].reshape(-1, *CIFAR10_SHAPE), rows[:, 0], paths)


READERS: dict[str, Callable[[Path, str], Images]] = {
    "mnist": read_mnist,
    "svhn": read_svhn,
    "cifar10": read_cifar10,
}


def _mnist_file(folder: Path, stem: str, dimensions: int) -> Path:
    paths = [folder / f"{stem}{mark}idx{dimensions}-ubyte{end}" for end in (".gz", "") for mark in ("-", ".")]
    found = next((path for path in paths if path.exists()), paths[0])
    _check_exists(found)
    return found


def _checked(part: str, parts: Iterable[str]) -> str:
    if part not in parts:
        raise UserError(f"corpus.train, corpus.test: no part is called {part}; one of {', '.join(parts)}")
    return part


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the directory that holds it in corpus.dir")


def _contents(path: Path) -> bytes:
    """The file's bytes, unpacked where it is gzipped."""
    _check_exists(path)
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip ({error}); fetch it again") from None
