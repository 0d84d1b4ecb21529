"""One log a stage, logs/STAGE.log: every run of the stage adds a part, which begins with what ran and ends with how."""

import logging
import platform
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from os import cpu_count, getpid
from pathlib import Path
from typing import Any

from asr_kd import __version__
from asr_kd.files import FULL

FORMAT = "%(asctime)s %(levelname)s %(message)s"
WARNING = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING ", re.MULTILINE)
PACKAGES = (
    "torch",
    "torchaudio",
    "numpy",
    "lhotse",
    "kaldifst",
    "kaldi-decoder",
    "kaldingram",
    "jiwer",
    "kaldialign",
)


class StageLog(logging.FileHandler):
    """A log whose own trouble with a full disk goes unsaid: the stage meets it too, and says so in one line."""

    def handleError(self, record: logging.LogRecord) -> None:
        if getattr(sys.exception(), "errno", None) not in FULL:
            super().handleError(record)

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            if error.errno not in FULL:
                raise


class Part:
    """What is added to a log, and to those of tasks in the folder of its name, since its making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = {file: file.stat().st_size for file in self._files()}

    def warnings(self) -> int:
        """Warnings in it, of worker processes too."""
        count = 0
        for path in self._files():
            with path.open("rb") as file:
                file.seek(self._starts.get(path, 0))
                count += len(WARNING.findall(file.read()))
        return count

    def _files(self) -> list[Path]:
        return [path for path in (self.path, *self.path.with_suffix("").glob("*.log")) if path.exists()]


@contextmanager
def stage_log(path: Path) -> Iterator[Part]:
    """Within, what the package and Python's own warnings say goes to the log's next part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, handler = Part(path), StageLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    loggers = [logging.getLogger(name) for name in ("asr_kd", "py.warnings")]
    loggers[0].setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield part
    finally:
        logging.captureWarnings(False)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def environment() -> dict[str, Any]:
    """The machine, the versions of what runs on it, and the command."""
    return {
        "asr_kd": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": cpu_count(),
        "packages": {name: version(name) for name in PACKAGES},
        "command": sys.argv,
    }


def origin() -> list[str]:
    """The lines that a part begins with."""
    about = environment()
    versions = {"asr_kd": about["asr_kd"], "python": about["python"], **about["packages"]}
    return [
        f"command: {shlex.join(sys.argv)}",
        "versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        f"process {getpid()} on {socket.gethostname()}, {about['platform']}, {about['cpus']} processors",
    ]


def count_of(warnings: int) -> str:
    return f"{warnings} warning{'' if warnings == 1 else 's'}"
