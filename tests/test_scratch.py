"""Arrays in files without a name, and what is made ahead of its taker."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from asr_kd import scratch
from asr_kd.ahead import mapped_ahead
from asr_kd.features.store import write_store

STATUS = Path("/proc/self/status")
BIG = (3000, 128)  # float32: more than stays in memory


def test_a_large_array_lies_in_a_file_that_nobody_sees(tmp_path: Path) -> None:
    with scratch.scratch_in(tmp_path):
        rows = scratch.array(BIG, np.float32)
        rows[:] = 3
        assert list(tmp_path.iterdir()) == []
        small = scratch.array((5,), np.int64)
    assert isinstance(rows.base, np.memmap) and small.base is None
    assert type(rows) is np.ndarray and (rows == 3).all()
    assert scratch.array(BIG, np.float32).base is None, "outside of a run everything is in memory"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_tensors_have_the_type_of_their_like(tmp_path: Path, dtype: torch.dtype) -> None:
    with scratch.scratch_in(tmp_path):
        made = scratch.tensor(BIG, torch.zeros(0, dtype=dtype))
    assert made.dtype == dtype and made.shape == BIG


def test_stacked_is_what_cat_makes(tmp_path: Path) -> None:
    parts = [torch.randn(count, 700) for count in (300, 0, 1, 250)]
    with scratch.scratch_in(tmp_path):
        assert torch.equal(scratch.stacked(iter(parts), 551), torch.cat(parts))
        rows = np.arange(300_000)
        longer = scratch.enlarged(rows, 400_000)
    assert len(longer) == 400_000 and np.array_equal(longer[:300_000], rows)


PRIVATE_GROWTH = """
import sys
from contextlib import nullcontext
from pathlib import Path
import torch
from asr_kd.features.store import FrameStore
from asr_kd.nn.frames import Frames
from asr_kd.scratch import scratch_in

def private_bytes():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:")]
    return 1024 * int(line.split()[1])

root = Path(sys.argv[1])
with scratch_in(root) if sys.argv[2] == "mapped" else nullcontext():
    before = private_bytes()
    frames = Frames.load(FrameStore(root / "x"), FrameStore(root / "a"))
    batches = frames.shuffled_batches(1000, (0,))
    print(private_bytes() - before)
torch.save(torch.cat(list(batches)), root / sys.argv[2])
"""


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not say what is private")
def test_frames_take_no_memory_of_their_own(tmp_path: Path) -> None:
    """Twenty megabytes of features, their labels and their order; in processes with no memory to use again."""
    features, labels = np.zeros((500, 40), np.float16), np.zeros((500, 1), np.int16)
    for folder, array in (("x", features), ("a", labels)):
        write_store(tmp_path / folder, ((f"u{number}", array) for number in range(500)), {})

    def growth(how: str) -> int:
        command = [sys.executable, "-c", PRIVATE_GROWTH, str(tmp_path), how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert growth("mapped") < 4e6
    assert growth("private") > 20e6, "without, they do"
    orders = [torch.load(tmp_path / how, weights_only=True) for how in ("mapped", "private")]
    assert torch.equal(*orders)


def test_little_is_made_ahead() -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        time.sleep(0.001 * (item % 3))
        return item * item

    with ThreadPoolExecutor(3) as pool:
        taken = []
        for result in mapped_ahead(pool, work, range(60), 5):
            taken.append(result)
            assert len(started) <= len(taken) + 6
    assert taken == [item * item for item in range(60)]
