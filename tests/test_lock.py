"""One run at a time: another process holds the lock, or held it when it died."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asr_kd.errors import UserError
from asr_kd.lock import LOCK, locked

HOLDER = """
import sys, time
from pathlib import Path
from asr_kd.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_with_the_holders_name_and_a_dead_ones_lock_is_taken(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    who = rf"in use by process {holder.pid} on {socket.gethostname()}, started \d{{4}}-"
    for _ in range(2):  # the first refusal must not let go of the holder's lock
        with pytest.raises(UserError, match=who) as error, locked(tmp_path):
            pass
        assert "\n" not in str(error.value)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path) as dead:
        assert dead is not None and dead["pid"] == holder.pid
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()
    with locked(tmp_path) as dead:
        assert dead is None


def test_a_lock_left_on_another_host_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": "2026-01-01T00:00:00"}))
    with pytest.raises(UserError, match=r"process 1 on elsewhere, .* if it has, remove .*\.lock"), locked(tmp_path):
        pass
    (tmp_path / LOCK).unlink()
    with locked(tmp_path):
        pass


def test_the_same_process_does_not_get_it_twice(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(UserError, match="this process runs in it already"), locked(tmp_path / "."):
            pass
        assert (tmp_path / LOCK).exists()


def test_forked_workers_do_not_keep_a_dead_holders_lock(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with locked(tmp_path):
            worker = os.fork()
            if worker == 0:
                signal.pause()
            (tmp_path / "worker").write_text(str(worker))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        with locked(tmp_path) as dead:
            assert dead is not None and dead["pid"] == pid
    finally:
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)


def test_what_cannot_be_read_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("half a li")
    with locked(tmp_path) as dead:
        assert dead is None
