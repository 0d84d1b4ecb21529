"""Peak memory of every stage for 1, 3 and 10 times the data.

    python benchmarks/memory.py [--utterances 300] [--factors 1 3 10] [--jobs 1] [--folder DIR]

The data are the embedded corpus, its speakers multiplied with its utterances in all three splits; networks, trees, the
language model's text and the graph stay as they are. Every stage runs in a fresh process. Of each process tree:

- RSS: the largest resident size of one process (wait4's ru_maxrss). It counts pages of mapped files, features and
  targets above all, as long as nobody else needs the memory.
- private: the largest anonymous and shared memory of one process, looked up in /proc every 20 ms: what the kernel
  cannot take back, and what a machine must have.
- libraries: the private memory of a process that has imported the stage's code and not run it, the part that no data
  can change.

The ratio is that of private memory without the libraries, at the largest factor over the smallest; the bar is 1.2. The
last column is the growth per frame of training speech. Ends with status 1 when a stage is above the bar.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from asr_kd.features.store import FrameStore
from asr_kd.pipeline import STAGE_NAMES
from asr_kd.workspace import Workspace

BAR = 1.2
EVERY_SECONDS = 0.02
MEGABYTE = 1e6
DEV, TEST = 0.1, 0.2  # utterances beside those of train
PER_SPEAKER = 20
RECIPE = """
name: memory
corpus:
  embedded:
    train_utterances: {train}
    dev_utterances: {dev}
    test_utterances: {test}
    train_speakers: {train_speakers}
    dev_speakers: {dev_speakers}
    test_speakers: {test_speakers}
    lm_sentences: 2000
lang: {{ngram: {{order: 2, cutoffs: [0]}}}}
hmm:
  mono_utterances: 200
  mono: {{iterations: 4, realign: [1, 3], gaussians: 200}}
  tri: {{iterations: 3, realign: [2], leaves: 200, gaussians: 600}}
  lda: {{iterations: 3, realign: [2], leaves: 200, gaussians: 600}}
  sat: {{iterations: 3, realign: [2], leaves: 200, gaussians: 600}}
  mllt_iterations: [2]
  fmllr_iterations: [2]
teachers: {{members: 2, network: {{layers: 2, width: 128}}, train: {{epochs: 1}}}}
student: {{train: {{epochs: 1}}}}
decode:
  max_active: 500
  first_pass: {{beam: 9, max_active: 300}}
  tuning_seconds: 60
  gmm: {{lm_scale: [12], word_penalty: [0.0]}}
  network: {{lm_scale: [12], word_penalty: [0.0]}}
score: {{bootstrap_samples: 50}}
"""


@dataclass(frozen=True)
class Peak:
    """In bytes, of the largest process."""

    rss: int
    private: int


def measure(command: list[str], log: Path) -> Peak:
    """Run a command to its end, which has to be a good one."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    private = 0
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        private = max([private, *map(private_bytes, descendants(process.pid))])
        time.sleep(EVERY_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"status {process.returncode} of {' '.join(command)}; see {log}")
    return Peak(usage.ru_maxrss * 1024, private)


def descendants(process: int) -> list[int]:
    """The process and all that it started, directly or not."""
    found = [process]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # ended meanwhile
                continue
    return found


def private_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def write_recipe(path: Path, utterances: int) -> None:
    counts = {"train": utterances, "dev": max(1, round(DEV * utterances)), "test": max(1, round(TEST * utterances))}
    speakers = {f"{split}_speakers": max(1, count // PER_SPEAKER) for split, count in counts.items()}
    path.write_text(RECIPE.format(**counts, **speakers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=300, help="of train, at factor 1")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="an empty one, to work in [default: a temporary one]")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="memory-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    factors, log = sorted(arguments.factors), folder / "output.log"
    peaks: dict[str, list[Peak]] = {name: [] for name in STAGE_NAMES}
    libraries, frames = dict[str, int](), []
    for factor in factors:
        recipe, exp = folder / f"{factor}.yaml", folder / f"exp-{factor}"
        write_recipe(recipe, factor * arguments.utterances)
        run = [sys.executable, "-m", "asr_kd", "run", "--recipe", str(recipe), "--exp", str(exp)]
        for number, name in enumerate(STAGE_NAMES):
            stage = ["--stage", str(number), "--stop-stage", str(number), "--jobs", str(arguments.jobs)]
            peaks[name].append(measure([*run, *stage], log))
            print(f"{factor} × {name}: {peaks[name][-1].private / MEGABYTE:.0f} MB", file=sys.stderr, flush=True)
        frames.append(FrameStore(Workspace(exp).features("fbank", "train")).total_frames)
    for name in STAGE_NAMES:
        imports = f"import time, asr_kd.cli, asr_kd.stages.{name}; time.sleep(0.2)"
        libraries[name] = measure([sys.executable, "-c", imports], log).private
    return report(peaks, libraries, factors, frames)


def report(peaks: dict[str, list[Peak]], libraries: dict[str, int], factors: list[int], frames: list[int]) -> int:
    """Print the table; the status to end with."""
    hours = ", ".join(f"{factor} × is {count / 360000:.2f} h" for factor, count in zip(factors, frames, strict=True))
    titles = [f"{what}, {factor} ×" for what in ("RSS", "private") for factor in factors]
    header = ["stage", *titles, "libraries", "ratio", "bytes a frame"]
    print(f"MB; {hours} of training speech\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    above = []
    for name, found in peaks.items():
        first, last = (peak.private - libraries[name] for peak in (found[0], found[-1]))
        ratio, growth = last / max(first, 1), (last - first) / max(1, frames[-1] - frames[0])
        sizes = [peak.rss for peak in found] + [peak.private for peak in found] + [libraries[name]]
        cells = [name, *(f"{size / MEGABYTE:.0f}" for size in sizes), f"{ratio:.2f}", f"{growth:.0f}"]
        print(f"| {' | '.join(cells)} |")
        above += [name] * (ratio > BAR)
    print(f"\nabove {BAR}: {', '.join(above) or 'none'}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
