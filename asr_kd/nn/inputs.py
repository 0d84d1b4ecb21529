"""What a network is trained on: where its features lie, its labelled frames, and the hash that tells data apart."""

from dataclasses import dataclass
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import joint_hash, store_hash
from asr_kd.recipe import Network
from asr_kd.workspace import Workspace


@dataclass(frozen=True)
class Inputs:
    """A network's training and dev frames; `data` is the hash of their features and alignments."""

    train: Frames
    dev: Frames
    num_pdfs: int
    data: str


def input_path(work: Workspace, network: Network, split: str) -> Path:
    """The store that `network.input` names: filterbanks, pixels, speaker-adapted features with or without the first."""
    extracted = network.input in ("fbank", "pixels")
    return work.features(network.input, split) if extracted else work.adapted(split, network.input)


def load_frames(work: Workspace, network: Network, split: str, device: str = "cpu") -> Frames:
    """The network's features of a split with the alignment's tied states."""
    features, alignment = FrameStore(input_path(work, network, split)), FrameStore(work.alignment(split))
    frames = Frames.load(features, alignment, device)
    if int(frames.labels.max()) >= alignment.meta["num_pdfs"]:
        raise UserError(
            f"{alignment.path}: holds tied state {int(frames.labels.max())}, its index counts "
            f"{alignment.meta['num_pdfs']}; run --stage 3 (align) again"
        )
    return frames


def load_inputs(
    work: Workspace, network: Network, device: str = "cpu", fraction: float | None = None, seed: int = 0
) -> Inputs:
    """fraction: share of the training frames to keep, drawn by utterance from `seed`; None keeps all."""
    train, dev = (load_frames(work, network, split, device) for split in ("train", "dev"))
    paths = [path for split in ("train", "dev") for path in (input_path(work, network, split), work.alignment(split))]
    num_pdfs = FrameStore(work.alignment("train")).meta["num_pdfs"]
    data = joint_hash(store_hash(path) for path in paths)
    if fraction is not None:
        train, data = train.share(fraction, (seed, "fraction")), joint_hash([data, f"{fraction} {seed}"])
    return Inputs(train, dev, num_pdfs, data)
