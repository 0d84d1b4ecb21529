"""Hypotheses of a language of pieces are words."""

from pathlib import Path

import pytest
from lhotse import CutSet
from lhotse.testing.dummies import dummy_cut, dummy_supervision

from asr_kd.decode.recognition import Outcome, Recognition
from asr_kd.decode.systems import Decoding
from asr_kd.errors import UserError
from asr_kd.lang.pieces import MARK, Pieces
from asr_kd.lang.vocabulary import write_words
from asr_kd.pipeline import Job
from asr_kd.recipe import Recipe
from asr_kd.workspace import Workspace


@pytest.fixture
def job(tmp_path: Path) -> Job:
    work = Workspace(tmp_path)
    for split in ("dev", "test"):
        work.manifest(split).parent.mkdir(exist_ok=True)
        CutSet.from_cuts([dummy_cut(0, supervisions=[dummy_supervision(0, text="abba")])]).to_file(work.manifest(split))
    pieces = Pieces.train({"ab": 5, "ba": 3, "abab": 2}, "ab", 9)
    pieces.write(work.lang / "pieces.model")
    write_words(work.lang / "words.txt", pieces.symbols)
    return Job(Recipe(), work)


def test_pieces_are_put_together(job: Job) -> None:
    decoding = Decoding(job, [])
    spoken = {"u": ["abba", "b", "ab"], "empty": []}
    outcomes = {}
    for name, words in spoken.items():
        (tokens,) = decoding.pieces.split([words]) if decoding.pieces else [words]
        outcomes[name] = Outcome(name, tuple(decoding.symbols.index(token) for token in tokens))
    assert len(outcomes["u"].words) > 3
    assert decoding.words(Recognition(outcomes)) == spoken
    assert decoding.beginnings is not None
    begun = sum(token in decoding.beginnings for token in outcomes["u"].words)
    assert begun == 3 and decoding.symbols[decoding.beginnings[0]].startswith(MARK)


def test_a_model_of_other_pieces_is_refused(job: Job) -> None:
    Pieces.train({"ab": 5, "aab": 2}, "ab", 9).write(job.work.lang / "pieces.model")
    with pytest.raises(UserError, match=r"pieces\.model: its pieces are not those of words\.txt"):
        Decoding(job, [])


def test_without_a_model_the_tokens_are_words(job: Job) -> None:
    (job.work.lang / "pieces.model").unlink()
    write_words(job.work.lang / "words.txt", ["abba", "b"])
    decoding = Decoding(job, [])
    assert decoding.words(Recognition({"u": Outcome("u", (2, 1))})) == {"u": ["b", "abba"]}
    assert decoding.beginnings is None
