"""What runs on a worker of a cluster: one task, and before all tasks a look at the worker."""

import hashlib
import logging
import os
import socket
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import asr_kd
from asr_kd.executors.contract import Work, portable, silent
from asr_kd.interruption import interruptible
from asr_kd.scratch import scratch_in

SETTINGS = "ASR_KD_"  # environment variables that workers get


@dataclass(frozen=True)
class Surroundings:
    """Of the process that asks: experiment directory, working directory, and the variables of this package."""

    root: Path
    folder: Path
    variables: dict[str, str]

    @staticmethod
    def present(root: Path) -> "Surroundings":
        variables = {key: text for key, text in os.environ.items() if key.startswith(SETTINGS)}
        return Surroundings(root.absolute(), Path.cwd(), variables)


@dataclass(frozen=True)
class Sight:
    """What a worker is, and whether it sees the directories of the process that asks."""

    host: str
    version: str
    sees_root: bool
    sees_folder: bool


def look_around(probe: str, token: str, node: str, folder: str) -> Sight:
    """On a worker: what it is and sees."""
    try:
        sees = Path(probe, "token").read_text() == token
        Path(probe, node).write_text(token)
    except OSError:
        sees = False
    return Sight(socket.gethostname(), package_version(), sees, Path(folder).is_dir())


@cache
def package_version() -> str:
    """The version and a checksum of the package's code: processes that say the same do the same."""
    root = Path(asr_kd.__file__).parent
    digest = hashlib.blake2b(digest_size=4)
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    python = ".".join(map(str, sys.version_info[:2]))
    return f"{asr_kd.__version__} (code {digest.hexdigest()}, Python {python})"


_loaded: tuple[str, Any] | None = None


def perform(
    work: Work, run: str, item: Any, path: Path, threads: int, surroundings: Surroundings
) -> tuple[Any, Exception | None]:
    """On a worker: one task; its log goes to `path`. What the tasks of a run load stays until another run's."""
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
