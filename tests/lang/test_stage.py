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
from asr_kd.lang.pieces import Pieces
from asr_kd.lang.vocabulary import read_vocabulary
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


def test_stress_stays_where_the_recipe_keeps_it(work: Workspace, tmp_path: Path) -> None:
    """As the pdfs of a Kaldi system with stressed vowels need it; every later reader has the lexicon as it stands."""
    path = tmp_path / "own.txt"
    path.write_text("a AH0\na EY1\na EY2\ncat K AE1 T\nsat S AE1 T\nthe DH AH0\nthe DH AH1\n")
    keys = {"lexicon": str(path), "g2p": False, "vocabulary_in_lexicon_only": True}
    run(work, **keys)
    assert Lexicon.read(work.lang / "lexicon.txt")["a"] == (("AH",), ("EY",))
    run(work, **keys, stress=True)
    lexicon = Lexicon.read(work.lang / "lexicon.txt")
    assert lexicon["a"] == (("AH0",), ("EY1",), ("EY2",)) and lexicon["the"] == (("DH", "AH0"), ("DH", "AH1"))
    assert PhoneSet.read(work.lang / "phones.txt").bases == ("AE1", "AH0", "AH1", "DH", "EY1", "EY2", "K", "S", "T")


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


@pytest.mark.parametrize("text", ["", "\n\n", "<sil> SIL\n<unk> SPN\n"])
def test_a_lexicon_without_words_is_an_error(work: Workspace, text: str) -> None:
    path = work.root / "lexicon.txt"
    write_text(path, text)
    with pytest.raises(UserError, match=r"lang\.lexicon: .*lexicon\.txt: no entries; write: .*, or name cmudict"):
        run(work, lexicon=str(path))


@pytest.mark.parametrize(
    ("keys", "unpronounced"),
    [
        ({}, []),
        ({"g2p": False}, ["blorped", "florp"]),
        ({"g2p": False, "vocabulary": "lm"}, ["blorped"]),
        ({"vocabulary_in_lexicon_only": True}, ["blorped"]),  # florp is spoken, so guessed to be aligned
        ({"units": "grapheme"}, ["blorped"]),
    ],
)
def test_words_of_the_text_without_pronunciation_are_listed(
    work: Workspace, keys: dict[str, object], unpronounced: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "asr_kd")
    run(work, **keys)
    assert (work.lang / "no_pronunciation.txt").read_text() == "".join(f"{word}\n" for word in unpronounced)
    summary = json.loads((work.lang / "lang.json").read_text())
    assert summary["lexicon"]["lm_words_without_pronunciation"] == len(unpronounced)
    assert f"{len(unpronounced)} words of the language model have no pronunciation" in caplog.text


def test_an_empty_text_or_a_foreign_one_is_an_error(work: Workspace) -> None:
    write_text(work.lm_text, "\n")
    with pytest.raises(UserError, match=r"set corpus\.lm_text"):
        run(work)
    write_text(work.lm_text, "qqq rrr\n")
    with pytest.raises(UserError, match=r"lang.vocabulary: no word"):
        run(work, vocabulary="lm", g2p=False)


def test_grapheme_units_need_no_lexicon(work: Workspace) -> None:
    made = run(work, units="grapheme")
    letters = set("the cat sat a florp") - {" "}
    # b and d, z and y are in no training transcript: no model, no pronunciation
    assert made["words"] == made["arpa"] == ["a", "cat", "florp", "sat", "the"]
    assert made["lexicon"] == ["a", "cat", "florp", "sat", "the"] and made["g2p"] == []
    assert set(PhoneSet.read(work.lang / "phones.txt").bases) == letters
    assert Lexicon.read(work.lang / "lexicon.txt")["florp"] == (tuple("florp"),)
    summary = json.loads((work.lang / "lang.json").read_text())
    assert summary["lexicon"]["without_pronunciation"] == ["<noise>", "blorped", "dog", "zzyx"]
    assert read_vocabulary(work.lang) == {"a", "cat", "florp", "sat", "the"}


def test_a_language_of_pieces_of_words(work: Workspace) -> None:
    write_text(work.lm_text, LM_TEXT + "the flat scar\nthat sofa chatters\n")
    made = run(work, units="grapheme")
    by_word = {name: (work.lang / name).read_bytes() for name in ("phones.txt", "lexicon.txt")}
    pieces = run(work, units="grapheme", tokens="bpe", pieces=30)
    assert {name: (work.lang / name).read_bytes() for name in by_word} == by_word  # the alignment's inputs
    model = Pieces.read(work.lang / "pieces.model")
    assert pieces["words"] == pieces["arpa"] == sorted(model.symbols)
    assert 10 < len(model.symbols) <= 30
    assert read_vocabulary(work.lang) == set(made["words"])
    assert model.split([["chatters", "shallot"]])[0][-1] in model.symbols  # the second is in no text

    summary, arpa = json.loads((work.lang / "lang.json").read_text()), Arpa.read(work.lang / "lm.arpa")
    assert summary["pieces"] == len(model.symbols)
    (sentence,) = model.split([["the", "sat"]])  # of test: zzyx has unseen letters, <noise> is a mark
    history, log10 = ["<s>"], 0.0
    for token in [*model.split([["the"]])[0], "<unk>", *model.split([["sat"]])[0], "<unk>", "</s>"]:
        log10 += arpa.log10_probability(tuple(history), token) if token != "<unk>" else 0.0
        history.append(token)
    test = summary["test"]
    assert (test["words"], test["oov_words"], test["pieces"]) == (4, 2, len(sentence))
    assert test["perplexity"] == pytest.approx(10 ** (-log10 / 3), abs=0.06)
    assert test["piece_perplexity"] == pytest.approx(10 ** (-log10 / (len(sentence) + 1)), abs=0.06)

    assert run(work, units="grapheme")["words"] == made["words"]  # no trace of the pieces is left
    assert not (work.lang / "pieces.model").exists() and not (work.lang / "vocabulary.txt").exists()


def test_nothing_of_dev_and_test_reaches_pieces_and_their_model(work: Workspace) -> None:
    keys = {"units": "grapheme", "tokens": "bpe", "pieces": 24}
    names = ("pieces.model", "words.txt", "lm.arpa", "vocabulary.txt", "phones.txt")
    run(work, **keys)
    before = {name: (work.lang / name).read_bytes() for name in names}
    for split in ("dev", "test"):
        cut = dummy_cut(0, supervisions=[dummy_supervision(0, text="hot chocolate flashes zoë")])
        CutSet.from_cuts([cut]).to_file(work.manifest(split))
    run(work, **keys)
    assert {name: (work.lang / name).read_bytes() for name in names} == before


def test_a_text_in_other_letters_is_an_error(work: Workspace) -> None:
    write_text(work.lm_text, "ωμέγα ббб\n")
    with pytest.raises(UserError, match="its language is that of the training transcripts"):
        run(work, units="grapheme", vocabulary="lm")
    with pytest.raises(UserError, match=r"lang\.tokens: the LM text has no word"):
        run(work, units="grapheme", tokens="bpe")
