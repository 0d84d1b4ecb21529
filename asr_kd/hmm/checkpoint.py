"""A GMM step's state after an iteration: model, alignment, random generator, history, and what makes its features."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from asr_kd.checksums import checksum
from asr_kd.errors import UserError
from asr_kd.features.store import open_array
from asr_kd.files import atomic_path, read_json, write_json
from asr_kd.hmm.aligner import Alignment
from asr_kd.hmm.gmm import Gmm
from asr_kd.hmm.tree import Tree
from asr_kd.interval import Interval

if TYPE_CHECKING:
    from asr_kd.hmm.training import Trainer

STATE, TREE = "state.safetensors", "tree.json"
GMM = ("pdf_of", "weights", "means", "variances")
ROWS, COLUMNS = "features by row", "features by column"
OF_FRAMES = ("codes", "words")  # an alignment's arrays: in files of their own, that neither writing nor reading copies


@dataclass(frozen=True)
class Saved:
    """The state to go on from; `tensors`: see Trainer.features_from."""

    gmm: Gmm
    alignment: Alignment
    history: list[dict[str, Any]]
    rng: np.random.Generator
    tensors: dict[str, Tensor]


class Checkpoint:
    """Where a step's state is kept while it is trained. identity: what the step is made from."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self._identity, self._interval, self._tree = path, identity, Interval(), ""

    def save(self, trainer: "Trainer") -> None:
        """Write the state after an iteration, where enough time has passed since the last."""
        if not self._interval.is_over():
            return
        gmm, alignment = trainer.gmm, trainer.alignment
        tensors = {
            **{name: getattr(gmm, name) for name in GMM},
            "log_transitions": torch.from_numpy(gmm.log_transitions),
            "scores": torch.from_numpy(alignment.scores),
            **{f"{_layout(tensor)}/{name}": tensor for name, tensor in trainer.features_from.items()},
        }
        tensors = {name: tensor.mT if name.startswith(COLUMNS) else tensor for name, tensor in tensors.items()}
        metadata = {
            "identity": self._identity,
            "tree": gmm.tree.digest,
            "history": json.dumps(trainer.history),
            "rng": json.dumps(trainer.rng.bit_generator.state),
            **{name: self._keep(name, getattr(alignment, name)) for name in OF_FRAMES},
        }
        metadata["checksum"] = _checksum(metadata, tensors)
        if self._tree != metadata["tree"]:
            gmm.tree.save(self.path / TREE)
            self._tree = metadata["tree"]
        contents = save({name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}, metadata)
        with atomic_path(self.path / STATE) as temporary:
            temporary.write_bytes(contents)
        for path in self.path.glob("*.npy"):
            if path.name not in (f"{name}-{metadata[name]}.npy" for name in OF_FRAMES):
                path.unlink()

    def _keep(self, name: str, array: np.ndarray) -> str:
        """Write an array that is not there yet; returns its checksum, a part of the file's name."""
        digest = _digest(array)
        path = self.path / f"{name}-{digest}.npy"
        if not path.exists():
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        return digest

    def _kept(self, name: str, digest: str) -> np.ndarray:
        """What `_keep` wrote; UserError or ValueError where it is damaged."""
        array = open_array(self.path, f"{name}-{digest}.npy")
        if _digest(array) != digest:
            raise ValueError(f"{name} has changed")
        return array

    def load(self, device: str | torch.device = "cpu") -> Saved | None:
        """The state of a step of the same identity; one of another, or one that is damaged, is as good as none."""
        try:
            return self._load(device)
        except (OSError, SafetensorError, UserError, KeyError, TypeError, ValueError):
            return None

    def _load(self, device: str | torch.device) -> Saved | None:
        with safe_open(self.path / STATE, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != self._identity:
                return None
            # Copies: products of what lies unaligned in a mapped file may end in other last bits.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        tree = Tree.load(self.path / TREE)
        if metadata.pop("checksum") != _checksum(metadata, tensors) or tree.digest != metadata["tree"]:
            return None
        parameters = {name: tensors[name] for name in GMM}
        gmm = Gmm(tree=tree, log_transitions=tensors["log_transitions"].numpy(), **parameters)
        codes, words = (self._kept(name, metadata[name]) for name in OF_FRAMES)
        rng = np.random.default_rng()
        rng.bit_generator.state = json.loads(metadata["rng"])
        features = {
            name.partition("/")[2]: (tensor.mT if name.startswith(COLUMNS) else tensor).to(device)
            for name, tensor in tensors.items()
            if name.startswith((ROWS, COLUMNS))
        }
        return Saved(
            gmm.to(device),
            Alignment(codes, words, tensors["scores"].numpy()),
            json.loads(metadata["history"]),
            rng,
            features,
        )

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _layout(tensor: Tensor) -> str:
    """How a matrix lies in memory: a product with it ends in other last bits when that changes."""
    by_column = tensor.ndim > 1 and not tensor.is_contiguous() and tensor.mT.is_contiguous()
    return COLUMNS if by_column else ROWS


def _digest(array: np.ndarray) -> str:
    digest = hashlib.blake2b(f"{array.dtype} {array.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _checksum(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(json.dumps(metadata, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class FinishedSteps:
    """Which steps of a training are finished, in a file of their own: `hmm/steps.json`."""

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self.identity = path, identity
        try:
            listed = read_json(path)
            steps = listed["steps"] if listed["identity"] == identity else {}
            self._steps: dict[str, dict[str, str]] = {name: dict(files) for name, files in steps.items()}
        except (UserError, KeyError, TypeError, ValueError, AttributeError):  # missing or damaged: none is known of
            self._steps = {}

    def has(self, name: str) -> bool:
        """Whether step `name` is finished, and all its files are still as they were."""
        files = self._steps.get(name)
        folder = self._path.parent
        if files is None:
            return False
        return all((folder / file).is_file() and checksum(folder / file) == sum_ for file, sum_ in files.items())

    def add(self, name: str, files: list[Path]) -> None:
        folder = self._path.parent
        self._steps[name] = {file.relative_to(folder).as_posix(): checksum(file) for file in files}
        write_json(self._path, {"identity": self.identity, "steps": self._steps})
