"""A bundle: the directory that `export` writes and `transcribe` reads, checked whole before it is used.

bundle.json        what it is: format, features, normalisation, network, decoding, measured figures, files
model.onnx         normalised frames → log posteriors, float32; model.int8.onnx with weights of 8 bits
states.txt         of each tied state: base phone, HMM state, log prior
HCLG.fst           search graph, word penalty included
words.txt          word ids; lexicon.txt their pronunciations
README.md          model card
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.deploy.filterbank import Filterbank
from asr_kd.deploy.network import Network
from asr_kd.deploy.normalisation import Normalisation
from asr_kd.deploy.search import SearchGraph
from asr_kd.deploy.words import States
from asr_kd.errors import UserError

FORMAT = 1
SIDES = ("left", "right")
ABOUT, NETWORK, INT8 = "bundle.json", "model.onnx", "model.int8.onnx"
STATES, GRAPH, WORDS, LEXICON, CARD = "states.txt", "HCLG.fst", "words.txt", "lexicon.txt", "README.md"


@dataclass(frozen=True)
class Bundle:
    """root: its directory; about: the contents of bundle.json."""

    root: Path
    about: dict[str, Any]

    @property
    def filterbank(self) -> Filterbank:
        bank = self.about["features"]
        return Filterbank(bank["sample_rate"], bank["num_bins"], bank["low_freq"], bank["high_freq"])

    @property
    def normalisation(self) -> Normalisation:
        recipe = self.about["normalisation"]
        mean, std = (np.array(recipe[key]) for key in ("global_mean", "global_std"))
        return Normalisation(recipe["by"], recipe["mean"], recipe["variance"], mean, std)

    def network(self, int8: bool = False) -> Network:
        return Network(self.root / (INT8 if int8 else NETWORK), *(self.about["network"][k] for k in SIDES))

    @property
    def prior_scale(self) -> float:
        return float(self.about["decode"]["prior_scale"])

    def graph(self) -> SearchGraph:
        decode = self.about["decode"]
        return SearchGraph.read(self.root / GRAPH, 1 / decode["lm_scale"], decode["beam"], decode["max_active"])

    @cached_property
    def words(self) -> list[str]:
        """Words by id."""
        rows = [line.split() for line in self._lines(WORDS)]
        return [word for word, _ in sorted(rows, key=lambda row: int(row[1]))]

    @property
    def has_pieces(self) -> bool:
        """Whether its words are pieces of words, of which `words.joined` makes words."""
        return bool(self.about["pieces"])

    @cached_property
    def pronunciations(self) -> dict[str, list[tuple[str, ...]]]:
        variants: dict[str, list[tuple[str, ...]]] = {}
        for line in self._lines(LEXICON):
            word, *phones = line.split()
            variants.setdefault(word, []).append(tuple(phones))
        return variants

    @cached_property
    def states(self) -> States:
        rows = [line.split() for line in self._lines(STATES)]
        phones = sorted({phone for phone, _, _ in rows})
        phone = np.array([phones.index(name) for name, _, _ in rows])
        return States(
            phones, phone, np.array([int(row[1]) for row in rows]), np.array([row[2] for row in rows], np.float32)
        )

    def check(self) -> None:
        """Raises an error of Python's where bundle.json lacks what is read of it, or has another sort of value."""
        bank, normalisation, decode = self.filterbank, self.normalisation, self.about["decode"]
        mean, std = normalisation.global_mean, normalisation.global_std
        numbers = [bank.low_freq, bank.high_freq, 1 / decode["lm_scale"], decode["beam"], self.prior_scale, *mean, *std]
        wholes = [bank.num_bins, bank.sample_rate, decode["max_active"], *(self.about["network"][k] for k in SIDES)]
        if not (np.isfinite(numbers).all() and all(type(whole) is int and whole >= 0 for whole in wholes)):
            raise ValueError("a figure that is none")
        if normalisation.by not in ("speaker", "utterance"):
            raise ValueError(f"normalised by {normalisation.by!r}")
        if not mean.shape == std.shape == (bank.num_bins,):
            raise ValueError("not a mean and a deviation for each filter")
        str(self.about["name"]), str(self.about["system"]), self.has_pieces

    def _lines(self, name: str) -> list[str]:
        return (self.root / name).read_text(encoding="utf-8").splitlines()


def load_bundle(root: Path) -> Bundle:
    """Open a bundle. UserError when it is none, comes from a newer version, or a file is not as it was exported."""
    path = root / ABOUT
    if not path.is_file():
        raise UserError(f"{path}: no such file; make a bundle with: asr-kd export EXP --to {root}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise UserError(f"{path}: format {about['format']}, this asr-kd reads {FORMAT}; install the one it is from")
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in about["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: damaged; copy or export the bundle again") from None
    for name, (size, digest) in expected.items():
        if Path(name).name != name:
            raise UserError(f"{path}: damaged ({name!r} is no file of a bundle); copy or export the bundle again")
        _check(root / name, size, digest)
    bundle = Bundle(root, about)
    try:
        bundle.check()
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{path}: damaged ({error}); copy or export the bundle again") from None
    return bundle


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, size: int, digest: str) -> None:
    if not path.is_file():
        raise UserError(f"{path}: missing; copy or export the bundle again")
    if path.stat().st_size != size:
        raise UserError(f"{path}: {path.stat().st_size} bytes where {size} were exported; copy the bundle again")
    if sha256(path) != digest:
        raise UserError(f"{path}: not as it was exported (SHA-256 differs); copy the bundle again")
