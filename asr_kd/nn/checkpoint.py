"""A training run's state after an epoch, or amid a long one, in one file: network, best epoch so far, optimiser and
history.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from asr_kd.files import atomic_path

History = list[dict[str, Any]]
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Begun:
    """An epoch under way: updates made, sums over their frames, seconds taken, and the states of its generators."""

    steps: int
    nats: float
    correct: int
    seconds: float
    generators: list[Tensor]


def save_checkpoint(
    path: Path,
    identity: str,
    model: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    history: History,
    begun: Begun | None = None,
) -> None:
    """Write the state to resume from; `identity` names the run it belongs to."""
    moments = optimizer.state_dict()["state"]
    tensors = {
        **{f"model/{name}": tensor for name, tensor in model.state_dict().items()},
        **{f"best/{name}": tensor for name, tensor in best.items()},
        **{f"optimizer/{number}/{name}": tensor for number, state in moments.items() for name, tensor in state.items()},
        **{f"generators/{number}": state for number, state in enumerate(begun.generators if begun else ())},
    }
    # Clones: safetensors refuses tensors that share memory, as model and best do after the best epoch.
    tensors = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
    metadata = {"identity": identity, "history": json.dumps(history)}
    if begun:
        figures = {"steps": begun.steps, "nats": begun.nats, "correct": begun.correct, "seconds": begun.seconds}
        metadata["begun"] = json.dumps(figures)
    metadata["checksum"] = _checksum(metadata, tensors)
    contents = save(tensors, metadata)
    with atomic_path(path / CHECKPOINT) as temporary:
        temporary.write_bytes(contents)


def restore_checkpoint(
    path: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], History, Begun | None] | None:
    """Load the state of run `identity` into model and optimiser; returns best weights, history and, where the
    checkpoint was made amid an epoch, its state; or None.

    A checkpoint of another run, or one that is damaged, is as good as none: model and optimiser stay as they are. So is
    one of a release whose checksum did not cover the metadata.
    """
    try:
        metadata, tensors = _read(path / CHECKPOINT, identity)
        history: History = json.loads(metadata["history"])
        begun = _begun(metadata, _below("generators", tensors))
        moments = _moments(_below("optimizer", tensors))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    model.load_state_dict(_below("model", tensors))
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return _below("best", tensors), history, begun


def _read(path: Path, identity: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """A checkpoint's metadata and tensors; KeyError or ValueError unless they are as run `identity` wrote them."""
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
        if metadata.get("identity") != identity:
            raise ValueError("of another run")
        # Copies: products of what lies unaligned in a mapped file may end in other last bits.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if metadata.pop("checksum") != _checksum(metadata, tensors):
        raise ValueError("damaged")
    return metadata, tensors


def _begun(metadata: dict[str, str], states: dict[str, Tensor]) -> Begun | None:
    """The epoch under way, if there is one; states: of its generators, by number."""
    if "begun" not in metadata:
        return None
    return Begun(**json.loads(metadata["begun"]), generators=[states[str(number)] for number in range(len(states))])


def _moments(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The optimiser's state by parameter, from tensors named NUMBER/NAME."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition("/")
        moments.setdefault(int(number), {})[key] = tensor
    return moments


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")
    }


def _checksum(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(json.dumps(metadata, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
