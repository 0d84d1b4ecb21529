"""Stage 3: GMM-HMM training in four steps, then one tied state for every frame of every split."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from lhotse import MonoCut

from asr_kd.checksums import checksum, files_below
from asr_kd.corpora.manifest import read_cuts, sped_up, words_of
from asr_kd.executors.contract import Work
from asr_kd.features.store import FrameStore, write_store
from asr_kd.files import write_json
from asr_kd.hmm import steps
from asr_kd.hmm.aligner import Alignment, align_speech
from asr_kd.hmm.boundaries import boundary_errors, summarise
from asr_kd.hmm.checkpoint import Checkpoint, FinishedSteps
from asr_kd.hmm.frames import occupancies
from asr_kd.hmm.graphs import PackedGraphs
from asr_kd.hmm.shards import alignment_spread
from asr_kd.hmm.speech import Speech, load_speech
from asr_kd.hmm.topology import ContextCodes
from asr_kd.hmm.training import frame_pdfs
from asr_kd.hmm.transcript import TranscriptCompiler, TranscriptGraph
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.phones import PhoneSet
from asr_kd.nn.inputs import Inputs, load_inputs
from asr_kd.nn.posteriors import load_scorer
from asr_kd.nn.products import threads
from asr_kd.nn.seeds import Seed
from asr_kd.nn.training import HardTargets, Progress, Run
from asr_kd.nn.training import train as train_network
from asr_kd.pipeline import Job, digest, fingerprint
from asr_kd.recipe import Realignment
from asr_kd.stages.teachers import prepare_input
from asr_kd.workspace import SPLITS


def run(job: Job) -> None:
    phone_set = PhoneSet.read(job.work.lang / "phones.txt")
    compiler = TranscriptCompiler(phone_set, Lexicon.read(job.work.lang / "lexicon.txt").entries)
    with threads(1), alignment_spread(job):  # batches of utterances run in threads of their own
        speech = {split: load_split(job, split, compiler) for split in SPLITS}
        finished = FinishedSteps(job.work.hmm / "steps.json", origin(job))
        sat = train(job, speech["train"][0], compiler, phone_set, finished)
        align_finally(job, finished, sat, speech)
    if job.recipe.hmm.realignment:
        realign(job, sat, speech, job.recipe.hmm.realignment)
    write_boundaries(job)


def load_split(job: Job, split: str, compiler: TranscriptCompiler) -> list[Speech]:
    """The split's utterances, which GMMs are trained on, and behind them, for train, their sped-up copies, if any."""
    manifest, factors = job.work.manifest(split), job.recipe.features.speed if split == "train" else None
    parts = [read_cuts(manifest)] + ([sped_up(read_cuts(manifest), factors)] if factors else [])
    return [load_part(job, split, part, compiler) for part in parts]


def load_part(job: Job, split: str, cuts: Iterable[MonoCut], compiler: TranscriptCompiler) -> Speech:
    speakers: dict[str, str] = {}

    def compiled() -> Iterator[tuple[str, TranscriptGraph]]:
        for cut in job.progress(cuts, f"{split} transcript graphs"):
            speakers[cut.id] = cut.supervisions[0].speaker
            yield cut.id, compiler.compile(words_of(cut))

    graphs = PackedGraphs(compiled())
    return load_speech(FrameStore(job.work.features("mfcc", split)), speakers, graphs, job.device)


def train(
    job: Job, speech: Speech, compiler: TranscriptCompiler, phone_set: PhoneSet, finished: FinishedSteps
) -> steps.Step:
    """mono → tri → lda → sat, each saved as it is finished; returns the last."""
    hmm, seed, jobs = job.recipe.hmm, job.recipe.seed, job.jobs
    made: list[steps.Step] = []
    recipe: list[tuple[str, Callable[[Checkpoint], steps.Step]]] = [
        ("mono", lambda saved: steps.train_mono(speech, compiler, phone_set, hmm, seed, jobs, saved)),
        ("tri", lambda saved: steps.train_tri(speech, made[-1], phone_set, hmm, seed, jobs, saved)),
        ("lda", lambda saved: steps.train_lda(speech, made[-1], phone_set, hmm, seed, jobs, saved)),
        ("sat", lambda saved: steps.train_sat(speech, made[-1], phone_set, hmm, seed, jobs, saved)),
    ]
    for name, make in job.progress(recipe, "GMM training"):
        folder = job.work.gmm(name)
        if finished.has(name):
            job.log.info("%s: finished already", name)
            made.append(steps.Step.load(folder, job.device).copied())
            continue
        job.log.info("%s:", name)
        checkpoint = Checkpoint(folder / "checkpoint", finished.identity)
        make(checkpoint).save(folder)
        made.append(steps.Step.load(folder, job.device).copied())  # as a run that resumes has it
        checkpoint.remove()
        finished.add(name, list(files_below([folder])))
    return made[-1]


def align_finally(job: Job, finished: FinishedSteps, sat: steps.Step, speech: dict[str, list[Speech]]) -> None:
    """One tied state for every frame of every split."""
    for split in job.progress(SPLITS, "final alignment"):
        if finished.has(name := f"alignment of {split}"):
            job.log.info("%s: finished already", name)
            continue
        alignments = [steps.align_adapted(sat, part, job.recipe.hmm, job.jobs)[0] for part in speech[split]]
        write_alignment(job, split, sat, speech[split], alignments)
        finished.add(name, list(files_below([job.work.alignment(split), job.work.failed_alignments(split)])))


def origin(job: Job) -> str:
    """What is aligned, by what and how: a run that resumes takes over the steps of the same."""
    files = [job.work.lang / "lexicon.txt", *(job.work.features("mfcc", split) / "index.json" for split in SPLITS)]
    return digest([fingerprint(job.recipe, "align"), *map(checksum, files)])


def realign(job: Job, sat: steps.Step, speech: dict[str, list[Speech]], recipe: Realignment) -> None:
    """Train networks on the alignment and let their scaled likelihoods align anew (Kaldi's steps/nnet/align.sh)."""
    prepare_input(job, recipe.network)
    scorer = load_scorer(job.work, train_realigners(job, recipe))

    def align_part(split: str, part: Speech) -> Alignment:
        def network(utterance: int) -> torch.Tensor:
            return torch.from_numpy(scorer.log_posteriors(split, part.utterances[utterance]) - scorer.log_prior)

        return align_speech(sat.gmm, part, job.recipe.hmm.boost_silence, job.jobs, network)

    with threads(1):
        for split in job.progress(SPLITS, "realignment"):
            write_alignment(job, split, sat, speech[split], [align_part(split, part) for part in speech[split]])


def train_realigners(job: Job, recipe: Realignment) -> list[str]:
    """The names of the trained networks: `realignment`, or `realignment-00` … for several members."""
    seed, count = (job.recipe.seed, "realignment"), recipe.members
    plans = {f"realignment-{i:02d}": (*seed, i) for i in range(count)} if count else {"realignment": seed}
    list(job.spread(Realigners(job.as_task(), recipe), list(plans.items())))
    return list(plans)


@dataclass(frozen=True)
class Realigners(Work):
    """Networks that align anew, by name and seed."""

    job: Job
    recipe: Realignment
    title = "networks for realignment"

    @property
    def here(self) -> Literal["turns"]:
        return "turns"

    def name(self, item: tuple[str, Seed]) -> str:
        return item[0]

    def load(self) -> Inputs:
        return load_inputs(self.job.work, self.recipe.network, self.job.device)

    def do(self, loaded: Inputs, item: tuple[str, Seed], progress: Progress) -> None:
        (name, seed), job, targets = item, self.job, HardTargets(loaded.train.labels)
        plan = Run(self.recipe.network, self.recipe.train, seed, loaded.num_pdfs, loaded.data)
        path, tracker = job.work.model(name), job.tracker(name)
        train_network(path, plan, loaded.train, loaded.dev, targets, progress, job.device, tracker=tracker)


def write_boundaries(job: Job) -> None:
    """hmm/boundaries.json: errors of word boundaries, for the splits whose true times are known."""
    boundaries = {}
    for split in SPLITS:
        cuts = read_cuts(job.work.manifest(split), word_times=True)
        errors = boundary_errors(cuts, FrameStore(job.work.alignment(split)))
        if len(errors):
            boundaries[split] = summarise(errors)
    write_json(job.work.hmm / "boundaries.json", boundaries)
    job.log.info("word boundaries against true times: %s", boundaries or "the corpus has none")


def write_alignment(
    job: Job, split: str, sat: steps.Step, speech: Sequence[Speech], alignments: Sequence[Alignment]
) -> None:
    """One row a frame: pdf, left phone, phone, right phone, HMM state, number of the word (−1 in silence).

    speech, alignments: the split's parts. Utterances without an alignment are logged and listed in
    hmm/failed-SPLIT.json.
    """
    tree, failed = sat.gmm.tree, list[str]()
    pdfs = [frame_pdfs(tree, alignment) for alignment in alignments]

    def tables() -> Iterator[tuple[str, np.ndarray]]:
        for part, alignment, states in zip(speech, alignments, pdfs, strict=True):
            missing = set(alignment.failed.tolist())
            for u, name in enumerate(part.utterances):
                if u not in missing:
                    rows = part.rows(u)
                    decoded = ContextCodes(len(tree.phone_set)).decode(alignment.codes[rows])
                    yield name, np.stack([states[rows], *decoded, alignment.words[rows]], axis=1).astype(np.int16)
            failed.extend(part.utterances[u] for u in sorted(missing))

    aligned = write_store(job.work.alignment(split), tables(), {"num_pdfs": tree.num_pdfs, "tree_hash": tree.digest})
    write_json(job.work.failed_alignments(split), failed)
    frames = np.sum([occupancies(states, tree.num_pdfs) for states in pdfs], axis=0)
    silence = frames[tree.silence_pdfs()].sum() / frames.sum()
    job.log.info("%s: %d aligned, silence %.3f of the frames", split, len(aligned), silence)
    if failed:
        job.log.warning("%s: %d too short for their transcripts: %s", split, len(failed), ", ".join(failed))
