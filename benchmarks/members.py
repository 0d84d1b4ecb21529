"""Time of several networks trained together beside the time of one, per update: teachers.together against one by one.

    python benchmarks/members.py [--device cuda] [--members 10] [--width 512] [--threads 1]

Also their largest difference in loss after the updates, which is rounding.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from train import NUM_PDFS, random_frames

from asr_kd.nn.dropout import StackDraws
from asr_kd.nn.frames import Frames
from asr_kd.nn.seeds import generator
from asr_kd.nn.stack import Stack
from asr_kd.nn.tracking import Tracker
from asr_kd.nn.training import Course, HardTargets, Run
from asr_kd.recipe import Network, Training

RATE = 1e-3


def begin(
    folder: Path, frames: Frames, members: int, network: Network, training: Training, device: str
) -> list[Course]:
    targets, courses = HardTargets(frames.labels), list[Course]()
    for member in range(members):
        run, path = Run(network, training, (0, "member", member), NUM_PDFS, "random"), folder / f"member-{member:02d}"
        like = courses[0] if courses else None
        courses.append(
            Course(path, run, frames, frames, targets, lambda items, _: items, device, None, Tracker(), like)
        )
    return courses


def settle(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def median(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]


def alone(courses: list[Course], steps: int, device: str) -> tuple[float, list[float]]:
    """Median seconds of one update of the first network, and the loss of each after its updates."""
    times, losses = [], []
    for course in courses:
        draws = generator((*course.run.seed, "dropout", 0), device.split(":")[0])
        for batch in course.loop.batches(0)[:steps]:
            settle(device)
            start = time.perf_counter()
            loss, _ = course.loop.step(batch, RATE, draws, draws)
            settle(device)
            times.append(time.perf_counter() - start)
        losses.append(loss)
    return median(times), losses


def together(courses: list[Course], steps: int, device: str) -> tuple[float, list[float]]:
    """Median seconds of one update of all networks, and the loss of each after its updates."""
    stack, times, losses = Stack(courses), [], list[float]()
    draws = [generator((*course.run.seed, "dropout", 0), device.split(":")[0]) for course in courses]
    rates = torch.full((len(courses),), RATE, device=device)
    for batches in zip(*(course.loop.batches(0)[:steps] for course in courses), strict=True):
        batch = torch.stack(batches)
        settle(device)
        start = time.perf_counter()
        losses, _ = stack.step(batch, rates, StackDraws(draws), draws)
        settle(device)
        times.append(time.perf_counter() - start)
    return median(times), losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = Network(layers=arguments.layers, width=arguments.width)
    training = Training(batch_frames=arguments.batch, precision=arguments.precision)
    frames = random_frames(arguments.batch * (arguments.steps + 1), arguments.device)
    with TemporaryDirectory() as folder:
        shape = frames, arguments.members, network, training, arguments.device
        one, losses = alone(begin(Path(folder) / "alone", *shape), arguments.steps, arguments.device)
        all_, stacked = together(begin(Path(folder) / "together", *shape), arguments.steps, arguments.device)
    place = torch.cuda.get_device_name() if arguments.device != "cpu" else f"cpu, {arguments.threads} threads"
    print(f"{place}, {arguments.precision}: {network.layers} × {network.width}, batch {arguments.batch}")
    print(f"one member {1e3 * one:.1f} ms an update; {arguments.members} together {1e3 * all_:.1f} ms, as long as")
    print(f"{all_ / one:.2f} members one by one; losses differ by at most", end=" ")
    print(f"{max(abs(a - b) for a, b in zip(losses, stacked, strict=True)):.1e}")


if __name__ == "__main__":
    main()
