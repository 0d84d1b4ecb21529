"""Runs the soak's tiny recipe on a tmpfs that is full half-way through every stage, then has room again.

    python tests/crash/full_disk.py

The stages that estimate what they need refuse before they write; they are tried without the estimate too. Ends with
status 1 where a stage does not refuse in one line, harms what was finished before, or goes on to other files
than an undisturbed run's. Mounts, so it needs root; status 77 where that is not permitted.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

from soak import Soak, compare, frozen_clocks, hashes

from asr_kd.pipeline import STAGE_NAMES
from asr_kd.verification import check

ROOMY, NOT_PERMITTED = 1 << 30, 77
FULL = "the disk is full; finished files are intact: free some space and run the same command again"
TOO_LITTLE = " are free; free some space or choose an --exp on another disk"


class FullDisk(Soak):
    """Whose experiment directory is a tmpfs."""

    def mount(self, size: int, again: bool = True) -> None:
        how = ["-o", f"remount,size={size}", str(self.exp)]
        if not again:
            self.exp.mkdir()
            how = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.exp)]
        subprocess.run(["mount", *how], check=True, capture_output=True)

    def used(self) -> int:
        about = os.statvfs(self.exp)
        return (about.f_blocks - about.f_bfree) * about.f_frsize

    def straight(self) -> list[int]:
        """An undisturbed run; the bytes on the disk before each stage and at the end. It is copied to `straight`."""
        used = [self.used()]
        for number in range(len(STAGE_NAMES)):
            self.finish(self.start(number), None)
            used.append(self.used())
        subprocess.run(["cp", "-a", str(self.exp), str(self.folder / "straight")], check=True)
        subprocess.run(["find", str(self.exp), "-mindepth", "1", "-delete"], check=True)
        return used

    def disturb_stage(self, number: int, growth: int) -> list[str]:
        """What is wrong with a stage that has room for half of what it leaves, and then for all."""
        module = sys.modules[f"asr_kd.stages.{STAGE_NAMES[number]}"]
        estimates = hasattr(module, "require_space")
        self.mount(self.used() + growth // 2)
        found = self.refused(number, TOO_LITTLE) if estimates else []
        with mock.patch.object(module, "require_space", lambda *_: None) if estimates else nullcontext():
            found += self.refused(number, FULL)
        self.mount(ROOMY)
        self.finish(self.start(number), None)
        return found

    def refused(self, number: int, message: str) -> list[str]:
        """What is wrong with how a stage refuses."""
        name, log = STAGE_NAMES[number], self.folder / "output.log"
        said = log.stat().st_size
        before = {file: sum_ for file, sum_ in hashes(self.exp).items() if file[0] != "."}  # not how far a run is
        status = os.waitstatus_to_exitcode(os.waitpid(self.start(number), 0)[1])
        output = log.read_bytes()[said:].decode()
        lines = [line for line in output.splitlines() if line.startswith("asr-kd: ")]
        found = [f"{name}: status {status}, not 2"] * (status != 2)
        found += [f"{name}: {lines}"] * (len(lines) != 1 or message not in lines[0])
        found += [f"{name}: a traceback"] * ("Traceback" in output or "Logging error" in output)
        after = hashes(self.exp)
        found += [f"{name}: harmed {file}" for file, sum_ in before.items() if after.get(file) != sum_]
        found += [f"{name}: left {path.name}" for path in self.exp.rglob("*.tmp")]
        return found + (check(self.exp) if number else [])


def fill(folder: Path) -> list[str]:
    """What is wrong, in lines."""
    disk = FullDisk(folder, seed=0, jobs=1)
    disk.mount(ROOMY, again=False)
    try:
        with frozen_clocks():
            used = disk.straight()
            expected = hashes(folder / "straight")
            found = []
            for number in range(len(STAGE_NAMES)):
                found += disk.disturb_stage(number, used[number + 1] - used[number])
            return found + compare(expected, disk.exp)
    finally:
        subprocess.run(["umount", "-l", str(disk.exp)], check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="full-") as place:
        try:
            wrong = fill(Path(place))
        except subprocess.CalledProcessError as error:
            if "mount" not in error.cmd:
                raise
            sys.stdout.write(f"mounting a small tmpfs is not permitted here ({error.stderr!r})\n")
            sys.exit(NOT_PERMITTED)
    sys.stdout.write("\n".join([*wrong, f"{len(STAGE_NAMES)} stages, {len(wrong)} faults"]) + "\n")
    sys.exit(bool(wrong))
