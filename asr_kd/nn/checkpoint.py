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
    metadata = {"identity": identity, "history": json.dumps(history), "checksum": _checksum(tensors)}
    if begun:
        figures = {"steps": begun.steps, "nats": begun.nats, "correct": begun.correct, "seconds": begun.seconds}
        metadata["begun"] = json.dumps(figures)
    contents = save(tensors, metadata)
    with atomic_path(path / CHECKPOINT) as temporary:
        temporary.write_bytes(contents)


def restore_checkpoint(
    path: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], History, Begun | None] | None:
    """Load the state of run `identity` into model and optimiser; returns best weights, history and, where the
    checkpoint was made amid an epoch, its state; or None.

    A checkpoint of another run, or one that is damaged, is as good as none.
    """
    try:
        with safe_open(path / CHECKPOINT, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                return None
            # Copies: products of what lies unaligned in a mapped file may end in other last bits.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if "checksum" in metadata and metadata["checksum"] != _checksum(tensors):  # older releases wrote none
        return None
    model.load_state_dict(_below("model", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer", tensors).items():
        number, _, key = name.partition("/")
        moments.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    begun, states = None, _below("generators", tensors)
    if "begun" in metadata:
        begun = Begun(**json.loads(metadata["begun"]), generators=[states[str(n)] for n in range(len(states))])
    return _below("best", tensors), json.loads(metadata["history"]), begun


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")
    }


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
