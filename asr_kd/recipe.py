"""The recipe: typed, and the same for every corpus. `asr_kd.recipe_file` reads one.

The text below a key is its meaning, which the manual prints; what stands in brackets at its end is the unit.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Corpus(Section):
    """Where the speech comes from, and which of its parts are which split."""

    kind: Literal[
        "embedded",
        "librispeech",
        "mini_librispeech",
        "yesno",
        "kaldi",
        "lhotse",
        "manifest",
        "mnist",
        "svhn",
        "cifar10",
    ] = "embedded"
    """How `dir` is read; `embedded` is synthesised on this machine."""
    dir: str | None = None
    """The corpus's folder; the embedded corpus needs none."""
    download: bool = False
    """Fetch what is missing, of the kinds librispeech, mini_librispeech, yesno and mnist."""
    train: tuple[str, ...] = ("train",)
    """Names of the parts to train on."""
    dev: tuple[str, ...] = ("dev",)
    """Names of the parts that networks and scales are chosen on."""
    test: tuple[str, ...] = ("test",)
    """Names of the parts that results are of."""
    lm_text: str | None = None
    """Text for the language model, a sentence a line, plain or .gz; null: the training transcripts."""
    sample_rate: Count = 16000
    """That of all recordings; others are left out. [Hz]"""
    max_bad_fraction: Share = 0.01
    """Stages 0 and 1 refuse a corpus of which more cannot be used. [share of the utterances]"""
    held_out: Count | None = None
    """Of an image corpus, how many of the last training images are kept from training as dev; null: none, and dev
    shows how some of the images trained on are recognised. [images]"""
    untrusted: Literal[True] | None = None
    """The corpus's lists are a stranger's: audio has to lie below `dir`, links followed, and commands that write audio
    are not run."""
    embedded: "Embedded" = Field(default_factory=lambda: Embedded())
    """Of `kind: embedded`, how much is made and how noisy it is."""

    @property
    def of_images(self) -> bool:
        return self.kind in ("mnist", "svhn", "cifar10")


class Embedded(Section):
    """The synthetic voice-search corpus."""

    train_utterances: Count = 1200
    """Size of train. [utterances]"""
    dev_utterances: Count = 150
    """Size of dev. [utterances]"""
    test_utterances: Count = 300
    """Size of test. [utterances]"""
    train_speakers: Count = 60
    """Voices of train. [speakers]"""
    dev_speakers: Count = 8
    """Voices of dev. [speakers]"""
    test_speakers: Count = 16
    """Voices of test. [speakers]"""
    lm_sentences: Count = 20000
    """Text for the language model. [sentences]"""
    snr_db: tuple[float, float] = (0.0, 15.0)
    """Range of the ratio of speech to noise. [dB]"""
    reverberation_s: tuple[float, float] = (0.1, 0.5)
    """Range of the time in which a room's echo fades by 60 dB. [s]"""


class Normalisation(Section):
    """Of each feature over the frames of a speaker or utterance."""

    by: Literal["speaker", "utterance"] = "speaker"
    """Whose frames mean and variance are taken over."""
    mean: bool = True
    """Shift the mean to zero."""
    variance: bool = True
    """Scale the variance to one."""


class Filterbank(Section):
    """Log-mel filterbanks, which networks read: windows of 25 ms, one every 10 ms."""

    num_bins: Count = 40
    """Triangular filters. [filters]"""
    low_freq: float = 20.0
    """Lower end of the lowest filter. [Hz]"""
    high_freq: float = 7600.0
    """Upper end of the highest filter. [Hz]"""
    normalise: Normalisation = Normalisation()
    """Mean and variance."""


class Mfcc(Section):
    """Mel-frequency cepstra, which GMMs read."""

    num_bins: Count = 23
    """Triangular filters below the cepstrum. [filters]"""
    num_ceps: Count = 13
    """Coefficients kept, the zeroth included. [coefficients]"""
    low_freq: float = 20.0
    """Lower end of the lowest filter. [Hz]"""
    high_freq: float = 7600.0
    """Upper end of the highest filter. [Hz]"""
    normalise: Normalisation = Normalisation(variance=False)
    """Mean and variance."""


class Features(Section):
    """What is computed of the audio."""

    speed: tuple[Positive, ...] | None = None
    """Copies of the training speech at other speeds (Ko et al. 2015). [factors other than 1]"""
    fbank: Filterbank = Filterbank()
    """Filterbanks."""
    mfcc: Mfcc = Mfcc()
    """Cepstra."""


class NGram(Section):
    """An n-gram language model, trained by kaldingram or read."""

    arpa: str | None = None
    """A ready-made model, an ARPA file, in place of training one."""
    order: Annotated[int, Field(ge=1, le=5)] = 3
    """Words, or pieces of words, of the longest n-gram. [words]"""
    cutoffs: tuple[int, ...] = (1, 2)
    """N-grams that occur less often are dropped, one number for each order above 1. [occurrences]"""
    prune: Annotated[float, Field(ge=0)] = 0.0
    """N-grams whose loss raises the perplexity by less are dropped (Stolcke 1998); 0: none. [share]"""


class Lang(Section):
    """Lexicon, vocabulary and language model."""

    lexicon: str = "cmudict"
    """`cmudict`, or a file of lines `word phone phone …`."""
    stress: Literal[True] | None = None
    """Keep the digits of stressed vowels (AH0), which null removes; G2P makes none."""
    g2p: bool = True
    """Guess the pronunciation of words that the lexicon lacks."""
    vocabulary: Literal["lm", "lm+train"] = "lm+train"
    """Whose words can be recognised: those of the LM text, or those of the training transcripts too."""
    vocabulary_in_lexicon_only: bool = False
    """Only words of the lexicon can be recognised, none with a guessed pronunciation."""
    max_words: Count | None = None
    """The most frequent so many of them; null: all. [words]"""
    units: Literal["grapheme"] | None = None
    """`grapheme`: words are pronounced by their letters, those that the training transcripts have; no lexicon, no
    G2P."""
    tokens: Literal["bpe"] | None = None
    """`bpe`: language model and graph are over pieces of words; needs `units: grapheme`."""
    pieces: Count | None = None
    """At most so many of them; null: 2000. [pieces]"""
    ngram: NGram = NGram()
    """The language model of the graph."""

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
    """Input window and layers; 8 × 2560 is `{layers: 8, width: 2560}`."""

    kind: Literal["lenet", "nin"] | None = None
    """A convolutional network of its own fixed layers, for images, instead of fully connected ones."""
    input: Literal["fbank", "fmllr", "fmllr+fbank", "pixels"] = "fbank"
    """Filterbanks, speaker-adapted features, both side by side, or an image's pixels."""
    left: Annotated[int, Field(ge=0)] = 20
    """Context before the frame. [frames]"""
    right: Annotated[int, Field(ge=0)] = 5
    """Context after the frame. [frames]"""
    layers: Annotated[int, Field(ge=0)] = 4
    """Hidden layers, of rectified linear units. [layers]"""
    width: Count = 512
    """Size of a hidden layer. [units]"""
    dropout: Share = 0.1
    """Of the hidden units, while training. [share]"""
    input_dropout: Share | None = None
    """Of the input's values, while training. [share]"""
    norm: Literal["batch", "layer"] | None = None
    """Of every hidden layer's units, over the batch (Ioffe and Szegedy 2015) or over the layer (Ba et al. 2016)."""

    @model_validator(mode="after")
    def _images_alone(self) -> Self:
        if self.kind and (self.left or self.right or self.norm):
            raise ValueError(f"kind: {self.kind} sees one image and has no norm; set left: 0, right: 0, norm: null")
        return self


class Training(Section):
    """One optimisation run."""

    epochs: Count = 8
    """Passes over the training frames, at most. [epochs]"""
    batch_frames: Count = 1024
    """Of one step, drawn from the whole training set. [frames]"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW (Loshchilov and Hutter 2019), or gradient descent with momentum."""
    learning_rate: Positive = 1e-3
    """The largest of the schedule. [factor]"""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Of weights, not of biases; times the learning rate a step. [factor]"""
    momentum: Share = 0.9
    """Of `optimizer: sgd`. [factor]"""
    schedule: Literal["onecycle", "newbob"] = "onecycle"
    """A rise and a cosine over all epochs, or halving, and an early end, once dev frame accuracy gains little."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Of the products; `auto` takes bf16 where the machine is faster with it."""
    max_grad_norm: Positive = 5.0
    """Longer gradients are shortened to it. [Euclidean length]"""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Train on so much, by whole utterances that the recipe's seed draws; those of a smaller share are among those of
    a larger one. [share of the frames]"""
    max_norm: Positive | None = None
    """Bound on each hidden unit's incoming weights (Srivastava et al. 2014). [Euclidean length]"""
    jitter: Count | None = None
    """Images are shifted by up to so much. [pixels]"""
    keep: Literal["last"] | None = None
    """`last` takes the last epoch's network, null the one best on dev."""
    shuffle_frames: Count | None = None
    """Shuffle whole utterances, and frames only among so many at a time, for data larger than memory; null: all frames
    among each other. [frames]"""
    micro_batch: Count | None = None
    """A device takes at most so much of a batch at once and adds the gradients up; decides nothing but memory and
    speed; null: all. [frames]"""


class Realignment(Section):
    """A first network on the GMM's alignment, whose scaled posteriors then align everything once more."""

    members: Count | None = None
    """With several, the mean of their posteriors; null: one network. [networks]"""
    network: Network = Network()
    """Its input and layers."""
    train: Training = Training()
    """Its training."""


class GmmStep(Section):
    """One Kaldi training script."""

    iterations: Count
    """Of EM. [passes]"""
    realign: tuple[int, ...]
    """Those passes before which the training speech is aligned anew. [passes]"""
    leaves: Count = 1500
    """Tied states that the decision tree may have; a monophone has its own. [states]"""
    gaussians: Count = 9000
    """At the end, over all states. [Gaussians]"""


class External(Section):
    """A Kaldi alignment in place of stage 3's GMMs (docs/interoperability.md)."""

    alignment: Annotated[tuple[str, ...], Field(min_length=1)]
    """Archives of one pdf a frame for all splits; patterns such as `ali/pdf.*.gz` are allowed."""
    tree: str | None = None
    """Kaldi's tree as text, or lines `phone state pdf`; null: networks are trained and scored by frame, nothing is
    decoded."""
    phones: str | None = None
    """The phones.txt that numbers the tree's phones."""
    silence: str = "SIL"
    """What it calls silence."""
    noise: str = "SPN"
    """What it calls spoken noise."""
    num_pdfs: Count | None = None
    """Tied states; null: the tree's, or without a tree up to the largest that occurs. [states]"""


class Hmm(Section):
    """Kaldi's train_mono, train_deltas, train_lda_mllt, train_sat and align_fmllr, in their terms."""

    boost_silence: Positive = 1.25
    """Of the likelihood of silence while aligning. [factor]"""
    min_occupancy: Positive = 100.0
    """Of a leaf of the decision trees, at least. [frames]"""
    mono_utterances: Count = 500
    """The shortest so many train the monophones. [utterances]"""
    mono: GmmStep = GmmStep(
        iterations=40,
        realign=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38),
        gaussians=1000,
    )
    """Monophones from a flat start."""
    tri: GmmStep = GmmStep(iterations=35, realign=(10, 20, 30), leaves=1500, gaussians=9000)
    """Triphones on MFCC with deltas."""
    lda: GmmStep = GmmStep(iterations=35, realign=(10, 20, 30), leaves=1800, gaussians=11000)
    """Triphones on LDA of spliced MFCC with MLLT."""
    sat: GmmStep = GmmStep(iterations=35, realign=(10, 20, 30), leaves=1800, gaussians=12000)
    """Triphones on speaker-adapted features; their leaves are the networks' outputs."""
    lda_dim: Count = 40
    """Features that LDA keeps. [features]"""
    lda_context: Count = 3
    """Frames spliced for LDA, on either side. [frames]"""
    mllt_iterations: tuple[int, ...] = (2, 4, 6, 12)
    """Passes of `lda` before which MLLT is estimated. [passes]"""
    fmllr_iterations: tuple[int, ...] = (2, 4, 6, 12)
    """Passes of `sat` before which each speaker's transform is estimated. [passes]"""
    fmllr_min_frames: Count = 500
    """Speakers with less speech stay unadapted. [frames]"""
    realignment: Realignment | None = None
    """Align anew by networks; null: the GMM's alignment is the last."""
    external: External | None = None
    """Read an alignment of Kaldi's instead of making one."""


class Teachers(Section):
    """The ensemble; member 0 is the baseline."""

    members: Count = 5
    """Networks that differ in initialisation and order of the data. [networks]"""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Of their random numbers; null: the recipe's. [seed]"""
    network: Network = Network()
    """Input and layers of the members, and of the student unless it has its own."""
    networks: Annotated[tuple[Network, ...], Field(min_length=1)] | None = None
    """Architectures that the members take in turn, instead of all having `network`; what one leaves out is as there."""
    together: Count | None = None
    """On an accelerator, train so many members of one architecture at once, in batched products: for networks too small
    to fill it; decides nothing but memory and speed; null: one after another. [networks]"""
    train: Training = Training()
    """Their training."""

    def network_of(self, member: int) -> Network:
        return self.networks[member % len(self.networks)] if self.networks else self.network


class Targets(Section):
    """The soft-target store."""

    top_k: Count | None = 20
    """Stored for each frame, with the tail of the others; null: every state (dense). [states]"""
    temperatures: tuple[Positive, ...] = (1.0, 2.0, 5.0, 10.0)
    """At which the stored tail is exact; in between it is interpolated. [temperature]"""
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """Of the members' posteriors."""
    pruning: Literal["random"] | None = None
    """`random` draws the states stored instead of taking the most probable, so that the expectation at the one
    temperature of `temperatures` is kept."""
    dropout: Share | None = None
    """In the teachers' hidden layers while they are asked. [share]"""


class SpecialistTraining(Training):
    """As any network's, but for defaults that suit one that starts from a trained network."""

    epochs: Count = 4
    """Passes over the training frames, at most. [epochs]"""
    learning_rate: Positive = 3e-4
    """The largest of the schedule. [factor]"""


class Specialists(Section):
    """Networks for some confusable states each, beside member 0 as the generalist (Hinton et al. 2015, §5).

    The soft targets are then those of the generalist and its specialists together; other members take no part. All
    see the frames that the generalist was trained on.
    """

    count: Count = 8
    """How many. [networks]"""
    classes: Count = 150
    """Of each, beside a dustbin for all others. [states]"""
    clusters_from: Count = 50000
    """Training frames whose posteriors the clusters come from. [frames]"""
    active_classes: Count = 1
    """n of the inference: the generalist's most probable states, which decide whom to ask. [states]"""
    train: SpecialistTraining = SpecialistTraining()
    """Their training."""


class Noise(Section):
    """Multiplicative noise on the teacher's logits (Sau and Balasubramanian 2016): with probability `alpha` a frame's
    are multiplied by 1 + ξ, ξ ~ N(0, sigma²) for each state.
    """

    alpha: Share = 0.15
    """Of the frames that get noise. [probability]"""
    sigma: Annotated[float, Field(ge=0)] = 0.5
    """Standard deviation. [factor]"""
    redraw: Literal["step", "never"] = "step"
    """Draw anew at every step, or once for each frame."""


class Student(Section):
    """The distilled network, and its loss (1 − w) · T² · CE(p_T, q_T) + w · CE(hard, q_1)."""

    seed: Annotated[int, Field(ge=0)] | None = None
    """Of its random numbers; null: the recipe's. [seed]"""
    network: Network | None = None
    """Input and layers; what it leaves out is as in `teachers.network`, null: all."""
    loss: Literal["logits"] | None = None
    """`logits` matches logits by squared error (Ba and Caruana 2014) in place of the soft cross-entropy."""
    noise: Noise | None = None
    """Noise on the teachers' logits; null: none."""
    transfer_classes: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Only frames of these states or classes are trained on; null: all. [states]"""
    train: Training = Training(epochs=12)
    """Its training."""
    temperature: Positive = 2.0
    """T of the loss. [temperature]"""
    hard_weight: Share = 0.5
    """w of the loss: 0 is soft targets alone, 1 the alignment alone. [share]"""


class Scales(Section):
    """Grid searched on dev."""

    lm_scale: tuple[Positive, ...] = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
    """Weight of the language model, 1 / acoustic scale. [factor]"""
    word_penalty: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Cost of each word, beside that of the unscaled language model. [nats]"""


System = Literal["gmm-mono", "gmm-tri", "gmm-lda", "gmm-sat", "baseline", "ensemble", "specialists", "student"]


class Width(Section):
    """How much a search keeps."""

    beam: Positive
    """Of a path's cost over the best one's. [scaled cost]"""
    max_active: Count
    """Of the graph, kept a frame. [states]"""


class Lattice(Section):
    """Lattices, with N-best lists, posteriors and word times from them; oracle word error rates."""

    beams: Annotated[tuple[Positive, ...], Field(min_length=1)] = (7.0, 9.0, 11.0)
    """Of the searches for lattices, each tried only while the lattice of the one before has no more than `max_states`
    states a frame; k2 has no need of them and takes the beam of the search for one sentence. [scaled cost]"""
    keep: Positive = 6.0
    """How much more than the best a sentence of the lattice may cost. [scaled cost]"""
    max_states: Positive = 50.0
    """Of a lattice, before a wider beam is tried. [states a frame]"""
    nbest: Count = 100
    """Of a list. [sentences]"""
    rescore: NGram | None = None
    """An n-gram to take the place of the graph's, its scale and word penalty tuned on dev; not with `lang.tokens`."""


class Decode(Section):
    """Graphs and search."""

    systems: Annotated[tuple[System, ...], Field(min_length=1)] = (
        "gmm-sat",
        "baseline",
        "ensemble",
        "student",
    )
    """What is decoded and scored."""
    acoustic_scale: Positive = 0.083333
    """That of the adaptation to speakers, and where the trial of the scales begins. [factor]"""
    beam: Positive = 13.0
    """Of a path's cost over the best one's. [scaled cost]"""
    max_active: Count = 7000
    """Of the graph, kept a frame. [states]"""
    first_pass: Width = Width(beam=10.0, max_active=2000)
    """The narrow search that adapts to speakers and tries out the scales, as wide as Kaldi's decode_fmllr.sh has it."""
    tuning_seconds: Positive = 1500.0
    """Of dev, for the trial of the scales. [s]"""
    coarse_seconds: Positive | None = 400.0
    """Of that, for the trial in double steps that comes first; null, or where dev is less than twice that: no such
    trial. [s]"""
    transition_scale: Annotated[float, Field(ge=0)] = 1.0
    """Of the log probability of where a state is left to. [factor]"""
    self_loop_scale: Annotated[float, Field(ge=0)] = 0.1
    """Of the log probability of staying in a state and of leaving it. [factor]"""
    silence_probability: Share = 0.5
    """Of a silence between two words. [probability]"""
    prior_scale: Annotated[float, Field(ge=0)] = 1.0
    """Of the log prior that is subtracted from a network's log posterior. [factor]"""
    gmm: Scales = Scales(lm_scale=tuple(range(7, 23)))
    """Of the systems gmm-*."""
    network: Scales = Scales()
    """Of the other systems."""
    backend: Literal["k2"] | None = None
    """Search by k2 (README.md says how it is installed); null: by kaldi-decoder."""
    mean: Literal["arithmetic", "geometric"] | None = None
    """Of the ensemble's members, over posteriors (arithmetic) or log-likelihoods (geometric); null: targets.mean."""
    lattice: Lattice | None = None
    """Make lattices; null: none."""
    pronunciation_probabilities: Literal[True] | None = None
    """Of a word's variants, from how often the training alignment took each; null leaves them equal."""
    adapt: Literal["utterance"] | None = None
    """Estimate fMLLR of dev and test for every utterance alone; null: for every speaker."""


class Score(Section):
    """Intervals and the report."""

    bootstrap_samples: Count = 1000
    """For intervals and significance. [samples]"""
    vocabulary: str | None = None
    """A list of words, one a line, which count as known for recall in and out of the vocabulary, so that experiments
    with vocabularies of their own can be compared; null: the experiment's own."""
    worst_utterances: Count = 10
    """Listed in the report. [utterances]"""
    page_utterances: Annotated[int, Field(ge=0)] | None = None
    """That can be listened to on report.html; null: as many as it has room for. [utterances]"""
    page_frames: Count | None = None
    """Test frames that its figures of posteriors are made of, evenly spread; null: as many as a minute or two allow.
    [frames]"""


class Need(Section):
    """What one task needs of a machine. Changing it does nothing again."""

    cpus: Count | None = None
    """Cores, and threads of its products; null: one, or for networks that are trained on this machine an even share of
    `--jobs`. [cores]"""
    gpus: Annotated[float, Field(ge=0)] | None = None
    """With `--executor ray`, accelerators of the worker; parts such as 0.25 let several tasks share one. [GPUs]"""
    memory_gb: Positive | None = None
    """With `--executor ray`, memory of the worker that no other task is given. [GB]"""


class Needs(Section):
    """By stage, what one of its tasks needs: where tasks run, and how many side by side, never what they make."""

    features: Need | None = None
    """Of a shard of features."""
    align: Need | None = None
    """Of a shard of the alignment, and of a network for realignment."""
    teachers: Need | None = None
    """Of a member or specialist."""
    targets: Need | None = None
    """Of a shard of soft targets."""
    student: Need | None = None
    """Of the student."""
    decode: Need | None = None
    """Of a shard of utterances to search."""


class Track(Section):
    """What there is to watch besides `asr-kd status`; nothing is done again when it changes."""

    tensorboard: bool = False
    """Write TensorBoard's event files of every network to logs/tensorboard/; needs the extra asr-kd[tensorboard]."""


class Recipe(Section):
    """A whole experiment; every section has defaults, so a recipe file says only what differs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "default"
    """Names the experiment; without it, the file's name."""
    description: str = ""
    """For the reader: reports print it, and nothing is made again when it changes."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of every random number. [seed]"""
    corpus: Corpus = Corpus()
    """The speech, or the images."""
    features: Features = Features()
    """Filterbanks and MFCC."""
    lang: Lang = Lang()
    """Lexicon and language model."""
    hmm: Hmm = Hmm()
    """GMM-HMM and alignment."""
    teachers: Teachers = Teachers()
    """The ensemble."""
    specialists: Specialists | None = None
    """Networks for a few confusable states each; null: none."""
    targets: Targets = Targets()
    """Soft targets."""
    student: Student = Student()
    """The distilled network."""
    decode: Decode = Decode()
    """Graphs and search."""
    score: Score = Score()
    """Intervals and report."""
    track: Track = Track()
    """Event files."""
    needs: Needs | None = None
    """Cores, accelerators and memory of a stage's tasks; null: what their defaults say."""

    @property
    def student_network(self) -> Network:
        return self.student.network or self.teachers.network

    def need(self, stage: str) -> Need:
        """What a task of the stage needs."""
        return getattr(self.needs, stage, None) or Need()


Corpus.model_rebuild()
