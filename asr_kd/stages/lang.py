"""Stage 2: lexicon, decoding vocabulary and n-gram language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr_kd.corpora.manifest import load_cuts, words_of
from asr_kd.errors import UserError
from asr_kd.files import write_json
from asr_kd.lang.arpa import Arpa
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.ngram import train_ngram
from asr_kd.lang.phones import PhoneSet
from asr_kd.lang.vocabulary import choose_vocabulary, count_words, guess_pronunciations, write_words
from asr_kd.workspace import SPLITS

if TYPE_CHECKING:
    from asr_kd.pipeline import Job

Sentences = list[list[str]]


def run(job: "Job") -> None:
    recipe, lang = job.recipe.lang, job.work.lang
    transcripts = {split: [words_of(cut) for cut in load_cuts(job.work.manifest(split))] for split in SPLITS}
    text = _read_lm_text(job.work.lm_text)
    base = Lexicon.cmudict() if recipe.lexicon == "cmudict" else Lexicon.read(Path(recipe.lexicon))
    arpa = Arpa.read(Path(recipe.ngram.arpa)) if recipe.ngram.arpa else None

    candidates = choose_vocabulary(_weights(job, arpa, text, transcripts["train"]), base, recipe)
    # dev and test words are here to be aligned, and never reach the vocabulary
    needed = {*candidates, *(word for split in SPLITS for sentence in transcripts[split] for word in sentence)}
    guessed = guess_pronunciations(needed, base) if recipe.g2p else Lexicon({})
    lexicon = (base | guessed).restrict(needed)
    vocabulary = frozenset(word for word in candidates if word in lexicon)
    if not vocabulary:
        raise UserError(
            f"lang.vocabulary: no word of {recipe.ngram.arpa or job.work.lm_text} has a pronunciation; "
            "check that its language is that of lang.lexicon"
        )
    job.log.info("%d words, %d of the lexicon by G2P; training the n-gram model", len(vocabulary), len(guessed))
    arpa = (arpa or train_ngram(text, vocabulary, recipe.ngram)).restrict(vocabulary.__contains__)

    PhoneSet(lexicon.phones).write(lang / "phones.txt")
    lexicon.write(lang / "lexicon.txt")
    write_words(lang / "words.txt", vocabulary)
    guessed.write(lang / "g2p.txt")
    arpa.write(lang / "lm.arpa")
    summary = _summary(lexicon, vocabulary, guessed, needed, arpa, transcripts)
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
) -> dict[str, Any]:
    return {
        "vocabulary": {"words": len(vocabulary), "pronunciations": lexicon.restrict(vocabulary).num_pronunciations},
        "lexicon": {
            "words": len(lexicon),
            "pronunciations": lexicon.num_pronunciations,
            "g2p_words": len(guessed),
            "without_pronunciation": sorted(needed - set(lexicon)),
        },
        "ngrams": arpa.counts,
        **{split: _fit(arpa, vocabulary, transcripts[split]) for split in ("dev", "test")},
    }


def _fit(arpa: Arpa, vocabulary: frozenset[str], sentences: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Perplexity over known words and sentence ends; oov_words counts tokens outside the vocabulary."""
    words = [word for sentence in sentences for word in sentence]
    oov = sum(word not in vocabulary for word in words)
    return {
        "perplexity": round(arpa.perplexity(sentences), 1),
        "oov_rate": round(oov / max(len(words), 1), 4),
        "oov_words": oov,
        "words": len(words),
    }
