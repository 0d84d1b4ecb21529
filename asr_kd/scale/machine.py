"""What a machine can do, by a short calibration: its products, and one of its cores at everything else."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from asr_kd.nn.products import Precision, product_type, threads

SIZE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
SORTED = 1 << 20
REFERENCE_SORT_SECONDS = 0.080  # of the machine that docs/scale.md describes


@dataclass(frozen=True)
class Machine:
    """Operations a second of products in training's number type and in float32, over `jobs` cores or on the device.

    core: speed of one core, 1 that of the machine that the costs were measured on.
    """

    train_flops: float
    infer_flops: float
    core: float
    jobs: int

    def __str__(self) -> str:
        speeds = f"products {self.train_flops / 1e12:.3g} TFLOP/s in training, {self.infer_flops / 1e12:.3g} in float32"
        return f"{self.jobs} cores of speed {self.core:.2g}, {speeds}"


def calibrate(device: str, jobs: int, precision: Precision, tflops: tuple[float, float] | None = None) -> Machine:
    """Measure this machine, in about two seconds; `tflops`: training's and float32's products are known."""
    with threads(jobs):
        if tflops:
            train, infer = tflops[0] * 1e12, tflops[1] * 1e12
        else:
            train = product_flops(product_type(precision, device), device)
            infer = product_flops(torch.float32, device)
        return Machine(train, infer, REFERENCE_SORT_SECONDS / sort_seconds(), jobs)


def product_flops(dtype: torch.dtype, device: str) -> float:
    """Operations a second of one large product, the fastest of five."""
    size = SIZE[device.split(":")[0]]
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)
        if left.is_cuda:
            torch.cuda.synchronize()

    multiply()
    return 2 * size**3 / fastest(multiply)


def sort_seconds() -> float:
    """Of sorting a million numbers on one core, by no vectorised sort: branches and memory, as a search has them."""
    numbers = np.random.default_rng(0).integers(0, 1 << 30, SORTED)
    return fastest(lambda: np.sort(numbers, kind="stable"))


def fastest(action: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)
