"""Networks trained once for the tests that only look at them."""

from collections.abc import Iterable, Iterator, Sequence

import pytest
from torch import Tensor
from toy_experiment import NETWORK, TRAINING, toy_workspace

from asr_kd.nn.inputs import Inputs, load_inputs
from asr_kd.nn.products import threads
from asr_kd.nn.training import HardTargets, Run, train
from asr_kd.workspace import Workspace


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return toy_workspace(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def inputs(work: Workspace) -> Inputs:
    return load_inputs(work, NETWORK)


@pytest.fixture(scope="session")
def trained(work: Workspace, inputs: Inputs) -> Workspace:
    """The toy workspace with two trained members."""
    for index in range(2):
        run = Run(NETWORK, TRAINING, (0, "member", index), inputs.num_pdfs, inputs.data)
        train(work.member(index), run, inputs.train, inputs.dev, HardTargets(inputs.train.labels), silent)
    return work
