"""HMM topologies: three states left to right for phones, five with a skipping middle for silence and noise.

As Kaldi's utils/gen_topo.pl: arcs out of a state are listed as destination states; a destination equal to the number
of emitting states leaves the phone.
"""

import numpy as np

from asr_kd.lang.phones import NOISE, SILENCE, PhoneSet

Arcs = tuple[tuple[int, ...], ...]
PHONE_ARCS: Arcs = ((0, 1), (1, 2), (2, 3))
SILENCE_ARCS: Arcs = ((0, 1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), (4, 5))
MAX_STATES = 5
MAX_ARCS = 4


def is_silence(phone_set: PhoneSet, phone: int) -> bool:
    """Silence and spoken noise: five states, no phonetic context."""
    return phone_set.base(phone) in (SILENCE, NOISE)


def arcs(phone_set: PhoneSet, phone: int) -> Arcs:
    """For each emitting state of the phone, its destination states in arc order."""
    return SILENCE_ARCS if is_silence(phone_set, phone) else PHONE_ARCS


class ContextCodes:
    """One integer for (left phone, phone, right phone, HMM state), the unit of alignments and tree statistics.

    Silence and noise have no context: their left and right are 0.
    """

    def __init__(self, num_phones: int) -> None:
        self.num_phones = num_phones

    def encode(self, left: int, phone: int, right: int, state: int = 0) -> int:
        return ((left * self.num_phones + phone) * self.num_phones + right) * MAX_STATES + state

    def decode(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """codes (n,) → left, phone, right, state, each (n,)."""
        unit, state = np.divmod(codes, MAX_STATES)
        rest, right = np.divmod(unit, self.num_phones)
        left, phone = np.divmod(rest, self.num_phones)
        return left, phone, right, state
