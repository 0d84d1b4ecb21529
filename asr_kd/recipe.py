"""The recipe: typed, and the same for every corpus. `asr_kd.recipe_file` reads one."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Corpus(Section):
    """Where the speech comes from. `train`, `dev` and `test` are names of parts that the corpus kind understands.

    `held_out`: of an image corpus, how many of the last training images are kept from training as dev; null: none, and
    dev shows how some of the images trained on are recognised. `untrusted`: the corpus's lists are a stranger's; audio
    has to lie below `dir`, links followed, and commands in wav.scp are not run.
    """

    kind: Literal["embedded", "librispeech", "mini_librispeech", "yesno", "kaldi", "mnist", "svhn", "cifar10"] = (
        "embedded"
    )
    dir: str | None = None
    download: bool = False
    train: tuple[str, ...] = ("train",)
    dev: tuple[str, ...] = ("dev",)
    test: tuple[str, ...] = ("test",)
    lm_text: str | None = None
    sample_rate: Count = 16000
    max_bad_fraction: Share = 0.01
    held_out: Count | None = None
    untrusted: Literal[True] | None = None
    embedded: "Embedded" = Field(default_factory=lambda: Embedded())

    @property
    def of_images(self) -> bool:
        return self.kind in ("mnist", "svhn", "cifar10")


class Embedded(Section):
    """The synthetic voice-search corpus; sizes are utterances, noise is the range of signal-to-noise ratios in dB."""

    train_utterances: Count = 1200
    dev_utterances: Count = 150
    test_utterances: Count = 300
    train_speakers: Count = 60
    dev_speakers: Count = 8
    test_speakers: Count = 16
    lm_sentences: Count = 20000
    snr_db: tuple[float, float] = (0.0, 15.0)
    reverberation_s: tuple[float, float] = (0.1, 0.5)


class Normalisation(Section):
    by: Literal["speaker", "utterance"] = "speaker"
    mean: bool = True
    variance: bool = True


class Filterbank(Section):
    num_bins: Count = 40
    low_freq: float = 20.0
    high_freq: float = 7600.0
    normalise: Normalisation = Normalisation()


class Mfcc(Section):
    num_bins: Count = 23
    num_ceps: Count = 13
    low_freq: float = 20.0
    high_freq: float = 7600.0
    normalise: Normalisation = Normalisation(variance=False)


class Features(Section):
    """`speed`: factors other than 1 by which copies of the training speech are sped up (Ko et al. 2015)."""

    speed: tuple[Positive, ...] | None = None
    fbank: Filterbank = Filterbank()
    mfcc: Mfcc = Mfcc()


class NGram(Section):
    """kaldingram's order, cut-offs (one per order above 1) and entropy-pruning threshold; or the user's ARPA file."""

    arpa: str | None = None
    order: Annotated[int, Field(ge=1, le=5)] = 3
    cutoffs: tuple[int, ...] = (1, 2)
    prune: Annotated[float, Field(ge=0)] = 0.0


class Lang(Section):
    """`vocabulary`: `lm` takes the words of the LM text, `lm+train` those of the training transcripts too.

    `stress: true` keeps the digits of stressed vowels (AH0), which null removes; G2P makes none.
    `units: grapheme`: words are pronounced by their letters, those that the training transcripts have; no lexicon, no
    G2P. `tokens: bpe`: language model and graph are over at most `pieces` (null: 2000) pieces of words.
    """

    lexicon: str = "cmudict"
    stress: Literal[True] | None = None
    g2p: bool = True
    vocabulary: Literal["lm", "lm+train"] = "lm+train"
    vocabulary_in_lexicon_only: bool = False
    max_words: Count | None = None
    units: Literal["grapheme"] | None = None
    tokens: Literal["bpe"] | None = None
    pieces: Count | None = None
    ngram: NGram = NGram()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.units and self.lexicon != "cmudict":
            raise ValueError("units: grapheme needs no lexicon; remove lang.lexicon")
        if self.tokens and not self.units:
            raise ValueError("tokens: bpe needs pieces that can be pronounced; set lang.units: grapheme")
        if self.tokens and (self.ngram.arpa or self.max_words):
            raise ValueError("tokens: bpe makes its own tokens and n-gram; remove lang.ngram.arpa, lang.max_words")
        if self.pieces and not self.tokens:
            raise ValueError("pieces: only of tokens: bpe; set lang.tokens or remove lang.pieces")
        return self


class Network(Section):
    """Input window and layers; 8 × 2560 is `{layers: 8, width: 2560}`.

    `input`: filterbanks, speaker-adapted features, both side by side, or an image's pixels. `kind`: a convolutional
    network of its own fixed layers instead of fully connected ones. `input_dropout`: of the input's values. `norm`: of
    every hidden layer's units, over the batch (Ioffe and Szegedy 2015) or over the layer (Ba et al. 2016).
    """

    kind: Literal["lenet", "nin"] | None = None
    input: Literal["fbank", "fmllr", "fmllr+fbank", "pixels"] = "fbank"
    left: Annotated[int, Field(ge=0)] = 20
    right: Annotated[int, Field(ge=0)] = 5
    layers: Annotated[int, Field(ge=0)] = 4
    width: Count = 512
    dropout: Share = 0.1
    input_dropout: Share | None = None
    norm: Literal["batch", "layer"] | None = None

    @model_validator(mode="after")
    def _images_alone(self) -> Self:
        if self.kind and (self.left or self.right or self.norm):
            raise ValueError(f"kind: {self.kind} sees one image and has no norm; set left: 0, right: 0, norm: null")
        return self


class Training(Section):
    """One optimisation run. `precision: auto` takes bf16 autocast where the machine is faster with it.

    `fraction`: share of the training frames, by whole utterances that the recipe's seed draws; those of a smaller
    share are among those of a larger one. `max_norm`: bound on the length of each hidden unit's
    incoming weights (Srivastava et al. 2014). `jitter`: images are shifted by up to so many pixels. `keep`: `last`
    takes the last epoch's network, null the one best on dev.
    """

    epochs: Count = 8
    batch_frames: Count = 1024
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    momentum: Share = 0.9
    schedule: Literal["onecycle", "newbob"] = "onecycle"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    max_grad_norm: Positive = 5.0
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    max_norm: Positive | None = None
    jitter: Count | None = None
    keep: Literal["last"] | None = None


class Realignment(Section):
    """A first network on the GMM's alignment, whose scaled posteriors then align everything once more; with `members`,
    the mean of so many.
    """

    members: Count | None = None
    network: Network = Network()
    train: Training = Training()


class GmmStep(Section):
    """One Kaldi training script: passes of EM, those that realign first, leaves of the tree, Gaussians at the end."""

    iterations: Count
    realign: tuple[int, ...]
    leaves: Count = 1500
    gaussians: Count = 9000


class External(Section):
    """A Kaldi alignment in place of stage 3's GMMs (docs/interoperability.md).

    `alignment`: archives of one pdf a frame for all splits, patterns such as `ali/pdf.*.gz` allowed. `tree`: Kaldi's
    tree as text, or lines `phone state pdf`; null: networks are trained and scored by frame, nothing is decoded.
    `phones`: the phones.txt that numbers the tree's phones; `silence`, `noise`: what it calls SIL and SPN.
    `num_pdfs`: null is the tree's, or without a tree up to the largest that occurs.
    """

    alignment: Annotated[tuple[str, ...], Field(min_length=1)]
    tree: str | None = None
    phones: str | None = None
    silence: str = "SIL"
    noise: str = "SPN"
    num_pdfs: Count | None = None


class Hmm(Section):
    """Kaldi's train_mono, train_deltas, train_lda_mllt, train_sat and align_fmllr, in their terms."""

    boost_silence: Positive = 1.25
    min_occupancy: Positive = 100.0
    mono_utterances: Count = 500
    mono: GmmStep = GmmStep(
        iterations=40,
        realign=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38),
        gaussians=1000,
    )
    tri: GmmStep = GmmStep(iterations=35, realign=(10, 20, 30), leaves=1500, gaussians=9000)
    lda: GmmStep = GmmStep(iterations=35, realign=(10, 20, 30), leaves=1800, gaussians=11000)
    sat: GmmStep = GmmStep(iterations=35, realign=(10, 20, 30), leaves=1800, gaussians=12000)
    lda_dim: Count = 40
    lda_context: Count = 3
    mllt_iterations: tuple[int, ...] = (2, 4, 6, 12)
    fmllr_iterations: tuple[int, ...] = (2, 4, 6, 12)
    fmllr_min_frames: Count = 500
    realignment: Realignment | None = None
    external: External | None = None


class Teachers(Section):
    """`networks`: architectures that the members take in turn, instead of all having `network`; `seed`: null is the
    recipe's.
    """

    members: Count = 5
    seed: Annotated[int, Field(ge=0)] | None = None
    network: Network = Network()
    networks: Annotated[tuple[Network, ...], Field(min_length=1)] | None = None
    train: Training = Training()

    def network_of(self, member: int) -> Network:
        return self.networks[member % len(self.networks)] if self.networks else self.network


class Targets(Section):
    """The soft-target store; `top_k: null` stores every state (dense).

    `pruning: random` draws the k states instead, so that the expectation at the one temperature of `temperatures`
    is kept. `dropout`: rate of dropout in the teachers while they are asked.
    """

    top_k: Count | None = 20
    temperatures: tuple[Positive, ...] = (1.0, 2.0, 5.0, 10.0)
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    pruning: Literal["random"] | None = None
    dropout: Share | None = None


class SpecialistTraining(Training):
    """As any network's, but for defaults that suit one that starts from a trained network."""

    epochs: Count = 4
    learning_rate: Positive = 3e-4


class Specialists(Section):
    """Networks for `classes` confusable states each, beside member 0 as the generalist (Hinton et al. 2015, §5).

    The soft targets are then those of the generalist and its specialists together; other members take no part. All
    see the frames that the generalist was trained on.
    `clusters_from`: training frames whose posteriors the clusters come from; `active_classes`: n of the inference,
    the generalist's most probable states that decide which specialists are asked.
    """

    count: Count = 8
    classes: Count = 150
    clusters_from: Count = 50000
    active_classes: Count = 1
    train: SpecialistTraining = SpecialistTraining()


class Noise(Section):
    """Multiplicative noise on the teacher's logits (Sau and Balasubramanian 2016): with probability `alpha` a frame's
    are multiplied by 1 + ξ, ξ ~ N(0, sigma²) for each state; redrawn at every step, or fixed for each frame.
    """

    alpha: Share = 0.15
    sigma: Annotated[float, Field(ge=0)] = 0.5
    redraw: Literal["step", "never"] = "step"


class Student(Section):
    """`network: null` gives the student the teachers' architecture; `hard_weight` is w of the loss.

    `loss: logits` matches logits by squared error (Ba and Caruana 2014) in place of the soft cross-entropy.
    `transfer_classes`: only frames of these classes are trained on. `seed`: null is the recipe's.
    """

    seed: Annotated[int, Field(ge=0)] | None = None
    network: Network | None = None
    loss: Literal["logits"] | None = None
    noise: Noise | None = None
    transfer_classes: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    train: Training = Training(epochs=12)
    temperature: Positive = 2.0
    hard_weight: Share = 0.5


class Scales(Section):
    """Grid searched on dev: language-model scales (1 / acoustic scale) and word-insertion penalties."""

    lm_scale: tuple[Positive, ...] = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
    word_penalty: tuple[float, ...] = (0.0, 0.5, 1.0)


System = Literal["gmm-mono", "gmm-tri", "gmm-lda", "gmm-sat", "baseline", "ensemble", "specialists", "student"]


class Width(Section):
    """A search's beam, in scaled cost, and the states it keeps a frame."""

    beam: Positive
    max_active: Count


class Lattice(Section):
    """Lattices, with N-best lists, posteriors and word times from them; oracle word error rates.

    `beams`: of the searches for lattices, each tried only while the lattice of the one before has no more than
    `max_states` states a frame; k2 has no need of them and takes the beam of the search for one sentence. `keep`: how
    much more than the best a sentence of the lattice may cost. `rescore`: an n-gram to take the place of the graph's,
    its scale and word penalty tuned on dev.
    """

    beams: Annotated[tuple[Positive, ...], Field(min_length=1)] = (7.0, 9.0, 11.0)
    keep: Positive = 6.0
    max_states: Positive = 50.0
    nbest: Count = 100
    rescore: NGram | None = None


class Decode(Section):
    """`first_pass`: the narrow search that adapts to speakers and, on `tuning_seconds` of dev, tries out the scales;
    `acoustic_scale`: that of the adaptation, and where the trial of the scales begins. `backend`: null is
    kaldi-decoder. `mean`: of the ensemble's members, over posteriors (arithmetic) or log-likelihoods (geometric); null
    is targets.mean. `pronunciation_probabilities`: of a word's variants, from how often the training alignment took
    each; null leaves them equal. `adapt`: fMLLR of dev and test for every utterance alone; null: for every speaker.
    """

    systems: Annotated[tuple[System, ...], Field(min_length=1)] = (
        "gmm-sat",
        "baseline",
        "ensemble",
        "student",
    )
    acoustic_scale: Positive = 0.083333
    beam: Positive = 13.0
    max_active: Count = 7000
    first_pass: Width = Width(beam=11.0, max_active=2500)
    tuning_seconds: Positive = 1500.0
    transition_scale: Annotated[float, Field(ge=0)] = 1.0
    self_loop_scale: Annotated[float, Field(ge=0)] = 0.1
    silence_probability: Share = 0.5
    prior_scale: Annotated[float, Field(ge=0)] = 1.0
    gmm: Scales = Scales(lm_scale=tuple(range(7, 23)))
    network: Scales = Scales()
    backend: Literal["k2"] | None = None
    mean: Literal["arithmetic", "geometric"] | None = None
    lattice: Lattice | None = None
    pronunciation_probabilities: Literal[True] | None = None
    adapt: Literal["utterance"] | None = None


class Score(Section):
    """`page_utterances`: how many can be listened to on report.html; null: as many as it has room for. `page_frames`:
    test frames that its figures of posteriors are made of, evenly spread; null: as many as a minute or two allow.
    """

    bootstrap_samples: Count = 1000
    worst_utterances: Count = 10
    page_utterances: Annotated[int, Field(ge=0)] | None = None
    page_frames: Count | None = None


class Recipe(Section):
    """A whole experiment; every section has defaults, so a recipe file says only what differs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "default"
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    corpus: Corpus = Corpus()
    features: Features = Features()
    lang: Lang = Lang()
    hmm: Hmm = Hmm()
    teachers: Teachers = Teachers()
    specialists: Specialists | None = None
    targets: Targets = Targets()
    student: Student = Student()
    decode: Decode = Decode()
    score: Score = Score()

    @property
    def student_network(self) -> Network:
        return self.student.network or self.teachers.network


Corpus.model_rebuild()
