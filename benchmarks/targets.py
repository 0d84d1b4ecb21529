"""The soft-target store: size, speed of writing and reading, and what it keeps of the teachers' posteriors.

    python benchmarks/targets.py [--threads 2] [--exp exp/libri_mini] [--clock cpu] [--part writing]

Writing is set beside the teachers' forward passes alone, an epoch on soft targets beside one on hard labels; all that
is compared takes turns, and the fastest of several repeats counts. Teachers and frames are random, or those of an
experiment. --clock cpu counts CPU seconds, for a machine that is not idle; then use one thread.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from train import DIM, UTTERANCE, random_frames

from asr_kd.distill.inspection import mean_kl_to_dense
from asr_kd.distill.store import TargetStore
from asr_kd.distill.targets import SoftTargets, dump_targets
from asr_kd.nn.frames import Frames
from asr_kd.nn.inputs import load_frames
from asr_kd.nn.model import AcousticModel
from asr_kd.nn.posteriors import Ensemble, load_ensemble
from asr_kd.nn.products import threads
from asr_kd.nn.schedule import make_optimizer
from asr_kd.nn.seeds import generator
from asr_kd.nn.training import HardTargets, Run, TargetSource, TrainingLoop
from asr_kd.recipe import Network, Targets, Training
from asr_kd.workspace import Workspace

NUM_PDFS = 1597
SHARPNESS = 8.0  # of random teachers' output weights: their entropy is then near that of trained ones
STORES = {
    "top 20": Targets(top_k=20),
    "random 20": Targets(top_k=20, pruning="random", temperatures=(2.0,)),
    "dense": Targets(top_k=None),
}


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def random_teachers(count: int, width: int) -> Ensemble:
    models = [AcousticModel(Network(width=width), DIM, NUM_PDFS).eval() for _ in range(count)]
    for number, model in enumerate(models):
        model.initialise(generator((0, "member", number)))
        with torch.no_grad():
            model.weights[-1].mul_(SHARPNESS)
    return Ensemble(models)


def first_frames(frames: Frames, count: int) -> Frames:
    """Whole utterances, at most `count` frames."""
    utterances = max(1, int((frames.starts <= count).sum()) - 1)
    end = int(frames.starts[utterances])
    return Frames(
        frames.rows[:end], frames.labels[:end], frames.utterances[:utterances], frames.starts[: utterances + 1]
    )


def fastest(clock: Callable[[], float], repeats: int, jobs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each job, the fewest of `repeats` rounds in which all take turns."""
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(repeats):
        for name, job in jobs.items():
            start = clock()
            job()
            seconds[name] = min(seconds[name], clock() - start)
    return seconds


def forward(ensemble: Ensemble, frames: Frames, batch: int) -> None:
    """The members' logits alone; frames: standardised."""
    with torch.inference_mode():
        for numbers in frames.ordered_batches(batch):
            ensemble.logits(ensemble.windows(frames, numbers))


def dump(path: Path, ensemble: Ensemble, frames: Frames, targets: Targets) -> dict[str, float]:
    """frames: as stored; `dump_targets` standardises them."""
    return dump_targets(path, ensemble, frames, targets, {}, silent)


def report_writing(clock: Callable[[], float], repeats: int, folder: Path, ensemble: Ensemble, frames: Frames) -> None:
    standardised = frames.standardised(ensemble.models[0])
    jobs: dict[str, Callable[[], object]] = {
        f"forward {batch}": lambda batch=batch: forward(ensemble, standardised, batch)  # type: ignore[misc]
        for batch in (256, 512, 1024)
    }
    for name, targets in STORES.items():
        jobs[name] = lambda name=name, targets=targets: dump(folder / name, ensemble, frames, targets)  # type: ignore[misc]
    seconds = fastest(clock, repeats, jobs)
    alone = min(seconds[name] for name in seconds if name.startswith("forward"))
    print(f"forward alone: {len(frames) / alone:.0f} frames/s")
    for name, targets in STORES.items():
        summary = dump(folder / name, ensemble, frames, targets)
        print(
            f"{name}: {summary['bytes_per_frame']:.0f} bytes a frame, written {len(frames) / seconds[name]:.0f} "
            f"frames/s, ratio {alone / seconds[name]:.3f}"
        )
    print(f"entropy {summary['mean_entropy']:.2f} nats")


def report_reading(clock: Callable[[], float], repeats: int, folder: Path, ensemble: Ensemble, frames: Frames) -> None:
    for name in ("top 20", "random 20"):
        dump(folder / name, ensemble, frames, STORES[name])
    store = TargetStore(folder / "top 20")
    sources: dict[str, TargetSource] = {
        "hard labels": HardTargets(frames.labels),
        "hard weight 0": SoftTargets(store, frames, 2.0, 0.0),
        "hard weight 0.3": SoftTargets(store, frames, 2.0, 0.3),
        "T = 3": SoftTargets(store, frames, 3.0, 0.3),
        "random 20": SoftTargets(TargetStore(folder / "random 20"), frames, 2.0, 0.3),
        "logits": SoftTargets(store, frames, 2.0, 0.3, "logits"),
    }
    standardised = frames.standardised(ensemble.models[0])
    training, jobs = Training(), {}
    for name, source in sources.items():
        model = AcousticModel(ensemble.network, frames.dim, store.num_pdfs)
        model.initialise(generator((0, "student")))
        run = Run(ensemble.network, training, (0, "student"), store.num_pdfs, "")
        loop = TrainingLoop(Path(name), run, model, make_optimizer(model, training), standardised, source, silent)
        jobs[name] = lambda loop=loop: loop.epoch(0, 1e-3)
    seconds = fastest(clock, repeats, jobs)
    hard = seconds["hard labels"]
    for name, taken in seconds.items():
        print(f"epoch on {name}: {len(frames) / taken:.0f} frames/s, {taken / hard - 1:+.1%}")


def report_exactness(folder: Path, ensemble: Ensemble, frames: Frames) -> None:
    """KL over the 20 states and the bin, and with the bin spread evenly."""
    for mean in ("arithmetic", "geometric"):
        ensemble.mean = mean  # type: ignore[assignment]
        for name in ("top 20", "dense"):
            dump(folder / mean / name, ensemble, frames, STORES[name])
        truncated, dense = (TargetStore(folder / mean / name) for name in ("top 20", "dense"))
        figures = [
            f"T={temperature:g} "
            + " ".join(
                f"{mean_kl_to_dense(truncated, dense, temperature, spread=spread):.1e}" for spread in (False, True)
            )
            for temperature in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
        ]
        print(f"KL(dense, top 20), {mean} mean: {'; '.join(figures)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--exp", type=Path, help="take the teachers and frames of this experiment")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--frames", type=int, default=12000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--part", choices=["writing", "reading", "exactness"], help="only this one")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    if arguments.exp:
        work = Workspace(arguments.exp)
        ensemble = load_ensemble(work, [work.member(number).name for number in range(arguments.members)])
        frames = first_frames(load_frames(work, ensemble.network, "train"), arguments.frames)
    else:
        ensemble = random_teachers(arguments.members, arguments.width)
        frames = random_frames(arguments.frames // UTTERANCE * UTTERANCE)
    network = ensemble.network
    print(f"{arguments.members} members of {network.layers} × {network.width}, {ensemble.num_pdfs} states,", end=" ")
    print(f"{len(frames)} frames, {arguments.threads} threads, {arguments.clock} clock")
    with tempfile.TemporaryDirectory() as name, threads(arguments.threads):
        if arguments.part in (None, "writing"):
            report_writing(clock, arguments.repeats, Path(name), ensemble, frames)
        if arguments.part in (None, "reading"):
            report_reading(clock, arguments.repeats, Path(name), ensemble, frames)
        if arguments.part in (None, "exactness"):
            report_exactness(Path(name), ensemble, first_frames(frames, 2000))


if __name__ == "__main__":
    main()
