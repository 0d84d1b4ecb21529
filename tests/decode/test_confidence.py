"""Confidences against sums by hand, their measure against its definition, and the scale against the truth."""

import numpy as np
import pytest

from asr_kd.decode.confidence import (
    FLOOR,
    SCALES,
    confidences,
    information,
    normalised_cross_entropy,
    tune_confidence,
)
from asr_kd.decode.nbest import NBest


def listed(posteriors: dict[tuple[int, ...], float]) -> NBest:
    costs = -np.log(list(posteriors.values()))
    return NBest(tuple(posteriors), costs, np.zeros((len(costs), 1)))


def test_confidence_is_the_posterior_of_a_word_at_its_place() -> None:
    nbest = listed({(1, 2, 3): 0.4, (1, 3): 0.3, (1, 2, 4, 3): 0.2, (5, 2, 6): 0.1})
    assert confidences(nbest, 1.0) == pytest.approx([0.9, 0.7, 0.9])
    assert confidences(nbest, 0.0) == pytest.approx([0.75, 0.75, 0.75])
    half = np.sqrt([0.4, 0.3, 0.2, 0.1])
    assert confidences(nbest, 0.5)[1] == pytest.approx(1 - half[1] / half.sum())
    assert confidences(listed({(): 0.9, (1,): 0.1}), 1.0) == []
    assert confidences(listed({(1,): 1.0}), 1.0) == [1 - FLOOR]


def test_the_measure_is_nists() -> None:
    right = np.array([True, True, True, False])
    assert normalised_cross_entropy(np.full(4, 0.75), right) == pytest.approx(0)
    assert normalised_cross_entropy(right.clip(FLOOR, 1 - FLOOR), right) == pytest.approx(1, abs=0.01)
    assert normalised_cross_entropy(np.array([0.9, 0.9, 0.9, 0.9]), right) < 0
    chance = -(3 * np.log2(0.75) + np.log2(0.25))
    left = -(3 * np.log2(0.8) + np.log2(0.6))
    assert normalised_cross_entropy(np.array([0.8, 0.8, 0.8, 0.4]), right) == pytest.approx((chance - left) / chance)
    assert normalised_cross_entropy(np.full(2, 0.9), np.ones(2, bool)) == 0
    assert normalised_cross_entropy(np.zeros(0), np.zeros(0, bool)) == 0


def test_the_scale_is_found_again() -> None:
    """Lists whose costs are too sharp by a known factor: words are right as often as the flattened posteriors say."""
    rng, factor, lists, references = np.random.default_rng(0), 0.25, {}, {}
    for number in range(4000):
        true = rng.dirichlet([1.0, 1.0, 1.0])
        costs = -np.log(true) / factor
        order = np.argsort(costs)
        lists[str(number)] = NBest(tuple((int(word),) for word in order + 1), costs[order], np.zeros((3, 1)))
        references[str(number)] = [int(rng.choice(3, p=true)) + 1]
    assert tune_confidence(lists, references) == factor
    told = [information(lists, references, scale) for scale in SCALES]
    assert max(told) == told[SCALES.index(factor)] > 0.02 > 0 > told[0]


def test_without_words_the_posteriors_stay_as_they_are() -> None:
    assert tune_confidence({}, {}) == 1.0
