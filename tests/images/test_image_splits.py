from pathlib import Path

import numpy as np
import pytest
from published_files import digits, write_mnist, write_svhn

from asr_kd.errors import UserError
from asr_kd.images.splits import pixel_rows, pixel_scale, read_splits
from asr_kd.recipe import Corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    write_mnist(tmp_path, 60, 20)
    return Corpus(kind="mnist", dir=str(tmp_path))


def test_all_training_images_are_trained_on(corpus: Corpus) -> None:
    splits = read_splits(corpus)
    pixels, labels = digits(60, 1, 28, 0)
    for split in ("train", "dev"):
        assert np.array_equal(splits[split].pixels, pixels)
        assert np.array_equal(splits[split].labels, labels)
    assert np.array_equal(splits["test"].labels, digits(20, 1, 28, 1)[1])


def test_the_last_images_are_held_out(corpus: Corpus) -> None:
    splits = read_splits(corpus.model_copy(update={"held_out": 15}))
    _, labels = digits(60, 1, 28, 0)
    assert np.array_equal(splits["train"].labels, labels[:45])
    assert np.array_equal(splits["dev"].labels, labels[45:])
    with pytest.raises(UserError, match=r"corpus\.held_out: 60 of 60 training images"):
        read_splits(corpus.model_copy(update={"held_out": 60}))


def test_parts_are_joined(tmp_path: Path) -> None:
    write_svhn(tmp_path, 30, 10)
    (tmp_path / "extra_32x32.mat").write_bytes((tmp_path / "test_32x32.mat").read_bytes())
    splits = read_splits(Corpus(kind="svhn", dir=str(tmp_path), train=("train", "extra")))
    assert splits["train"].labels.tolist() == [*digits(30, 3, 32, 0)[1], *digits(10, 3, 32, 1)[1]]
    assert len(splits["train"].files) == 2


def test_splits_of_other_sizes_are_refused(tmp_path: Path, corpus: Corpus) -> None:
    other = tmp_path / "t10k-images-idx3-ubyte"
    other.write_bytes(other.read_bytes()[:8] + b"\0\0\0\x0e\0\0\0\x38" + other.read_bytes()[16:])
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte: images of \(1, 14, 56\), those to train on have"):
        read_splits(corpus)


def test_grey_images_go_from_black_at_zero_to_white_at_one(corpus: Corpus) -> None:
    train = read_splits(corpus)["train"]
    rows = pixel_rows(train, pixel_scale(train))
    assert rows.shape == (60, 784) and rows.dtype == np.float16
    assert np.abs(rows * 255 - train.pixels.reshape(60, -1)).max() < 0.2


def test_each_colour_has_no_mean_and_unit_variance(tmp_path: Path) -> None:
    write_svhn(tmp_path, 50, 10)
    splits = read_splits(Corpus(kind="svhn", dir=str(tmp_path)))
    train = splits["train"]
    train.pixels[:, 1] //= 2  # channels that differ
    scale = pixel_scale(train)
    rows = pixel_rows(train, scale).astype(np.float64).reshape(50, 3, 1024)
    assert np.abs(rows.mean((0, 2))).max() < 1e-3
    assert np.abs(rows.std((0, 2)) - 1).max() < 1e-3
    pixels = train.pixels.astype(np.float64)
    expected = (splits["test"].pixels[:, 0] - pixels[:, 0].mean()) / pixels[:, 0].std()
    assert np.allclose(pixel_rows(splits["test"], scale).reshape(10, 3, 32, 32)[:, 0], expected, atol=2e-3)
