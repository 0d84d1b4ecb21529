"""An image corpus as the pipeline's three splits: frame stores of pixels and of labels, an image being one frame."""

from dataclasses import replace

import numpy as np

from asr_kd.errors import UserError
from asr_kd.images.readers import Images, read_images
from asr_kd.recipe import Corpus

DEV_IMAGES = 10_000  # shown as dev, of those trained on, where none are held out
Scale = tuple[np.ndarray, np.ndarray]


def read_splits(corpus: Corpus) -> dict[str, Images]:
    """train, dev and test. dev: the last training images, taken from train where `corpus.held_out` says how many.

    Raises UserError for files that are missing or damaged, or when all training images were held out.
    """
    train, test = (_joined([read_images(corpus, part) for part in parts]) for parts in (corpus.train, corpus.test))
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise UserError(
            f"{test.files[0]}: images of {test.pixels.shape[1:]}, those to train on have {train.pixels.shape[1:]}; "
            "name files of one corpus in corpus.dir"
        )
    held_out = corpus.held_out or 0
    if held_out >= len(train):
        raise UserError(f"corpus.held_out: {held_out} of {len(train)} training images; leave some to train on")
    dev = _part(train, slice(-(held_out or min(DEV_IMAGES, len(train))), None))
    return {"train": _part(train, slice(len(train) - held_out)), "dev": dev, "test": test}


def pixel_scale(images: Images) -> Scale:
    """What to subtract from a channel's bytes, and what to multiply by then, each (channels,).

    Grey images keep black at 0 and get white at 1; colours get zero mean and unit variance over `images`.
    """
    channels = images.pixels.shape[1]
    if channels == 1:
        return np.zeros(1), np.full(1, 1 / 255)
    counts = np.zeros((channels, 256), np.int64)
    for some in _chunks(len(images)):
        counts += [np.bincount(images.pixels[some, channel].ravel(), minlength=256) for channel in range(channels)]
    shares, values = counts / counts.sum(1, keepdims=True), np.arange(256)
    mean = shares @ values
    deviation = np.sqrt((shares * np.square(values - mean[:, None])).sum(1))
    return mean, 1 / np.maximum(deviation, 1.0)


def pixel_rows(images: Images, scale: Scale) -> np.ndarray:
    """(N, channels · height · width) float16, channel by channel, row by row."""
    offset, factor = (values.astype(np.float32)[:, None, None] for values in scale)
    rows = np.empty(images.pixels.shape, np.float16)
    for some in _chunks(len(images)):
        rows[some] = (images.pixels[some] - offset) * factor
    return rows.reshape(len(images), -1)


def image_names(split: str, images: Images) -> list[str]:
    return [f"{split}-{number:06d}" for number in range(len(images))]


def _chunks(count: int, size: int = 4096) -> list[slice]:
    """Few images at a time, for as floats they take eight times the memory."""
    return [slice(start, start + size) for start in range(0, count, size)]


def _joined(parts: list[Images]) -> Images:
    if not parts:
        raise UserError("corpus.train, corpus.test: no part; name at least one")
    files = tuple(path for part in parts for path in part.files)
    pixels, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("pixels", "labels"))
    return Images(pixels, labels, files)


def _part(images: Images, some: slice) -> Images:
    return replace(images, pixels=images.pixels[some], labels=images.labels[some])
