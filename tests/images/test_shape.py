import pytest
import torch

from asr_kd.errors import UserError
from asr_kd.images.shape import image_shape, shifted
from asr_kd.nn.seeds import generator


def test_rows_are_square_images_of_one_colour_or_three() -> None:
    assert image_shape(784) == (1, 28, 28)
    assert image_shape(3072) == (3, 32, 32)
    with pytest.raises(UserError, match="rows of 40 values are no square images"):
        image_shape(40)


@pytest.mark.parametrize(("channels", "dtype"), [(1, torch.float16), (3, torch.bfloat16)])
def test_every_image_is_moved_by_an_offset_of_its_own(channels: int, dtype: torch.dtype) -> None:
    count, side, most = 200, 6, 2
    rows = torch.randn(count, 1, channels * side * side, generator=generator((0,))).to(dtype)
    moved = shifted(rows, most, generator((1,)))
    assert moved.shape == rows.shape and moved.dtype == dtype
    images, found = rows.view(count, channels, side, side), moved.view(count, channels, side, side)
    moves = set()
    for image, result in zip(images, found, strict=True):
        wide = torch.nn.functional.pad(image, (most, most, most, most))
        rolled = {(y, x): wide.roll((y, x), (1, 2)) for y in range(-most, most + 1) for x in range(-most, most + 1)}
        here = [move for move, moved in rolled.items() if torch.equal(moved[:, most:-most, most:-most], result)]
        assert len(here) == 1
        moves.update(here)
    assert len(moves) == 25, "200 images miss one of 25 moves in 0.7 % of draws, not with this seed"


def test_all_moves_are_equally_frequent() -> None:
    count = 25000
    image = torch.zeros(5, 5)
    image[2, 2] = 1
    moved = shifted(image.flatten().expand(count, 25), 2, generator((2,)))
    where = torch.bincount(moved.argmax(1), minlength=25)
    assert float((where - 1000).abs().max()) < 5 * (1000 * 24 / 25) ** 0.5


def test_depends_on_the_key_alone() -> None:
    rows = torch.randn(50, 64, generator=generator((3,)))
    first, again, other = (shifted(rows, 2, generator((0, "jitter", epoch))) for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
