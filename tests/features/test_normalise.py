import numpy as np

from asr_kd.features.normalise import Moments
from asr_kd.recipe import Normalisation


def speech_like(frames: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((frames, 5)) * (1, 2, 3, 4, 5) + 10).astype(np.float32)


def test_all_frames_together_become_standard() -> None:
    arrays = [speech_like(50, 0), speech_like(200, 1) + 3]
    moments = Moments.of(arrays)
    normalised = np.concatenate([moments.normalise(array, Normalisation()) for array in arrays])
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(normalised.std(axis=0), 1, atol=1e-6)
    assert moments.frames == 250


def test_mean_and_variance_are_separate_choices() -> None:
    array = speech_like(100, 0)
    moments = Moments.of([array])
    centred = moments.normalise(array, Normalisation(variance=False))
    np.testing.assert_allclose(centred, array - array.mean(axis=0), atol=1e-5)
    scaled = moments.normalise(array, Normalisation(mean=False))
    np.testing.assert_allclose(scaled, array / array.std(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(moments.normalise(array, Normalisation(mean=False, variance=False)), array)


def test_a_dimension_that_never_varies_becomes_zero() -> None:
    array = np.full((10, 2), -15.9424, dtype=np.float32)
    assert np.abs(Moments.of([array]).normalise(array, Normalisation())).max() < 1e-2
