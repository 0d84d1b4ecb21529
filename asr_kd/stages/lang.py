"""Stage 2: lexicon, decoding vocabulary or pieces of words, and n-gram language model."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr_kd.corpora.manifest import read_cuts, words_of
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.lang.arpa import Arpa
from asr_kd.lang.graphemes import letters_of, spell
from asr_kd.lang.lexicon import Lexicon, is_word
from asr_kd.lang.ngram import train_ngram
from asr_kd.lang.phones import PhoneSet
from asr_kd.lang.pieces import PIECES, Pieces
from asr_kd.lang.vocabulary import (
    choose_vocabulary,
    count_words,
    guess_pronunciations,
    write_vocabulary,
    write_words,
)
from asr_kd.recipe import Lang
from asr_kd.workspace import SPLITS

if TYPE_CHECKING:
    from asr_kd.pipeline import Job

Sentences = list[list[str]]


def run(job: "Job") -> None:
    recipe, lang = job.recipe.lang, job.work.lang
    transcripts = {split: [words_of(cut) for cut in read_cuts(job.work.manifest(split))] for split in SPLITS}
    text = _read_lm_text(job.work.lm_text)
    arpa = Arpa.read(Path(recipe.ngram.arpa)) if recipe.ngram.arpa else None
    weights = _weights(job, arpa, text, transcripts["train"])
    # dev and test words are here to be aligned, and never reach the vocabulary
    spoken = {word for split in SPLITS for sentence in transcripts[split] for word in sentence}
    letters = letters_of(transcripts["train"])
    base = spell({*weights, *spoken}, letters) if recipe.units else read_lexicon(recipe)

    candidates = choose_vocabulary(weights, base, recipe)
    needed = {*candidates, *spoken}
    guessed = guess_pronunciations(needed, base) if recipe.g2p and not recipe.units else Lexicon({})
    lexicon = (base | guessed).restrict(needed)
    vocabulary = frozenset(word for word in candidates if word in lexicon)
    if not vocabulary:
        raise UserError(
            f"lang.vocabulary: no word of {recipe.ngram.arpa or job.work.lm_text} has a pronunciation; "
            f"check that its language is that of {'the training transcripts' if recipe.units else 'lang.lexicon'}"
        )
    job.log.info("%d words, %d of the lexicon by G2P; training the n-gram model", len(vocabulary), len(guessed))
    unpronounced = {word for word in weights if is_word(word) and word not in base and word not in guessed}
    path = lang / "no_pronunciation.txt"
    write_vocabulary(path, unpronounced)
    job.log.info("%d words of the language model have no pronunciation, see %s", len(unpronounced), path)
    pieces = None
    if recipe.tokens:
        counts = {word: count for word, count in count_words(text).items() if word in lexicon}
        pieces = Pieces.train(counts, letters, recipe.pieces or PIECES)
    tokens = pieces.symbols if pieces else vocabulary
    arpa = arpa or train_ngram(pieces.split(text) if pieces else text, tokens, recipe.ngram)
    arpa = arpa.restrict(tokens.__contains__)

    PhoneSet(lexicon.phones).write(lang / "phones.txt")
    lexicon.write(lang / "lexicon.txt")
    _write_pieces(lang, pieces, vocabulary)
    write_words(lang / "words.txt", tokens)
    guessed.write(lang / "g2p.txt")
    arpa.write(lang / "lm.arpa")
    summary = _summary(lexicon, vocabulary, guessed, needed, arpa, transcripts, pieces)
    summary["lexicon"]["lm_words_without_pronunciation"] = len(unpronounced)
    write_json(lang / "lang.json", summary)
    job.log.info("%s", summary)


def _read_lm_text(path: Path) -> Sentences:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run --stage 0 (prepare)") from None
    if not text.strip():
        raise UserError(f"{path}: no sentence to train a language model on; set corpus.lm_text to a text")
    return [line.split() for line in text.splitlines()]


def read_lexicon(recipe: Lang) -> Lexicon:
    """That of the recipe, with or without stress. UserError when its file is missing, wrong or without a word."""
    if recipe.lexicon == "cmudict":
        return Lexicon.cmudict(bool(recipe.stress))
    lexicon = Lexicon.read(Path(recipe.lexicon))
    if not lexicon.entries:
        raise UserError(f"lang.lexicon: {recipe.lexicon}: no entries; write: word phone phone …, or name cmudict")
    return lexicon if recipe.stress else lexicon.without_stress()


def _write_pieces(lang: Path, pieces: Pieces | None, vocabulary: frozenset[str]) -> None:
    """pieces.model and vocabulary.txt, or neither: where they are, the tokens of the language model are pieces."""
    for name in ("pieces.model", "vocabulary.txt"):
        (lang / name).unlink(missing_ok=True)
    if pieces:
        pieces.write(lang / "pieces.model")
        write_vocabulary(lang / "vocabulary.txt", vocabulary)


def _weights(job: "Job", arpa: Arpa | None, text: Sentences, train: Sentences) -> dict[str, float]:
    """How often each candidate for the vocabulary occurs; of a ready-made model, its unigram probability."""
    recipe = job.recipe.lang
    if arpa is None:
        return dict(count_words(text) + count_words(train if recipe.vocabulary == "lm+train" else []))
    weights = {word: 10 ** arpa.orders[0][(word,)][0] for word in arpa.words}
    unheard = {word for sentence in train for word in sentence if word not in weights}
    if unheard:
        job.log.warning(
            "%s: %d words of the training transcripts are not in it and can never be recognised (%s …)",
            recipe.ngram.arpa,
            len(unheard),
            " ".join(sorted(unheard)[:5]),
        )
    return weights


def _summary(
    lexicon: Lexicon,
    vocabulary: frozenset[str],
    guessed: Lexicon,
    needed: set[str],
    arpa: Arpa,
    transcripts: dict[str, Sentences],
    pieces: Pieces | None,
) -> dict[str, Any]:
    return {
        "vocabulary": {"words": len(vocabulary), "pronunciations": lexicon.restrict(vocabulary).num_pronunciations},
        "lexicon": {
            "words": len(lexicon),
            "pronunciations": lexicon.num_pronunciations,
            "g2p_words": len(guessed),
            "without_pronunciation": sorted(needed - set(lexicon)),
        },
        **({"pieces": len(pieces.symbols)} if pieces else {}),
        "ngrams": arpa.counts,
        **{split: _fit(arpa, vocabulary, transcripts[split], pieces) for split in ("dev", "test")},
    }


def _fit(
    arpa: Arpa, vocabulary: Collection[str], sentences: Sequence[Sequence[str]], pieces: Pieces | None
) -> dict[str, Any]:
    """Perplexity over known words and sentence ends; oov_words counts tokens outside the vocabulary.

    Of a model over pieces, the perplexity is that of all words that can be spelled, and piece_perplexity that of their
    pieces, each with the sentence ends.
    """
    words = [word for sentence in sentences for word in sentence]
    oov = sum(word not in vocabulary for word in words)
    of_words = {"oov_rate": round(oov / max(len(words), 1), 4), "oov_words": oov, "words": len(words)}
    if not pieces:
        return {"perplexity": round(arpa.perplexity(sentences), 1), **of_words}
    split = pieces.split(sentences)
    of_pieces = arpa.perplexity(split)
    count = sum(piece in pieces.symbols for sentence in split for piece in sentence)
    spelled = sum(len(pieces.join([piece for piece in sentence if piece in pieces.symbols])) for sentence in split)
    per_word = of_pieces ** ((count + len(split)) / max(spelled + len(split), 1))
    return {"perplexity": round(per_word, 1), **of_words, "pieces": count, "piece_perplexity": round(of_pieces, 1)}
