"""Paths inside an experiment directory: the only place that knows its layout."""

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "dev", "test")
LAST_TREE = "sat"  # the adapted model's tree, whose leaves the networks classify


@dataclass(frozen=True)
class Workspace:
    """One experiment directory; every property is a path below `root`, made by the stage named beside it."""

    root: Path

    # 0 prepare
    def manifest(self, split: str) -> Path:
        return self.root / "manifests" / f"cuts_{split}.jsonl.gz"

    @property
    def lm_text(self) -> Path:
        return self.root / "manifests" / "lm_text.txt"

    @property
    def excluded(self) -> Path:
        return self.root / "manifests" / "excluded.json"

    @property
    def validation(self) -> Path:
        """What stage 0 found wrong with the corpus, by kind."""
        return self.root / "manifests" / "validation.json"

    @property
    def audio(self) -> Path:
        """Sizes, times of change and checksums of the recordings that are not in the experiment directory."""
        return self.root / "manifests" / "audio.json"

    @property
    def images(self) -> Path:
        """What an image corpus's files hold."""
        return self.root / "manifests" / "images.json"

    @property
    def corpus(self) -> Path:
        """The audio of the embedded corpus."""
        return self.root / "corpus"

    # 1 features
    def features(self, kind: str, split: str) -> Path:
        return self.root / "features" / kind / split

    # 2 lang
    @property
    def lang(self) -> Path:
        return self.root / "lang"

    # 3 align
    @property
    def hmm(self) -> Path:
        return self.root / "hmm"

    def gmm(self, step: str) -> Path:
        """step: mono, tri, lda or sat."""
        return self.hmm / step

    def alignment(self, split: str) -> Path:
        return self.hmm / "alignment" / split

    def failed_alignments(self, split: str) -> Path:
        return self.hmm / f"failed-{split}.json"

    def adapted(self, split: str, kind: str = "fmllr") -> Path:
        """Speaker-adapted features, made by the first stage whose network reads them. kind: fmllr or fmllr+fbank."""
        return self.hmm / kind / split

    @property
    def adapting_seconds(self) -> Path:
        """CPU seconds of scoring and of searching that adapting to the test speakers took."""
        return self.hmm / "fmllr" / "seconds.json"

    # 4 teachers, 6 student
    def model(self, name: str) -> Path:
        """name: member-00, member-01, … or student."""
        return self.root / "models" / name

    def member(self, index: int) -> Path:
        return self.model(f"member-{index:02d}")

    def specialist(self, index: int) -> Path:
        return self.model(f"specialist-{index:02d}")

    @property
    def specialists(self) -> Path:
        """What the specialists bring."""
        return self.root / "models" / "specialists.json"

    # 5 targets
    @property
    def targets(self) -> Path:
        return self.root / "targets"

    # 7 decode
    def graph(self, tree: str) -> Path:
        """tree: the GMM step whose decision tree the graph was built for."""
        return self.root / "graph" / tree

    def decode(self, system: str) -> Path:
        return self.root / "decode" / system

    # 8 score
    @property
    def results(self) -> Path:
        return self.root / "results.json"

    @property
    def report(self) -> Path:
        return self.root / "report.md"

    @property
    def page(self) -> Path:
        return self.root / "report.html"

    @property
    def plots(self) -> Path:
        return self.root / "plots"

    # the runner
    def record(self, stage: str) -> Path:
        return self.root / ".done" / f"{stage}.json"

    @property
    def partial(self) -> Path:
        """What searches have recognised so far and what there is to watch, while a stage is at work."""
        return self.root / ".partial"

    @property
    def board(self) -> Path:
        """What the stage at work is at; after a run that was killed, what it was at."""
        return self.partial / "progress.json"

    def seconds(self, stage: str) -> Path:
        """What attempts at a stage have taken that did not finish it."""
        return self.partial / "seconds" / f"{stage}.json"

    def training(self, name: str) -> Path:
        """How far a network in training is; name as in `model`."""
        return self.partial / "training" / f"{name}.json"

    def log(self, stage: str) -> Path:
        return self.root / "logs" / f"{stage}.log"

    def events(self, name: str) -> Path:
        """TensorBoard's event files of a network."""
        return self.root / "logs" / "tensorboard" / name
