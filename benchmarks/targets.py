"""Writing soft targets beside the teachers' forward passes alone, in one run; the fastest of several repeats each.

python benchmarks/targets.py [--threads 2] [--members 5] [--width 512]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from train import DIM, NUM_PDFS, random_frames

from asr_kd.distill.targets import dump_targets
from asr_kd.nn.frames import Frames
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.posteriors import Ensemble
from asr_kd.nn.seeds import generator
from asr_kd.recipe import Network, Targets


def forward_seconds(ensemble: Ensemble, frames: Frames) -> float:
    """The members' logits alone, in the batches that are fastest for them."""
    start = time.perf_counter()
    with torch.inference_mode():
        for numbers in frames.ordered_batches(1024):
            ensemble.logits(ensemble.windows(frames, numbers))
    return time.perf_counter() - start


def dump_seconds(ensemble: Ensemble, frames: Frames, targets: Targets) -> float:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        dump_targets(Path(folder), ensemble, frames, targets, {}, lambda batches, _: batches)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--top-k", type=int, default=20)
    parser.add_argument("--frames", type=int, default=12000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    models = [AcousticModel(Network(width=arguments.width), DIM, NUM_PDFS).eval() for _ in range(arguments.members)]
    for number, model in enumerate(models):
        model.initialise(generator((0, "member", number)))
    ensemble, frames = Ensemble(models), random_frames(arguments.frames)
    forward = written = 0.0
    for _ in range(arguments.repeats):
        forward = max(forward, len(frames) / forward_seconds(ensemble, frames))
        written = max(written, len(frames) / dump_seconds(ensemble, frames, Targets(top_k=arguments.top_k)))
    print(f"{arguments.members} members of 4 × {arguments.width}, {arguments.threads} threads")
    print(
        f"forward alone {forward:.0f} frames/s, targets written {written:.0f} frames/s, ratio {written / forward:.2f}"
    )


if __name__ == "__main__":
    main()
