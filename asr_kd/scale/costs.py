"""The cost of every stage: work counted from recipe and sizes, times what a unit of it took on libri_mini.

The units are seconds of one core of the machine that docs/scale.md describes, where they were measured. Products count
by their operations, and run at a share of the machine's speed at large ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from asr_kd.distill.asking import estimate_bytes
from asr_kd.recipe import GmmStep, Hmm, Network, Recipe, Training
from asr_kd.scale.machine import Machine
from asr_kd.scale.sizes import Sizes, input_bytes, layer_products, members_of, parameters

TRAIN_SHARE, INFER_SHARE = 0.32, 0.6  # of the products' speed: dropout, gathering and softmax take the rest
SOFT_LOSS = 1.2  # a student's step takes so many times as long as a member's
PREPARE = 2.7e-3  # an utterance
FEATURES = 7.9  # an hour of audio
LANG = 38e-6  # a word of the language model's text
VITERBI, MONO_VITERBI = 36e-6, 16e-6  # a frame and pass
GAUSSIAN = 3.0e-9  # a frame, Gaussian and pass
EM = 0.7e-6  # a frame and iteration
FMLLR, MLLT = 23e-6, 9e-6  # a frame and estimation
ALIGN_SERIAL = 0.19  # share of the above that one core does
MONO_LENGTH = 0.6  # the shortest utterances' length, of the mean
SEARCH = 0.12  # a second of speech at REFERENCE_BEAM
REFERENCE_BEAM, PER_BEAM = 12.0, 1.8  # a search takes so many times as long for each unit of beam
TRIALS, COARSE_TRIALS = 5, 6  # of the scales, on all of dev and before that on a sample
ALONE_TRIALS = 9  # where there is no sample
ADAPTATIONS = 2
GRAPH = 0.19e-3  # an n-gram
SCORE = 30.0
PAGE_PRODUCTS = 1.5e12  # parameters times frames at which the report's forward passes end

LIBRARIES = 1.0e9  # memory that no data can change
LANG_MEMORY = 600.0  # a word
WORKING = 1.5e9  # of stages 3 to 7: buffers, and what the allocator keeps
ALIGN_MAPPED = 1500.0  # a frame of all splits
GRAPH_MEMORY, GRAPH_BYTES = 4100.0, 400.0  # an n-gram
NGRAMS, NGRAM_WORDS = 608_000, 990_000  # of libri_mini: n-grams kept, of a text of so many words
OPTIMISER_BYTES, BATCH_COPIES = 16, 24  # a parameter: weights, gradient, two moments; a unit and frame of a batch


@dataclass(frozen=True)
class Cost:
    """Of one stage. train, infer: operations; parallel, serial: seconds of a reference core.

    bytes: what it leaves on the disk. memory: what the machine must have. mapped: read at random from files that the
    kernel may write out; where they do not fit beside `memory`, the stage waits for the disk.
    """

    stage: str
    train: float = 0.0
    infer: float = 0.0
    parallel: float = 0.0
    serial: float = 0.0
    bytes: float = 0.0
    memory: float = LIBRARIES
    mapped: float = 0.0

    def seconds(self, machine: Machine) -> float:
        products = self.train / (TRAIN_SHARE * machine.train_flops) + self.infer / (INFER_SHARE * machine.infer_flops)
        return products + (self.parallel / machine.jobs + self.serial) / machine.core


def costs(recipe: Recipe, sizes: Sizes, at_once: int = 1) -> list[Cost]:
    """The nine stages'. at_once: networks trained side by side, and batches asked, as on a CPU of so many cores."""
    count = _Count(recipe, sizes, at_once)
    return [
        count.prepare(), count.features(), count.lang(), count.align(), count.teachers(), count.targets(),
        count.student(), count.decode(), count.score(),
    ]  # fmt: skip


class _Count:
    """Work of one recipe. `train` frames are those that networks see, sped-up copies with them."""

    def __init__(self, recipe: Recipe, sizes: Sizes, at_once: int) -> None:
        self.recipe, self.sizes, self.at_once = recipe, sizes, at_once
        self.copies = 1 + len(recipe.features.speed or ())
        self.train = sizes.frames("train") * self.copies
        self.others = sizes.frames("dev") + sizes.frames("test")
        external = recipe.hmm.external
        asked = recipe.hmm.sat.leaves if external is None else external.num_pdfs or recipe.hmm.sat.leaves
        self.pdfs = sizes.pdfs or asked
        growth = (sizes.lm_words / NGRAM_WORDS) ** 0.5  # pruning keeps a model from growing with its text
        self.ngrams = sizes.ngrams or NGRAMS * growth

    def prepare(self) -> Cost:
        utterances = sum(self.sizes.utterances.values())
        return Cost("prepare", parallel=PREPARE * utterances, bytes=400 * utterances + 5.4 * self.sizes.lm_words)

    def features(self) -> Cost:
        hours = self.sizes.hours["train"] * self.copies + self.sizes.hours["dev"] + self.sizes.hours["test"]
        columns = self.recipe.features.fbank.num_bins + self.recipe.features.mfcc.num_ceps
        return Cost("features", parallel=FEATURES * hours, bytes=2 * columns * (self.train + self.others))

    def lang(self) -> Cost:
        words = self.sizes.lm_words
        return Cost("lang", serial=LANG * words, bytes=30 * self.ngrams, memory=LIBRARIES + LANG_MEMORY * words)

    def align(self) -> Cost:
        """GMMs on the originals, then the alignment of everything by the last of them."""
        hmm, frames, all_frames = self.recipe.hmm, self.sizes.frames("train"), self.train + self.others
        store, adapted = 12 * all_frames, self._adapted_bytes() * all_frames
        cost = Cost("align", bytes=store + adapted, mapped=ALIGN_MAPPED * all_frames, memory=LIBRARIES + WORKING)
        if hmm.external:
            return replace(cost, parallel=VITERBI * self.train)
        core_seconds = _gmm_seconds(hmm, frames, self.sizes.utterances["train"])
        core_seconds += all_frames * (2 * (VITERBI + GAUSSIAN * hmm.sat.gaussians) + FMLLR)
        train = infer = 0.0
        if realignment := hmm.realignment:
            members = realignment.members or 1
            train = members * self._training(realignment.network, realignment.train)
            infer = members * 2 * sum(layer_products(realignment.network, self.pdfs)) * all_frames
            core_seconds += VITERBI * all_frames
        serial = ALIGN_SERIAL * core_seconds
        return replace(cost, train=train, infer=infer, parallel=core_seconds - serial, serial=serial)

    def teachers(self) -> Cost:
        recipe, members = self.recipe, list(members_of(self.recipe))
        train = sum(self._training(network, recipe.teachers.train) for network in members)
        size = sum(parameters(network, self.pdfs) for network in members)
        if specialists := recipe.specialists:
            train += specialists.count * self._training(members[0], specialists.train)
            size += specialists.count * parameters(members[0], self.pdfs)
        side_by_side = min(self.at_once, len(members))
        return Cost(
            "teachers",
            train=train,
            infer=2 * size * self.others,
            bytes=4 * size,
            memory=LIBRARIES + WORKING + side_by_side * self._training_memory(members[0], recipe.teachers.train),
            mapped=self._rows_bytes(members[0], side_by_side),
        )

    def targets(self) -> Cost:
        recipe, networks = self.recipe, list(members_of(self.recipe))
        if specialists := recipe.specialists:
            networks = networks[:1] * (1 + specialists.active_classes)
        size = sum(parameters(network, self.pdfs) for network in networks)
        softmax = 10 * self.pdfs * (len(networks) + len(recipe.targets.temperatures))
        batch = 512 * 4 * self.pdfs * (len(networks) + 3) * self.at_once
        return Cost(
            "targets",
            infer=(2 * size + softmax) * self.train,
            bytes=self.targets_bytes(),
            memory=LIBRARIES + WORKING + 4 * size + batch,
            mapped=2 * input_bytes(networks[0]) * self.train,
        )

    def targets_bytes(self) -> float:
        return estimate_bytes(self.recipe.targets, self.pdfs, round(self.train))

    def student(self) -> Cost:
        network, training = self.recipe.student_network, self.recipe.student.train
        return Cost(
            "student",
            train=SOFT_LOSS * self._training(network, training),
            infer=2 * sum(layer_products(network, self.pdfs)) * self.others,
            bytes=4 * parameters(network, self.pdfs),
            memory=LIBRARIES + WORKING + self._training_memory(network, training),
            mapped=self._rows_bytes(network, 1) + self.targets_bytes(),
        )

    def decode(self) -> Cost:
        """Graph; for each system the trials of the scales and two splits; adaptation where a system is adapted."""
        recipe, hours = self.recipe.decode, self.sizes.hours
        narrow, full = (SEARCH * PER_BEAM ** (beam - REFERENCE_BEAM) for beam in (recipe.first_pass.beam, recipe.beam))
        tuning, splits = min(recipe.tuning_seconds, 3600 * hours["dev"]), 3600 * (hours["dev"] + hours["test"])
        trials = ALONE_TRIALS * tuning
        if recipe.coarse_seconds and 2 * recipe.coarse_seconds < tuning:
            trials = TRIALS * tuning + COARSE_TRIALS * recipe.coarse_seconds
        seconds = len(recipe.systems) * (narrow * trials + full * splits)
        if "gmm-sat" in recipe.systems or self._adapted_bytes():
            seconds += ADAPTATIONS * narrow * splits
        networks = {
            "baseline": [self.recipe.teachers.network], "ensemble": list(members_of(self.recipe)),
            "student": [self.recipe.student_network],
        }  # fmt: skip
        size = max(parameters(network, self.pdfs) for network in networks["ensemble"])
        decoded = [network for system in recipe.systems for network in networks.get(system, [])]
        infer = sum(2 * sum(layer_products(network, self.pdfs)) for network in decoded) * 100 * (trials + splits)
        building, searching = GRAPH_MEMORY * self.ngrams, 2 * GRAPH_BYTES * self.ngrams + 4 * size
        return Cost(
            "decode",
            infer=infer,
            parallel=seconds,
            serial=GRAPH * self.ngrams,
            bytes=GRAPH_BYTES * self.ngrams,
            memory=LIBRARIES + max(building, WORKING + searching),
        )

    def score(self) -> Cost:
        size = sum(parameters(network, self.pdfs) for network in members_of(self.recipe))
        passes = min(PAGE_PRODUCTS, size * self.sizes.frames("test"))
        return Cost("score", infer=2 * passes, serial=SCORE, bytes=15e6)

    def _training(self, network: Network, training: Training) -> float:
        """Operations of all epochs: a forward pass, two backward but for the input's gradient, and dev's."""
        products = layer_products(network, self.pdfs)
        frames = self.train * (training.fraction or 1.0)
        step = 2 * (3 * sum(products) - products[0])
        return training.epochs * (step * frames + 2 * sum(products) * self.sizes.frames("dev"))

    def _training_memory(self, network: Network, training: Training) -> float:
        units = network.layers * network.width + self.pdfs + input_bytes(network) * (network.left + network.right + 1)
        return OPTIMISER_BYTES * parameters(network, self.pdfs) + BATCH_COPIES * units * training.batch_frames

    def _rows_bytes(self, network: Network, networks: int) -> float:
        """Of the frames' features, once and standardised for each network in training, their labels and orders."""
        return (input_bytes(network) * (1 + networks) + 8 * (1 + networks)) * self.train

    def _adapted_bytes(self) -> int:
        inputs = {network.input for network in (*members_of(self.recipe), self.recipe.student_network)}
        return sum(80 if name == "fmllr" else 160 for name in inputs if name.startswith("fmllr"))


def _gmm_seconds(hmm: Hmm, frames: float, utterances: int) -> float:
    """Core seconds of the four GMM steps on `frames` frames of training speech."""
    mono_frames = frames * min(1.0, MONO_LENGTH * hmm.mono_utterances / max(1, utterances))
    mono = mono_frames * (len(hmm.mono.realign) * MONO_VITERBI + hmm.mono.iterations * EM)
    steps = sum(_step_seconds(step) for step in (hmm.tri, hmm.lda, hmm.sat))
    transforms = MLLT * len(hmm.mllt_iterations) + FMLLR * (1 + len(hmm.fmllr_iterations))
    return mono + frames * (steps + transforms)


def _step_seconds(step: GmmStep) -> float:
    """A frame's: alignments, by three quarters of the Gaussians in the mean, and iterations of EM."""
    return (1 + len(step.realign)) * (VITERBI + 0.75 * GAUSSIAN * step.gaussians) + step.iterations * EM


def total(parts: Iterable[Cost]) -> Cost:
    """Of all stages one after another: sums, and the largest memory."""
    rows = list(parts)
    sums = {key: sum(getattr(row, key) for row in rows) for key in ("train", "infer", "parallel", "serial", "bytes")}
    peaks = {key: max(getattr(row, key) for row in rows) for key in ("memory", "mapped")}
    return Cost("total", **sums, **peaks)
