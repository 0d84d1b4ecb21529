"""HCLG: one search graph from lexicon, grammar, decision tree and transitions, as Kaldi's utils/mkgraph.sh makes it.

Two steps, because every tree of an experiment shares the first: L ∘ G, then C and H on top of it. H is spelled out by
array expansion (asr_kd.wfst.hmm) instead of a composition; the ordinary phones before determinisation, so that
common beginnings are shared, silence after it, because its cycles gain nothing there.
"""

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np

from asr_kd.errors import UserError
from asr_kd.hmm.topology import arcs
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.phones import PhoneSet
from asr_kd.wfst.grammar import grammar
from asr_kd.wfst.graph import Graph, bypass_epsilons
from asr_kd.wfst.hmm import Tree, add_self_loops, expand, models_of_windows
from asr_kd.wfst.lexicon import (
    BACKOFF,
    Probabilities,
    lexicon_transducer,
    pronunciation_costs,
    pronunciations,
    read_words,
)
from asr_kd.wfst.pieces import piece_transducer

log = logging.getLogger("asr_kd")


@dataclass
class Seconds:
    """CPU seconds by name of a step."""

    steps: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        start = sum(os.times()[:4])  # own time and that of finished child processes
        yield
        self.steps[name] = round(sum(os.times()[:4]) - start, 2)


@dataclass(frozen=True)
class WordGraph:
    """LG, determinised and minimised, from phones to words; `disambiguation`: the phone ids that are not phones."""

    fst: kaldifst.StdVectorFst
    phones: PhoneSet
    disambiguation: list[int]
    seconds: dict[str, float]


def build_word_graph(lang: Path, silence_probability: float, probabilities: Probabilities | None = None) -> WordGraph:
    """L ∘ G of the files in `lang` (phones.txt, lexicon.txt, words.txt, lm.arpa), weights as in the log semiring.

    probabilities: of pronunciations; what has none has 1. UserError when a file is missing or wrong.
    """
    clock = Seconds()
    with clock.of("lexicon"):
        phones, words = PhoneSet.read(lang / "phones.txt"), read_words(lang / "words.txt")
        if (lang / "pieces.model").exists():
            lexicon, symbols = piece_transducer(words, phones, silence_probability)
        else:
            read = Lexicon.read(lang / "lexicon.txt")
            entries = pronunciations(read, words, phones)
            costs = pronunciation_costs(read, words, probabilities) if probabilities else None
            if not entries:
                raise UserError(f"{lang / 'lexicon.txt'}: no word of words.txt is in it; run --stage 2 (lang)")
            lexicon, symbols = lexicon_transducer(entries, phones, words[BACKOFF], silence_probability, costs)
        left = lexicon.to_fst()
        kaldifst.arcsort(left, "olabel")
    with clock.of("grammar"):
        right = grammar(lang / "lm.arpa", lang / "words.txt")
    with clock.of("LG compose"):
        fst = kaldifst.StdVectorFst(kaldifst.compose(left, right))
    with clock.of("LG determinise"):
        kaldifst.determinize_star(fst, use_log=True)
    with clock.of("LG minimise"):
        kaldifst.minimize_encoded(fst)
        kaldifst.arcsort(fst, "ilabel")
    return WordGraph(fst, phones, symbols, clock.steps)


def build_graph(
    words: WordGraph, tree: Tree, log_transitions: np.ndarray, transition_scale: float, self_loop_scale: float
) -> tuple[Graph, dict[str, Any]]:
    """HCLG with input label pdf + 1 on every arc that takes a frame, output word id; and its statistics.

    tree: Tree.pdfs of asr_kd.hmm.tree; log_transitions: (pdfs, 4) of asr_kd.hmm.gmm. Transition probabilities
    given that a state is left are scaled by transition_scale, those of staying and leaving by self_loop_scale.
    """
    clock = Seconds(dict(words.seconds))
    with clock.of("context"):
        fst, windows = kaldifst.compose_context(words.disambiguation, 3, 1, words.fst)
        graph = Graph.from_fst(fst)
        del fst
    with clock.of("models"):
        is_phone = np.array([len(window) == 3 for window in windows])
        context = np.array([window for window in windows if len(window) == 3])
        topologies = {phone: arcs(words.phones, phone) for phone in range(1, len(words.phones))}
        label, models, emissions = models_of_windows(context, topologies, tree, log_transitions)
        # Disambiguation symbols get labels above all models, and stay apart until determinisation is over.
        labels = np.arange(len(windows), dtype=np.int32) + models[-1].first + len(models[-1].emissions)
        labels[is_phone], labels[0] = label, 0
        graph.arcs["ilabel"] = labels[graph.arcs["ilabel"]]
        for model in models:
            if model.is_chain:
                graph = expand(graph, model, transition_scale)
        fst = graph.to_fst()
        del graph
    with clock.of("HCLG determinise"):
        kaldifst.determinize_star(fst, use_log=True)
    with clock.of("HCLG minimise"):
        kaldifst.minimize_encoded(fst)
    with clock.of("self-loops"):
        graph = Graph.from_fst(fst)
        del fst
        for model in models:
            if not model.is_chain:
                graph = expand(graph, model, transition_scale)
        graph.arcs["ilabel"][graph.arcs["ilabel"] >= len(emissions)] = 0
        graph = add_self_loops(bypass_epsilons(graph), emissions, self_loop_scale)
    stats = {
        "states": graph.num_states,
        "arcs": len(graph.arcs),
        "seconds": clock.steps,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    log.info("HCLG: %(states)d states, %(arcs)d arcs, CPU seconds %(seconds)s, peak %(peak_rss_mb)d MB", stats)
    return graph, stats
