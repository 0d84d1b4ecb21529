import json
from pathlib import Path

import pytest
from lhotse import CutSet
from lhotse.testing.dummies import dummy_cut, dummy_supervision

from asr_kd.errors import UserError
from asr_kd.files import write_text
from asr_kd.lang import g2p
from asr_kd.lang.arpa import Arpa
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.phones import PhoneSet
from asr_kd.pipeline import Job
from asr_kd.recipe import Lang, NGram, Recipe
from asr_kd.stages import lang as stage
from asr_kd.workspace import Workspace

TEXTS = {"train": ["the cat sat", "a florp sat"], "dev": ["the dog sat"], "test": ["the zzyx sat <noise>"]}
LM_TEXT = "the cat sat\nthe cat blorped\na cat sat\nsat <unk>\n"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    work = Workspace(tmp_path)
    write_text(work.lm_text, LM_TEXT)
    for split, texts in TEXTS.items():
        cuts = [
            dummy_cut(number, supervisions=[dummy_supervision(number, text=text)]) for number, text in enumerate(texts)
        ]
        CutSet.from_cuts(cuts).to_file(work.manifest(split))
    monkeypatch.setattr(g2p, "pronounce", lambda words: {word: ("Z", "Z") for word in words})
    return work


def run(work: Workspace, **lang: object) -> dict[str, list[str]]:
    """Run the stage; the words of each file it leaves."""
    recipe = {"ngram": NGram(cutoffs=()), **lang}
    stage.run(Job(Recipe(lang=Lang.model_validate(recipe)), work))
    symbols = [line.split() for line in (work.lang / "words.txt").read_text().splitlines()]
    assert [int(number) for _, number in symbols] == list(range(len(symbols)))
    names = [symbol for symbol, _ in symbols]
    assert (names[0], names[-3:]) == ("<eps>", ["#0", "<s>", "</s>"])
    return {
        "words": names[1:-3],
        "lexicon": list(Lexicon.read(work.lang / "lexicon.txt")),
        "g2p": list(Lexicon.read(work.lang / "g2p.txt")),
        "arpa": sorted(Arpa.read(work.lang / "lm.arpa").words),
    }


def test_dev_and_test_words_are_pronounced_but_never_in_the_vocabulary(work: Workspace) -> None:
    made = run(work)
    assert made["words"] == made["arpa"] == ["a", "blorped", "cat", "florp", "sat", "the"]
    assert made["lexicon"] == ["a", "blorped", "cat", "dog", "florp", "sat", "the", "zzyx"]
    assert made["g2p"] == ["blorped", "florp", "zzyx"]
    summary = json.loads((work.lang / "lang.json").read_text())
    assert summary["vocabulary"] == {"words": 6, "pronunciations": 8}  # a and the have two each
    assert summary["lexicon"]["without_pronunciation"] == ["<noise>"]
    assert (summary["dev"]["oov_words"], summary["dev"]["words"]) == (1, 3)
    assert (summary["test"]["oov_words"], summary["test"]["oov_rate"]) == (2, 0.5)
    arpa = Arpa.read(work.lang / "lm.arpa")
    assert summary["ngrams"] == arpa.counts
    assert summary["dev"]["perplexity"] == pytest.approx(arpa.perplexity([TEXTS["dev"][0].split()]), abs=0.06)
    assert PhoneSet.read(work.lang / "phones.txt").bases == Lexicon.read(work.lang / "lexicon.txt").phones


@pytest.mark.parametrize(
    ("keys", "vocabulary"),
    [
        ({"vocabulary": "lm"}, ["a", "blorped", "cat", "sat", "the"]),
        ({"vocabulary_in_lexicon_only": True}, ["a", "cat", "sat", "the"]),
        ({"max_words": 2}, ["cat", "sat"]),
        ({"g2p": False}, ["a", "cat", "sat", "the"]),
    ],
)
def test_the_recipe_bounds_the_vocabulary(work: Workspace, keys: dict[str, object], vocabulary: list[str]) -> None:
    made = run(work, **keys)
    assert made["words"] == made["arpa"] == vocabulary
    assert ("zzyx" in made["lexicon"]) == keys.get("g2p", True)


def test_a_ready_made_model_brings_its_words(work: Workspace) -> None:
    run(work, vocabulary="lm")
    ready = work.root / "ready.arpa"
    (work.lang / "lm.arpa").rename(ready)
    made = run(work, ngram=NGram(arpa=str(ready)), vocabulary_in_lexicon_only=True)
    assert made["words"] == made["arpa"] == ["a", "cat", "sat", "the"]


def test_a_lexicon_in_other_phones_cannot_be_mixed_with_g2p(work: Workspace) -> None:
    path = work.root / "lexicon.txt"
    write_text(path, "the D @\ncat k a t\nsat s a t\na @\n")
    with pytest.raises(UserError, match=r"lang.g2p: .*blorped dog florp"):
        run(work, lexicon=str(path))
    assert run(work, lexicon=str(path), g2p=False)["words"] == ["a", "cat", "sat", "the"]


def test_an_empty_text_or_a_foreign_one_is_an_error(work: Workspace) -> None:
    write_text(work.lm_text, "\n")
    with pytest.raises(UserError, match=r"set corpus\.lm_text"):
        run(work)
    write_text(work.lm_text, "qqq rrr\n")
    with pytest.raises(UserError, match=r"lang.vocabulary: no word"):
        run(work, vocabulary="lm", g2p=False)
