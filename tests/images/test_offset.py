import numpy as np
import pytest

from asr_kd.images.offset import best_offset, with_offset


@pytest.mark.parametrize("classes", [(3,), (0, 1, 2, 4), (1, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_no_offset_makes_fewer_errors(classes: tuple[int, ...], seed: int) -> None:
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 5, 300)
    scores = draws.normal(size=(300, 5)).astype(np.float32)
    scores[np.arange(300), labels] += 1.5
    scores[:, list(classes)] -= 3  # the bias that a student lacks
    value, errors = best_offset(scores, labels, classes)
    tried = [(with_offset(scores, classes, b).argmax(1) != labels).sum() for b in np.linspace(-12, 12, 4801)]
    assert errors == min(tried) < tried[2400]
    assert (with_offset(scores, classes, value).argmax(1) != labels).sum() == errors
    assert value == pytest.approx(3, abs=1.2)


def test_lies_in_the_middle_of_the_best_range() -> None:
    scores = np.array([[0.0, 1.0], [0.0, 5.0]])  # right between 1 and 5, where the first image alone moves
    value, errors = best_offset(scores, np.array([0, 1]), (0,))
    assert (value, errors) == (3.0, 0)


def test_goes_beyond_the_last_image_where_all_or_none_belong() -> None:
    scores = np.array([[0.0, 1.0], [0.0, 5.0]])
    assert best_offset(scores, np.array([0, 0]), (0,)) == (6.0, 0)
    assert best_offset(scores, np.array([1, 1]), (0,)) == (0.0, 0)


def test_leaves_the_scores_as_they_were() -> None:
    scores = np.zeros((2, 3))
    moved = with_offset(scores, (1,), 2.5)
    assert moved.tolist() == [[0, 2.5, 0]] * 2 and not scores.any()
