"""A training run's state after an epoch, in one file: network, best epoch so far, optimiser and history."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from asr_kd.files import atomic_path

History = list[dict[str, Any]]
CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(
    path: Path,
    identity: str,
    model: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    history: History,
) -> None:
    """Write the state to resume from; `identity` names the run it belongs to."""
    moments = optimizer.state_dict()["state"]
    tensors = {
        **{f"model/{name}": tensor for name, tensor in model.state_dict().items()},
        **{f"best/{name}": tensor for name, tensor in best.items()},
        **{f"optimizer/{number}/{name}": tensor for number, state in moments.items() for name, tensor in state.items()},
    }
    # Clones: safetensors refuses tensors that share memory, as model and best do after the best epoch.
    contents = save(
        {name: tensor.cpu().clone() for name, tensor in tensors.items()},
        metadata={"identity": identity, "history": json.dumps(history)},
    )
    with atomic_path(path / CHECKPOINT) as temporary:
        temporary.write_bytes(contents)


def restore_checkpoint(
    path: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], History] | None:
    """Load the state of run `identity` into model and optimiser; returns (best weights, history) or None.

    A checkpoint of another run, or one that cannot be read, is as good as none.
    """
    try:
        with safe_open(path / CHECKPOINT, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    model.load_state_dict(_below("model", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer", tensors).items():
        number, _, key = name.partition("/")
        moments.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return _below("best", tensors), json.loads(metadata["history"])


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")
    }
