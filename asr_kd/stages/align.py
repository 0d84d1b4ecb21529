"""Stage 3: GMM-HMM training in four steps, then one tied state for every frame of every split."""

from collections.abc import Callable

import numpy as np
import torch

from asr_kd.corpora.manifest import load_cuts, words_of
from asr_kd.features.store import FrameStore, write_store
from asr_kd.files import write_json
from asr_kd.hmm import steps
from asr_kd.hmm.aligner import Alignment
from asr_kd.hmm.boundaries import boundary_errors, summarise
from asr_kd.hmm.speech import Speech, load_speech
from asr_kd.hmm.topology import ContextCodes
from asr_kd.hmm.training import frame_pdfs, silence_share
from asr_kd.hmm.transcript import TranscriptCompiler
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.phones import PhoneSet
from asr_kd.pipeline import Job
from asr_kd.workspace import SPLITS


def run(job: Job) -> None:
    phone_set = PhoneSet.read(job.work.lang / "phones.txt")
    compiler = TranscriptCompiler(phone_set, Lexicon.read(job.work.lang / "lexicon.txt").entries)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # batches of utterances run in threads of their own
    try:
        speech = load_split(job, "train", compiler)
        sat = train(job, speech, compiler, phone_set)
        failed, errors = {}, {}
        for split in job.progress(SPLITS, "final alignment"):
            if split != "train":
                speech = load_split(job, split, compiler)
            alignment, _ = steps.align_adapted(sat, speech, job.recipe.hmm, job.jobs)
            failed[split] = [speech.utterances[u] for u in alignment.failed]
            silence = silence_share(sat.gmm.tree, frame_pdfs(sat.gmm.tree, alignment))
            short = len(failed[split])
            job.log.info("%s: %d aligned, %d too short, silence %.3f", split, len(speech) - short, short, silence)
            write_alignment(job, split, sat, speech, alignment)
            errors[split] = boundary_errors(load_cuts(job.work.manifest(split)), FrameStore(job.work.alignment(split)))
        write_json(job.work.hmm / "failed.json", failed)
        boundaries = {split: summarise(found) for split, found in errors.items() if len(found)}
        write_json(job.work.hmm / "boundaries.json", boundaries)
        job.log.info("word boundaries against true times: %s", boundaries or "the corpus has none")
    finally:
        torch.set_num_threads(threads)


def load_split(job: Job, split: str, compiler: TranscriptCompiler) -> Speech:
    cuts = load_cuts(job.work.manifest(split))
    graphs = {cut.id: compiler.compile(words_of(cut)) for cut in job.progress(cuts, f"{split} transcript graphs")}
    speakers = {cut.id: cut.supervisions[0].speaker for cut in cuts}
    return load_speech(FrameStore(job.work.features("mfcc", split)), speakers, graphs, job.device)


def train(job: Job, speech: Speech, compiler: TranscriptCompiler, phone_set: PhoneSet) -> steps.Step:
    """mono → tri → lda → sat, each saved as it is finished; returns the last."""
    hmm, seed, jobs = job.recipe.hmm, job.recipe.seed, job.jobs
    made: list[steps.Step] = []
    recipe: list[tuple[str, Callable[[], steps.Step]]] = [
        ("mono", lambda: steps.train_mono(speech, compiler, phone_set, hmm, seed, jobs)),
        ("tri", lambda: steps.train_tri(speech, made[-1], phone_set, hmm, seed, jobs)),
        ("lda", lambda: steps.train_lda(speech, made[-1], phone_set, hmm, seed, jobs)),
        ("sat", lambda: steps.train_sat(speech, made[-1], phone_set, hmm, seed, jobs)),
    ]
    for name, make in job.progress(recipe, "GMM training"):
        job.log.info("%s:", name)
        made.append(make())
        made[-1].save(job.work.gmm(name))
    return made[-1]


def write_alignment(job: Job, split: str, sat: steps.Step, speech: Speech, alignment: Alignment) -> None:
    """One row a frame: pdf, left phone, phone, right phone, HMM state, number of the word (−1 in silence)."""
    pdfs = frame_pdfs(sat.gmm.tree, alignment)
    decoded = ContextCodes(len(sat.gmm.tree.phone_set)).decode(alignment.codes)
    table = np.stack([pdfs, *decoded, alignment.words], axis=1).astype(np.int16)
    failed = set(alignment.failed.tolist())
    rows = {name: table[speech.rows(u)] for u, name in enumerate(speech.utterances) if u not in failed}
    meta = {"num_pdfs": sat.gmm.num_pdfs, "tree_hash": sat.gmm.tree.digest}
    write_store(job.work.alignment(split), rows, meta)
