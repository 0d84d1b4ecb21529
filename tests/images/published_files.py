"""Small image corpora written in the published formats, their classes easy to tell apart."""

import struct
from pathlib import Path

import numpy as np
from scipy.io import savemat


def digits(count: int, channels: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """pixels (count, channels, side, side), labels (count,): a bright bar whose place is the class, and noise."""
    draws = np.random.default_rng(seed)
    labels = draws.permutation(np.arange(count) % 10).astype(np.uint8)
    pixels = draws.integers(0, 90, (count, channels, side, side), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        row, column = 4 + 8 * (label % 3), 3 + 6 * (label // 3)
        image[:, row : row + 4, column : column + 5] += 160
    return pixels, labels


def write_mnist(folder: Path, train: int, test: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate((("train", train), ("t10k", test))):
        pixels, labels = digits(count, 1, 28, seed)
        for name, array in (("images-idx3", pixels[:, 0]), ("labels-idx1", labels)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())


def write_svhn(folder: Path, train: int, test: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate((("train", train), ("test", test))):
        pixels, labels = digits(count, 3, 32, seed)
        arrays = {"X": pixels.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]}
        savemat(folder / f"{part}_32x32.mat", arrays)


def write_cifar10(folder: Path, train: int, test: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, count, names in (
        (0, train, [f"data_batch_{number}.bin" for number in range(1, 6)]),
        (1, test, ["test_batch.bin"]),
    ):
        pixels, labels = digits(count, 3, 32, seed)
        rows = np.hstack([labels[:, None], pixels.reshape(count, -1)])
        for name, part in zip(names, np.array_split(rows, len(names)), strict=True):
            (folder / name).write_bytes(part.tobytes())


WRITERS = {"mnist": write_mnist, "svhn": write_svhn, "cifar10": write_cifar10}
