"""Speed of feature extraction on one core: reading, filterbanks, MFCC, normalisation and writing of both stores.

    python benchmarks/features.py [AUDIO_FILE …]

Without files it makes half an hour of noise. The bar is 150 × real time.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment

from asr_kd.features.extract import KINDS, extract_group, group_speakers
from asr_kd.nn.products import threads
from asr_kd.recipe import Features

BAR = 150
RATE = 16000


def noise_files(folder: Path, seconds: float = 1800, utterance_seconds: float = 8) -> Iterator[Path]:
    rng = np.random.default_rng(0)
    for number in range(round(seconds / utterance_seconds)):
        path = folder / f"utterance-{number:04d}.flac"
        soundfile.write(path, 0.1 * rng.standard_normal(round(utterance_seconds * RATE)), RATE)
        yield path


def as_cut(path: Path) -> MonoCut:
    cut = Recording.from_file(path).to_cut()
    cut.supervisions = [SupervisionSegment(cut.id, cut.id, 0.0, cut.duration, text="", speaker="one")]
    return cut


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cuts = [as_cut(path) for path in [Path(arg) for arg in sys.argv[1:]] or noise_files(folder)]
        paths = {kind: folder / kind for kind in KINDS}
        rate = cuts[0].sampling_rate
        seconds = sum(cut.duration for cut in cuts)
        extract_group(0, cuts[:1], paths, Features(), rate)  # loads libraries
        with threads(1):
            start, cpu = time.perf_counter(), time.process_time()
            by_id = {cut.id: cut for cut in cuts}
            for number, group in enumerate(group_speakers(cuts)):
                extract_group(number, [by_id[utterance] for utterance in group], paths, Features(), rate)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    speed = seconds / cpu
    print(f"{seconds:.0f} s of audio in {wall:.2f} s ({cpu:.2f} CPU s): {speed:.0f} × real time per core (bar {BAR})")
    return 0 if speed >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
