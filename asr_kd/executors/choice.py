"""Which executor the command line asks for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from asr_kd.errors import UserError
from asr_kd.executors.local import LocalExecutor
from asr_kd.torchrun import processes_in_all

if TYPE_CHECKING:
    from asr_kd.executors.ray import RayExecutor

NAMES = ("local", "ray")


@contextmanager
def chosen(name: str, address: str | None, root: Path, jobs: int) -> Iterator["LocalExecutor | RayExecutor"]:
    """The executor `name`, closed at the end. address: of a Ray that runs, or None for that of RAY_ADDRESS, or else for
    one that is started on this machine; root: the experiment directory.

    Raises UserError for another name, for an address without Ray, and where Ray is not installed or cannot be used.
    """
    if name not in NAMES:
        raise UserError(f"--executor {name}: unknown; use local or ray")
    if name == "local":
        if address is not None:
            raise UserError(f"--address {address}: is that of a Ray; add --executor ray")
        yield LocalExecutor(jobs)
        return
    if processes_in_all() > 1:
        raise UserError(
            "--executor ray: not under torchrun, which trains one network on all processes; use one of them"
        )
    if find_spec("ray") is None:
        raise UserError("--executor ray: Ray is not installed; run: pip install 'asr-kd[ray]'")
    from asr_kd.executors.ray import RayExecutor

    executor = RayExecutor(address or os.environ.get("RAY_ADDRESS"), root, jobs)
    try:
        yield executor
    finally:
        executor.close()
