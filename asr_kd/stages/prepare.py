"""Stage 0: the corpus as three validated manifests with disjoint speakers, and the language model's text."""

from pathlib import Path

from lhotse import MonoCut

from asr_kd.corpora import embedded
from asr_kd.corpora.manifest import words_of
from asr_kd.corpora.splits import (
    READERS,
    check_utterances,
    describe_audio,
    hours,
    read_sentences,
    to_download,
    write_cuts,
)
from asr_kd.corpora.utterance import Fault, Utterance
from asr_kd.corpora.validation import SHARED_SPEAKER, Report, check_speakers_disjoint, shared_speakers
from asr_kd.errors import UserError
from asr_kd.features.filterbank import FRAME_SHIFT_MS, num_frames
from asr_kd.files import write_json, write_text
from asr_kd.images.splits import read_splits
from asr_kd.lang.graphemes import letters_of, spell
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.vocabulary import guess_pronunciations
from asr_kd.pipeline import Job
from asr_kd.recipe import Lang
from asr_kd.stages.lang import read_lexicon

FRAMES_OF_A_PHONE = 3  # at least: its three states, and of silence or noise the first, second and last


def run(job: Job) -> None:
    corpus = job.recipe.corpus
    sentences = _sentences(job)
    splits = _utterances(job)
    if corpus.kind != "yesno":
        check_speakers_disjoint(splits)
    cuts, report = check_utterances(splits, corpus, job.jobs, job.progress)
    try:
        note_transcripts(report, cuts, job.recipe.lang, corpus.sample_rate)
    except UserError as error:  # of the lexicon: stage 2 refuses it
        job.log.warning("transcripts not checked against the lexicon: %s", error)
    for line in report.lines():
        job.log.info("%s", line)
    report.refuse(corpus.max_bad_fraction)
    sentences = sentences or [cut.supervisions[0].text or "" for cut in cuts["train"]]
    for split, kept in cuts.items():
        write_cuts(job.work.manifest(split), kept)
        speakers = len({cut.supervisions[0].speaker for cut in kept})
        job.log.info("%s: %d utterances, %d speakers, %.2f h", split, len(kept), speakers, hours(kept))
    write_text(job.work.lm_text, "".join(f"{sentence}\n" for sentence in sentences))
    excluded = [{"id": found.id, "split": found.split, "reason": found.fault.reason} for found in report.left_out]
    write_json(job.work.excluded, excluded)
    write_json(job.work.validation, report.as_json())
    write_json(job.work.audio, describe_audio(job.work.root, splits, cuts, job.jobs))
    job.log.info("%d sentences for the language model; %d utterances left out", len(sentences), len(excluded))


def validate(job: Job) -> Report | None:
    """What stage 0 would find in the corpus, without writing anything; None of the embedded corpus, which it makes.

    Raises UserError as that stage does, and for what it would download first; `Report.refuse` and shared speakers are
    the caller's.
    """
    corpus = job.recipe.corpus
    if missing := to_download(corpus):
        raise UserError(
            f"{', '.join(map(str, missing))}: missing; corpus.download lets asr-kd run --stop-stage 0 fetch them, "
            "or put them there"
        )
    if corpus.of_images:
        return Report([], {split: len(images) for split, images in read_splits(corpus).items()})
    if corpus.lm_text:
        read_sentences(Path(corpus.lm_text))
    if corpus.kind == "embedded":
        return None
    splits = _utterances(job)
    cuts, report = check_utterances(splits, corpus, job.jobs, job.progress)
    if corpus.kind != "yesno":
        for (one, other), speakers in shared_speakers(splits).items():
            for speaker in speakers:
                report.add(one, speaker, Fault(SHARED_SPEAKER, f"in {other} too", is_note=True))
    note_transcripts(report, cuts, job.recipe.lang, corpus.sample_rate)
    return report


def note_transcripts(report: Report, cuts: dict[str, list[MonoCut]], lang: Lang, sample_rate: int) -> None:
    """Note words that get no pronunciation, which are aligned as spoken noise, and utterances with fewer frames than
    their transcript's shortest path, which stage 3 cannot align.
    """
    transcripts = {split: [words_of(cut) for cut in members] for split, members in cuts.items()}
    spoken = {word for sentences in transcripts.values() for sentence in sentences for word in sentence}
    lexicon = _lexicon(spoken, transcripts["train"], lang)
    phones = {word: min(map(len, lexicon[word])) if word in lexicon else 1 for word in spoken}
    for split, members in cuts.items():
        silent = {word for sentence in transcripts[split] for word in sentence if word not in lexicon}
        for word in sorted(silent):
            report.add(split, word, Fault("word without pronunciation", "aligned as noise", is_note=True))
        for cut, words in zip(members, transcripts[split], strict=True):
            frames, least = num_frames(cut.num_samples, sample_rate), FRAMES_OF_A_PHONE * sum(phones[w] for w in words)
            if frames < least:
                reason = f"{frames} frames of {FRAME_SHIFT_MS:g} ms, its {len(words)} words take {least}"
                report.add(split, cut.id, Fault("too short for its transcript", reason, is_note=True))


def _lexicon(spoken: set[str], train: list[list[str]], lang: Lang) -> Lexicon:
    """Of the words spoken, as stage 2 will make it."""
    if lang.units:
        return spell(spoken, letters_of(train))
    lexicon = read_lexicon(lang)
    if not lang.g2p:
        return lexicon
    try:
        return lexicon | guess_pronunciations(spoken, lexicon)
    except UserError:  # not in phones that can be guessed: stage 2 says so, with what to do
        return lexicon


def _sentences(job: Job) -> list[str]:
    """Those of corpus.lm_text; of the embedded corpus its own."""
    corpus = job.recipe.corpus
    sentences = read_sentences(Path(corpus.lm_text)) if corpus.lm_text else []
    if corpus.kind == "embedded" and not sentences:
        return embedded.lm_sentences(corpus.embedded, job.recipe.seed)
    return sentences


def _utterances(job: Job) -> dict[str, list[Utterance]]:
    corpus = job.recipe.corpus
    if corpus.kind != "embedded":
        return READERS[corpus.kind](corpus)
    folder = Path(corpus.dir) if corpus.dir else job.work.corpus
    return embedded.generate(corpus, job.recipe.seed, folder, job.jobs, job.progress)
