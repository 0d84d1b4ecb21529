"""Stage 0: the corpus as three validated manifests with disjoint speakers, and the language model's text."""

from pathlib import Path

from asr_kd.corpora import embedded
from asr_kd.corpora.splits import (
    READERS,
    check_speakers_disjoint,
    check_utterances,
    hours,
    read_sentences,
    write_cuts,
)
from asr_kd.corpora.utterance import Utterance
from asr_kd.files import write_json, write_text
from asr_kd.pipeline import Job


def run(job: Job) -> None:
    corpus = job.recipe.corpus
    sentences = read_sentences(Path(corpus.lm_text)) if corpus.lm_text else []
    if corpus.kind == "embedded" and not sentences:
        sentences = embedded.lm_sentences(corpus.embedded, job.recipe.seed)
    splits = _utterances(job)
    if corpus.kind != "yesno":
        check_speakers_disjoint(splits)
    cuts, excluded = check_utterances(splits, corpus, job.jobs, job.progress)
    sentences = sentences or [cut.supervisions[0].text or "" for cut in cuts["train"]]
    for split, kept in cuts.items():
        write_cuts(job.work.manifest(split), kept)
        speakers = len({cut.supervisions[0].speaker for cut in kept})
        job.log.info("%s: %d utterances, %d speakers, %.2f h", split, len(kept), speakers, hours(kept))
    write_text(job.work.lm_text, "".join(f"{sentence}\n" for sentence in sentences))
    write_json(job.work.excluded, excluded)
    job.log.info("%d sentences for the language model; %d utterances left out", len(sentences), len(excluded))


def _utterances(job: Job) -> dict[str, list[Utterance]]:
    corpus = job.recipe.corpus
    if corpus.kind != "embedded":
        return READERS[corpus.kind](corpus)
    folder = Path(corpus.dir) if corpus.dir else job.work.corpus
    return embedded.generate(corpus, job.recipe.seed, folder, job.jobs, job.progress)
