"""H: context windows to HMMs, HMM states to emissions, and the self-loops that are added last.

An arc of the finished graph emits on arrival, as in Kaldi's reordered graphs: entering a state by emission e costs
the transition, staying on it the self-loop of e, and every way out of it the probability of leaving. Self-loop and
leaving depend on e alone, so the graph is determinised and minimised without them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asr_kd.wfst.graph import Graph, arc_array

Topology = tuple[tuple[int, ...], ...]
Tree = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Emissions:
    """By emission id (0 stands for none): pdf, natural log of the probabilities of staying and of leaving."""

    pdf: np.ndarray
    log_stay: np.ndarray
    log_leave: np.ndarray

    def __len__(self) -> int:
        return len(self.pdf)

    @property
    def log_excess(self) -> np.ndarray:
        """Natural log of what staying and leaving add up to; 0 where that is 1 but for rounding.

        It is not where an imported tree shares a pdf between HMM states with more arcs and with fewer.
        """
        total = np.logaddexp(self.log_stay, self.log_leave)
        return np.where((np.abs(total) > 1e-3) & (np.arange(len(self)) > 0), total, 0.0)


@dataclass(frozen=True)
class Models:
    """The distinct HMMs of one topology, labelled first, first + 1, …

    emissions: (models, states) emission ids; forward[i][a]: (models,) natural log probability of arc a out of state i
    given that the state is left (0 for the self-loop).
    """

    topology: Topology
    first: int
    emissions: np.ndarray
    forward: tuple[np.ndarray, ...]

    @property
    def is_chain(self) -> bool:
        return all(arcs == (state, state + 1) for state, arcs in enumerate(self.topology))


def models_of_windows(
    windows: np.ndarray, topologies: dict[int, Topology], tree: Tree, log_transitions: np.ndarray
) -> tuple[np.ndarray, list[Models], Emissions]:
    """Merge context windows of one phone that the tree gives the same pdfs.

    Phones stay apart even where they share pdfs (word positions of one base phone do), as in Kaldi's transition ids:
    otherwise two segmentations of one pdf sequence into words would meet and the graph could not be determinised.

    windows: (n, 3) phone ids left, phone, right, 0 beyond the utterance; topologies: by phone id; tree: three (n,)
    arrays → (n, 5) pdfs, -1 beyond the topology's states; log_transitions: (pdfs, 4), see asr_kd.hmm.gmm.
    Returns each window's label, the models, and the emissions that their states share; labels lie above emission ids.
    """
    kinds = sorted(set(topologies.values()))
    kind_of_phone = np.full(max(topologies) + 1, -1)
    kind_of_phone[list(topologies)] = [kinds.index(topology) for topology in topologies.values()]
    phone = windows[:, 1]
    rows = np.column_stack([kind_of_phone[phone], phone, tree(windows[:, 0], phone, windows[:, 2])])
    distinct, window_model = np.unique(rows, axis=0, return_inverse=True)

    # An emission is a phone, a pdf, and the place of the self-loop among so many arcs: what its probabilities hang on.
    loops = np.array([[arcs.index(i) for i, arcs in enumerate(kind)] + [0] * (5 - len(kind)) for kind in kinds])
    degrees = np.array([[len(arcs) for arcs in kind] + [0] * (5 - len(kind)) for kind in kinds])
    kind, states = distinct[:, 0], distinct[:, 2:]
    phones = np.broadcast_to(distinct[:, 1:2], states.shape)
    keys = np.stack([phones, states, loops[kind], degrees[kind]], axis=-1)
    emitting = degrees[kind] > 0
    table, emission = np.unique(keys[emitting], axis=0, return_inverse=True)
    emission_ids = np.zeros(states.shape, np.int32)
    emission_ids[emitting] = emission.ravel() + 1

    emissions = _emissions(table, log_transitions)
    models, first = [], len(emissions)
    for number, topology in enumerate(kinds):
        members = emission_ids[kind == number, : len(topology)]
        forward = tuple(
            log_transitions[emissions.pdf[members[:, i]], : len(arcs)] - emissions.log_leave[members[:, i], None]
            for i, arcs in enumerate(topology)
        )
        models.append(Models(topology, first, members, forward))
        first += len(members)
    # np.unique sorts by kind first, so that model labels run through the kinds in order.
    return len(emissions) + window_model.ravel().astype(np.int32), models, emissions


def expand(graph: Graph, models: Models, transition_scale: float) -> Graph:
    """Replace every arc labelled with one of `models` by the HMM's states, without self-loops.

    All arcs of one label into one state share one copy of the HMM, whose last state is that state itself: the
    suffix sharing that minimisation would find. Raises ValueError for a topology whose last state has other arcs than
    its self-loop and the exit, or which can be left from elsewhere.
    """
    last = len(models.topology) - 1
    exits = [state for state, arcs in enumerate(models.topology) if last + 1 in arcs]
    if exits != [last] or models.topology[last] != (last, last + 1):
        raise ValueError(f"{models.topology}: only the last state may be left, and only to the exit")
    label = graph.arcs["ilabel"]
    chosen = (label >= models.first) & (label < models.first + len(models.emissions))
    old = graph.arcs[chosen]
    key = old["dest"].astype(np.int64) * len(models.emissions) + (old["ilabel"] - models.first)
    copies, copy = np.unique(key, return_inverse=True)
    dest, model = np.divmod(copies, len(models.emissions))
    inner = graph.num_states + np.arange(len(copies) * last).reshape(len(copies), last)
    nodes = np.column_stack([inner, dest])  # (copies, states): the graph's state for each HMM state
    emissions = models.emissions[model]

    sources = [graph.source[~chosen], graph.source[chosen]]
    arcs = [graph.arcs[~chosen], arc_array(emissions[copy, 0], old["olabel"], old["weight"], nodes[copy, 0])]
    for state, targets in enumerate(models.topology[:last]):
        for number, target in enumerate(targets):
            if target != state:
                cost = -transition_scale * models.forward[state][model, number]
                sources.append(nodes[:, state])
                arcs.append(arc_array(emissions[:, target], np.array(0), cost, nodes[:, target]))
    final = np.concatenate([graph.final, np.full(inner.size, np.inf, np.float32)])
    return Graph(graph.start, final, np.concatenate(sources).astype(np.int32), np.concatenate(arcs))


def add_self_loops(graph: Graph, emissions: Emissions, self_loop_scale: float) -> Graph:
    """Give every state a self-loop of the emission that enters it, and turn emissions into pdf + 1.

    Kaldi's AddSelfLoopsReorder: a state entered by several emissions, by none as well, or at the start, gets a state
    before it for each of them, joined by an epsilon arc.
    """
    excess = emissions.log_excess
    stay, leave = (-self_loop_scale * (log - excess) for log in (emissions.log_stay, emissions.log_leave))
    arcs, source = graph.arcs.copy(), graph.source
    emitting = arcs["ilabel"] > 0
    key = arcs["dest"][emitting].astype(np.int64) * len(emissions) + arcs["ilabel"][emitting]
    pairs, pair = np.unique(key, return_inverse=True)
    state, emission = np.divmod(pairs, len(emissions))
    alone = np.bincount(state, minlength=graph.num_states) == 1
    alone[arcs["dest"][~emitting]] = False
    alone[graph.start] = False

    split = ~alone[state]
    looping = state.copy()
    looping[split] = graph.num_states + np.arange(split.sum())
    arcs["dest"][emitting] = looping[pair]

    entered_by = np.zeros(graph.num_states, np.int64)
    entered_by[state[~split]] = emission[~split]
    arcs["weight"] += leave[entered_by[source]]
    final = np.concatenate([graph.final + leave[entered_by], np.full(split.sum(), np.inf)]).astype(np.float32)

    none = np.array(0)
    loops = arc_array(emission, none, stay[emission], looping)
    bridges = arc_array(none, none, leave[emission[split]], state[split])
    arcs = np.concatenate([arcs, loops, bridges])
    arcs["ilabel"] = np.where(arcs["ilabel"] > 0, emissions.pdf[arcs["ilabel"]] + 1, 0)
    return Graph(graph.start, final, np.concatenate([source, looping, looping[split]]).astype(np.int32), arcs)


def _emissions(table: np.ndarray, log_transitions: np.ndarray) -> Emissions:
    """table: (emissions, 4) phone, pdf, index of the self-loop, number of arcs."""
    _, pdf, loop, degree = table.T
    log_prob = log_transitions[pdf].astype(np.float64)
    column = np.arange(log_prob.shape[1])
    leaving = np.where((column != loop[:, None]) & (column < degree[:, None]), log_prob, -np.inf)
    with np.errstate(divide="ignore"):
        log_leave = np.log(np.exp(leaving).sum(axis=1))
    log_stay = log_prob[np.arange(len(pdf)), loop]
    return Emissions(*(np.concatenate([[0], values]) for values in (pdf, log_stay, log_leave)))
