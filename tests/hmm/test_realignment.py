"""The networks that realign."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from toy_experiment import NETWORK, TRAINING, toy_workspace

from asr_kd.nn.posteriors import load_scorer
from asr_kd.pipeline import Job
from asr_kd.recipe import Realignment, Recipe
from asr_kd.stages.align import train_realigners

TRAIN = TRAINING.model_copy(update={"epochs": 1})


def test_members_realign_by_their_mean(tmp_path: Path) -> None:
    job = Job(Recipe(), toy_workspace(tmp_path))
    names = train_realigners(job, Realignment(network=NETWORK, train=TRAIN, members=2))
    assert names == ["realignment-00", "realignment-01"]
    first, second = (load_file(job.work.model(name) / "model.safetensors") for name in names)
    assert not torch.equal(first["weights.0"], second["weights.0"])
    alone = [np.exp(load_scorer(job.work, [name]).log_posteriors("dev", "dev-00")) for name in names]
    together = np.exp(load_scorer(job.work, names).log_posteriors("dev", "dev-00"))
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)


def test_one_network_keeps_its_name(tmp_path: Path) -> None:
    job = Job(Recipe(), toy_workspace(tmp_path))
    assert train_realigners(job, Realignment(network=NETWORK, train=TRAIN)) == ["realignment"]
    assert (job.work.model("realignment") / "model.safetensors").exists()
