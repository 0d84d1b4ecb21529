"""Random generators made from what they are for, so that no result depends on what was drawn before."""

import zlib

import numpy as np
import torch

Seed = tuple[int | str, ...]


def generator(key: Seed, device: str = "cpu") -> torch.Generator:
    """A generator whose stream depends on `key` alone, for example `(0, "member", 3, "order", epoch)`."""
    entropy = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in key]
    state = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed((int(state[0]) << 32 | int(state[1])) >> 1)
