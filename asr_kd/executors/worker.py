"""What runs on a worker of a cluster: one task, and before all tasks a look at the worker."""

import hashlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asr_kd
from asr_kd.errors import UserError
from asr_kd.executors.contract import Work, portable, silent
from asr_kd.interruption import interruptible
from asr_kd.scratch import scratch_in

SETTINGS = "ASR_KD_"  # environment variables that workers get
PACKAGES = ("torch", "numpy")  # whose versions decide what a task computes


@dataclass(frozen=True)
class Surroundings:
    """Of the process that asks: experiment and working directory, variables of this package, and versions."""

    root: Path
    folder: Path
    variables: dict[str, str]
    version: str

    @staticmethod
    def present(root: Path) -> "Surroundings":
        variables = {key: text for key, text in os.environ.items() if key.startswith(SETTINGS)}
        return Surroundings(root.absolute(), Path.cwd(), variables, package_version())


@dataclass(frozen=True)
class Sight:
    """What a worker is, and whether it sees the directories of the process that asks."""

    host: str
    version: str
    sees_root: bool
    sees_folder: bool

    def check(self, place: str, wanted: Surroundings) -> None:
        """Raise UserError for other versions than `wanted` has, or a directory that is not seen; place: the worker."""
        if self.version != wanted.version:
            raise UserError(
                f"--executor ray: {place} has asr_kd {self.version}, this is {wanted.version}; install the same there"
            )
        if not self.sees_root:
            raise UserError(
                f"{wanted.root}: {place} does not see this directory; choose an --exp on a file system that all share"
            )
        if not self.sees_folder:
            raise UserError(
                f"{wanted.folder}: {place} does not see the working directory; start from one that all workers share"
            )


@contextmanager
def marked(folder: Path, token: str) -> Iterator[str]:
    """Within, a file of `folder` holds the token; yields its name, empty where none can be written."""
    path = folder / f".probe-{secrets.token_hex(8)}.tmp"
    try:
        path.write_text(token)
        name = path.name
    except OSError:
        name = ""
    try:
        yield name
    finally:
        with suppress(OSError):
            path.unlink()


def look_around(probe: str, token: str, node: str, folder: str, mark: str) -> Sight:
    """On a worker: what it is and sees. mark: see `marked`, of the working directory `folder`."""
    try:
        sees = Path(probe, "token").read_text() == token
        Path(probe, node).write_text(token)
    except OSError:
        sees = False
    try:
        sees_folder = Path(folder, mark).read_text() == token if mark else Path(folder).is_dir()
    except OSError:
        sees_folder = False
    return Sight(socket.gethostname(), package_version(), sees, sees_folder)


@cache
def package_version() -> str:
    """The version, a checksum of the package's code, and those of Python, torch and numpy: processes that say the same
    do the same.

    Builds of one release of torch, for CPUs or for CUDA, count as the same: a cluster may have both.
    """
    root = Path(asr_kd.__file__).parent
    digest = hashlib.blake2b(digest_size=4)
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    python = ".".join(map(str, sys.version_info[:2]))
    packages = "".join(f", {name} {version(name).partition('+')[0]}" for name in PACKAGES)
    return f"{asr_kd.__version__} (code {digest.hexdigest()}, Python {python}{packages})"


_loaded: tuple[str, Any] | None = None


def perform(
    work: Work, run: str, item: Any, path: Path, threads: int, surroundings: Surroundings
) -> tuple[Any, Exception | None]:
    """On a worker: one task; its log goes to `path`. What the tasks of a run load stays until another run's.

    A worker that joined after the look around is looked at here, where its error is the task's.
    """
    here = Sight(socket.gethostname(), package_version(), surroundings.root.is_dir(), surroundings.folder.is_dir())
    try:
        here.check(f"worker {here.host}", surroundings)
    except UserError as error:
        return None, error
    import torch

    global _loaded
    os.chdir(surroundings.folder)
    os.environ.update(surroundings.variables)
    torch.set_num_threads(threads)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("asr_kd")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        with interruptible(), scratch_in(surroundings.root):
            logger.info("%s on %s, process %d, %d threads", work.name(item), socket.gethostname(), os.getpid(), threads)
            if _loaded is None or _loaded[0] != run:
                _loaded = None
                _loaded = run, work.load()
            return work.do(_loaded[1], item, silent), None
    except Exception as error:
        logger.exception("failed")
        return None, portable(error)
    finally:
        logger.removeHandler(handler)
        handler.close()
