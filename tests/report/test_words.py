"""Errors by speaker and by pair of words, counted by hand."""

from collections import Counter

from asr_kd.report.words import error_pairs, most_changed, speaker_errors

REFERENCES = {"u": ["the", "cat", "sat"], "v": ["the", "dog", "ran", "off"], "w": ["a", "big", "cat"]}
BEFORE = {"u": ["the", "hat", "sat"], "v": ["the", "dog", "ran", "off", "now"], "w": ["big", "hat"]}
AFTER = {"u": ["the", "cat", "sat"], "v": ["dog", "ran", "off", "now", "now"], "w": ["a", "big", "hat"]}


def test_pairs_are_counted() -> None:
    assert error_pairs(REFERENCES, BEFORE) == Counter({("cat", "hat"): 2, ("", "now"): 1, ("a", ""): 1})
    assert error_pairs(REFERENCES, AFTER) == Counter({("cat", "hat"): 1, ("", "now"): 2, ("the", ""): 1})


def test_the_most_changed_come_first_and_the_unchanged_never() -> None:
    before = Counter({("a", "b"): 5, ("c", "d"): 1, ("e", "f"): 2, ("a", ""): 9})
    after = Counter({("a", "b"): 4, ("c", "d"): 4, ("e", "f"): 2, ("", "g"): 1})
    assert most_changed(before, after, "substitution", 5) == [(("c", "d"), 1, 4), (("a", "b"), 5, 4)]
    assert most_changed(before, after, "deletion", 5) == [(("a", ""), 9, 0)]
    assert most_changed(before, after, "insertion", 5) == [(("", "g"), 0, 1)]
    assert most_changed(before, after, "substitution", 1) == [(("c", "d"), 1, 4)]


def test_errors_by_speaker() -> None:
    speakers = {"u": "ann", "v": "bob", "w": "ann"}
    assert speaker_errors(REFERENCES, speakers, BEFORE) == {"ann": (6, 3), "bob": (4, 1)}
