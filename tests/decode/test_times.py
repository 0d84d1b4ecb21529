"""Word times against scores that leave no doubt."""

import numpy as np
import pytest
import toy

from asr_kd.decode.times import SpokenWord, WordAligner, ctm_lines, spoken_words

PHONES = toy.PHONES


def states_of(phone: str, frames: int) -> list[int]:
    """Tied states of the toy's monophone tree for a phone said in so many frames."""
    tree, number = toy.mono_tree(), PHONES.ids[phone]
    return [int(tree.pdf[tree.roots[number, min(3 * i // frames, 2)]]) for i in range(frames)]


def aligner(acoustic_scale: float = 0.5) -> WordAligner:
    gmm = toy.random_gmm(toy.mono_tree(), dim=2, mixtures=1, seed=0)
    return WordAligner(gmm, toy.compiler(), acoustic_scale, transition_scale=1.0, self_loop_scale=0.1)


def scores_of(pdfs: list[int]) -> np.ndarray:
    return np.where(np.array(pdfs)[:, None] == np.arange(toy.mono_tree().num_pdfs), 0.0, -60.0)


def test_words_lie_where_their_states_were_seen() -> None:
    silence = [int(toy.mono_tree().pdf[toy.mono_tree().roots[PHONES.ids["SIL"], s]]) for s in (0, 1, 2, 3, 4)]
    bat = states_of("B_B", 4) + states_of("T_E", 5)  # the variant without its vowel
    pdfs = [*silence, *states_of("AA_S", 6), *bat, *silence, *states_of("T_B", 3)]
    pdfs += states_of("AA_I", 3) + states_of("B_E", 3)
    assert aligner().spans(scores_of(pdfs), ["a", "bat", "tab"]) == [(5, 11), (11, 20), (25, 34)]
    assert aligner().spans(scores_of(pdfs), []) == []


def test_too_few_frames_are_an_error() -> None:
    with pytest.raises(ValueError, match="5 frames are too few for bat"):
        aligner().spans(scores_of([0] * 5), ["bat"])


def test_ctm_has_seconds_and_confidence() -> None:
    words = spoken_words(["a", "bat"], [(5, 11), (11, 20)], [0.5, 0.25])
    assert words[1] == SpokenWord("bat", pytest.approx(0.1175), pytest.approx(0.09), 0.25)
    assert ctm_lines("u", words) == "u 1 0.06 0.06 a 0.5000\nu 1 0.12 0.09 bat 0.2500\n"
