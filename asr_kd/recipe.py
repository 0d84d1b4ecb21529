"""The recipe: typed, layered with `extends` and `--set`, and the same for every corpus.

An unknown key, a wrong type or a value out of range is a UserError that names the file, the key and, for a
misspelt key, the nearest valid one.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from asr_kd.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Corpus(Section):
    """Where the speech comes from. `train`, `dev` and `test` are names of parts that the corpus kind understands.

    `held_out`: of an image corpus, how many of the last training images are kept from training as dev; null: none, and
    dev shows how some of the images trained on are recognised.
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
    """`vocabulary`: `lm` takes the words of the LM text, `lm+train` those of the training transcripts too."""

    lexicon: str = "cmudict"
    g2p: bool = True
    vocabulary: Literal["lm", "lm+train"] = "lm+train"
    vocabulary_in_lexicon_only: bool = False
    max_words: Count | None = None
    ngram: NGram = NGram()


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


class Decode(Section):
    """`first_pass`: the narrow search that adapts to speakers and, on `tuning_seconds` of dev, tries out the scales;
    `acoustic_scale`: that of the adaptation, and where the trial of the scales begins.
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


class Score(Section):
    bootstrap_samples: Count = 1000
    worst_utterances: Count = 10


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


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read `path`, the recipes it extends and the `key.path=value` overrides into one validated Recipe."""
    data = read_layers(path)
    if {"base", "cells", "grid"} & set(data):
        raise UserError(f"{path}: an experiment over recipes; run: asr-kd experiment {path}")
    for override in overrides or []:
        _apply_override(data, override)
    data.setdefault("name", path.stem)
    try:
        recipe = Recipe.model_validate(_merge(Recipe().model_dump(), _expand_environment(data, path)))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from None
    if "specialists" in recipe.decode.systems and recipe.specialists is None:
        raise UserError(f"{path}: decode.systems: names specialists, but there is no section specialists; add one")
    return recipe


def read_layers(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML file's mapping over that of the file it `extends`; UserError says what is wrong with the file."""
    if path.resolve() in seen:
        raise UserError(f"{path}: 'extends' comes back to this file; break the circle")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name an existing recipe") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the recipe as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{line}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, this is a {type(data).__name__}")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise UserError(f"{path}: extends: must be the name of one recipe file")
    inherited = read_layers(path.parent / parent, (*seen, path.resolve()))
    inherited.pop("name", None)  # or a child without a name would write into its parent's experiment
    return _merge(inherited, data)


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: write it as key.path=value, for example teachers.members=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    for parent in parents:
        below = data.setdefault(parent, {})
        if below is None:
            below = data[parent] = {}
        if not isinstance(below, dict):
            raise UserError(f"--set {override}: {parent} is a value, not a section")
        data = below
    data[last] = value


def _expand_environment(value: Any, path: Path) -> Any:
    """Replace ${NAME} in strings by the environment variable's value; a variable that is not set is a UserError."""
    if isinstance(value, dict):
        return {key: _expand_environment(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_environment(item, path) for item in value]
    if not isinstance(value, str):
        return value

    def expand(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UserError(f"{path}: ${{{match[1]}}} is not set; run: export {match[1]}=<directory>")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", expand, value)


def explain(error: ValidationError, model: type[BaseModel] = Recipe) -> str:
    """The first problem in one line: its key in `model`, what is wrong; the nearest valid key for a misspelt one."""
    first, others = error.errors()[0], error.error_count() - 1
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(first["loc"][:-1], model)
        near = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"valid here: {', '.join(valid)}"
        text = f"{key}: unknown key; {hint}"
    else:
        text = f"{key}: {first['msg']} (got {first['input']!r})"
    return text + (f" (and {others} more problem{'s' if others > 1 else ''})" if others else "")


def _valid_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    section: Any = model
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(section.model_fields)


Corpus.model_rebuild()
