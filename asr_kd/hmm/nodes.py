"""Whether the nodes of a decision tree read from a file are a tree: every walk down has to end, at a leaf."""

import numpy as np

from asr_kd.hmm.topology import MAX_STATES, is_silence
from asr_kd.lang.phones import PhoneSet

DEEPEST = 500  # nodes on one way down; trees of thousands of leaves have some dozens
MOST_PDFS = int(np.iinfo(np.int16).max)  # what an alignment can hold
LEAF = -1


def check_nodes(nodes: np.ndarray, roots: np.ndarray, phone_set: PhoneSet, num_questions: int) -> None:
    """nodes (n, 5): about, question, yes, no, pdf; roots (num_phones, MAX_STATES), −1 for none.

    Raises ValueError saying what is wrong. Nodes may be shared; whoever writes trees numbers all below a node higher
    than it, or all lower.
    """
    about, question, yes, no, pdf = nodes.T.astype(np.int64)
    numbers, inner = np.arange(len(nodes)), about != LEAF
    if not len(nodes) or roots.shape != (len(phone_set), MAX_STATES):
        raise ValueError("no nodes, or not a root for each phone and state")
    if ((about < LEAF) | (about > 2)).any() or ((pdf < 0) | (pdf >= MOST_PDFS))[~inner].any():
        raise ValueError("a node that is neither a question nor a leaf with a pdf")
    if inner.any() and not (0 <= question[inner].min() <= question[inner].max() < num_questions):
        raise ValueError("a node asks a question that is not there")
    below = np.stack([yes, no])[:, inner]
    if inner.any() and not (0 <= below.min() <= below.max() < len(nodes)):
        raise ValueError("a node leads to one that is not there")
    rising, falling = (below > numbers[inner]).all(), (below < numbers[inner]).all()
    if not (rising or falling):
        raise ValueError("a node leads back to itself")
    depth = np.zeros(len(nodes), np.int64)
    for number in numbers[::-1] if rising else numbers:
        if inner[number]:
            depth[number] = 1 + max(depth[yes[number]], depth[no[number]])
    if depth.max() > DEEPEST:
        raise ValueError(f"{depth.max()} questions below each other")
    for phone in range(len(phone_set)):
        states = 0 if phone == 0 else MAX_STATES if is_silence(phone_set, phone) else 3
        row = roots[phone]
        if (row[:states] < 0).any() or (row[states:] != -1).any() or (row >= len(nodes)).any():
            raise ValueError(f"the roots of phone {phone} are not those of its states")
