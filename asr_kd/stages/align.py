"""Stage 3: GMM-HMM training in four steps, then one tied state for every frame of every split."""

from collections.abc import Callable

import numpy as np
import torch

from asr_kd.corpora.manifest import load_cuts, words_of
from asr_kd.features.store import FrameStore, write_store
from asr_kd.files import write_json
from asr_kd.hmm import steps
from asr_kd.hmm.aligner import Alignment, align_speech
from asr_kd.hmm.boundaries import boundary_errors, summarise
from asr_kd.hmm.speech import Speech, load_speech
from asr_kd.hmm.topology import ContextCodes
from asr_kd.hmm.training import frame_pdfs, silence_share
from asr_kd.hmm.transcript import TranscriptCompiler
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.phones import PhoneSet
from asr_kd.nn.inputs import load_inputs
from asr_kd.nn.posteriors import load_scorer
from asr_kd.nn.products import threads
from asr_kd.nn.training import HardTargets, Run
from asr_kd.nn.training import train as train_network
from asr_kd.pipeline import Job
from asr_kd.recipe import Realignment
from asr_kd.workspace import SPLITS


def run(job: Job) -> None:
    phone_set = PhoneSet.read(job.work.lang / "phones.txt")
    compiler = TranscriptCompiler(phone_set, Lexicon.read(job.work.lang / "lexicon.txt").entries)
    with threads(1):  # batches of utterances run in threads of their own
        speech = {split: load_split(job, split, compiler) for split in SPLITS}
        sat = train(job, speech["train"], compiler, phone_set)
        for split in job.progress(SPLITS, "final alignment"):
            alignment, _ = steps.align_adapted(sat, speech[split], job.recipe.hmm, job.jobs)
            write_alignment(job, split, sat, speech[split], alignment)
    if job.recipe.hmm.realignment:
        realign(job, sat, speech, job.recipe.hmm.realignment)
    write_boundaries(job)


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


def realign(job: Job, sat: steps.Step, speech: dict[str, Speech], recipe: Realignment) -> None:
    """Train a network on the alignment and let its scaled likelihoods align anew (Kaldi's steps/nnet/align.sh)."""
    path, inputs = job.work.model("realignment"), load_inputs(job.work, recipe.network, job.device)
    plan = Run(recipe.network, recipe.train, (job.recipe.seed, "realignment"), inputs.num_pdfs, inputs.data)
    with threads(job.jobs):
        train_network(path, plan, inputs.train, inputs.dev, HardTargets(inputs.train.labels), job.progress, job.device)
    scorer = load_scorer(job.work, [path.name])
    with threads(1):
        for split in job.progress(SPLITS, "realignment"):
            names = speech[split].utterances

            def network(utterance: int, split: str = split, names: list[str] = names) -> torch.Tensor:
                return torch.from_numpy(scorer.log_posteriors(split, names[utterance]) - scorer.log_prior)

            boost = job.recipe.hmm.boost_silence
            alignment = align_speech(sat.gmm, speech[split], boost, job.jobs, network)
            write_alignment(job, split, sat, speech[split], alignment)


def write_boundaries(job: Job) -> None:
    """hmm/boundaries.json: errors of word boundaries, for the splits whose true times are known."""
    errors = {
        split: boundary_errors(load_cuts(job.work.manifest(split)), FrameStore(job.work.alignment(split)))
        for split in SPLITS
    }
    boundaries = {split: summarise(found) for split, found in errors.items() if len(found)}
    write_json(job.work.hmm / "boundaries.json", boundaries)
    job.log.info("word boundaries against true times: %s", boundaries or "the corpus has none")


def write_alignment(job: Job, split: str, sat: steps.Step, speech: Speech, alignment: Alignment) -> None:
    """One row a frame: pdf, left phone, phone, right phone, HMM state, number of the word (−1 in silence).

    Utterances without an alignment are logged and listed in hmm/failed-SPLIT.json.
    """
    pdfs = frame_pdfs(sat.gmm.tree, alignment)
    decoded = ContextCodes(len(sat.gmm.tree.phone_set)).decode(alignment.codes)
    table = np.stack([pdfs, *decoded, alignment.words], axis=1).astype(np.int16)
    failed = [speech.utterances[u] for u in alignment.failed]
    rows = {name: table[speech.rows(u)] for u, name in enumerate(speech.utterances) if name not in failed}
    meta = {"num_pdfs": sat.gmm.num_pdfs, "tree_hash": sat.gmm.tree.digest}
    write_store(job.work.alignment(split), rows, meta)
    write_json(job.work.hmm / f"failed-{split}.json", failed)
    silence = silence_share(sat.gmm.tree, pdfs)
    job.log.info("%s: %d aligned, silence %.3f of the frames", split, len(rows), silence)
    if failed:
        job.log.warning("%s: %d too short for their transcripts: %s", split, len(failed), ", ".join(failed))
