"""Training speed at 4 × 1024 beside the machine's own matrix-product speed, same precision, same run.

    python benchmarks/train.py [--threads 2] [--width 1024] [--precision auto]

The floating-point operations counted are those of the layers' products (one forward, two backward; the first
layer has no input gradient); everything else a step does is overhead.
"""

import argparse
import itertools
import os
import time
from pathlib import Path

import torch

from asr_kd.nn.frames import Frames
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.products import product_type
from asr_kd.nn.schedule import make_optimizer
from asr_kd.nn.seeds import generator
from asr_kd.nn.training import HardTargets, Run, TrainingLoop
from asr_kd.recipe import Network, Training

NUM_PDFS, DIM, UTTERANCE = 1500, 40, 600


def product_speed(dtype: torch.dtype, size: int = 4096) -> float:
    """GFLOP/s of one size³ product, the fastest of five."""
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times) / 1e9


def random_frames(count: int, device: str = "cpu") -> Frames:
    """At least `count` frames, in whole utterances."""
    draws, utterances = generator((0, "benchmark")), -(-count // UTTERANCE)
    starts = torch.arange(utterances + 1) * UTTERANCE
    rows = torch.randn(utterances * UTTERANCE, DIM, generator=draws).half()
    labels = torch.randint(0, NUM_PDFS, (len(rows),), generator=draws)
    names = [f"u{number}" for number in range(utterances)]
    return Frames(rows.to(device), labels.to(device), names, starts.to(device))


def operations_per_frame(model: AcousticModel) -> float:
    sizes = [model.window * model.dim, *[model.network.width] * model.network.layers, model.num_pdfs]
    products = [2 * below * above for below, above in itertools.pairwise(sizes)]
    return 3 * sum(products) - products[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = Network(layers=arguments.layers, width=arguments.width, dropout=arguments.dropout)
    training = Training(batch_frames=arguments.batch, precision=arguments.precision)
    frames = random_frames(arguments.batch * arguments.steps // UTTERANCE * UTTERANCE)
    model = AcousticModel(network, DIM, NUM_PDFS)
    model.initialise(generator((0, "initialisation")))
    run = Run(network, training, (0, "benchmark"), NUM_PDFS, "random")
    loop = TrainingLoop(
        Path("benchmark"),
        run,
        model,
        make_optimizer(model, training),
        frames,
        HardTargets(frames.labels),
        lambda items, _: items,
    )
    draws = generator((0, "dropout"))
    times = []
    for batch in frames.shuffled_batches(arguments.batch, (0, "order"))[:-1]:
        start = time.perf_counter()
        loop.step(batch, 1e-4, draws, draws)
        times.append(time.perf_counter() - start)
    dtype = product_type(training.precision, "cpu")
    products, step = product_speed(dtype), sorted(times)[len(times) // 2]
    speed = operations_per_frame(model) * arguments.batch / step / 1e9
    print(f"{dtype}, {arguments.threads} threads: {network.layers} × {network.width}, batch {arguments.batch}")
    print(f"training {arguments.batch / step:.0f} frames/s, {speed:.0f} GFLOP/s; products alone {products:.0f} GFLOP/s")
    print(f"ratio {speed / products:.2f}")


if __name__ == "__main__":
    main()
