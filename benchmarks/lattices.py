"""What lattices cost and what they hold, by the beam of the search for them.

    python benchmarks/lattices.py EXP [--system student] [--split dev] [--seconds 150] [--beams 7 9 11] [--keep 6]
                                  [--max-states 50]

EXP is a finished experiment; the system is searched with the scales tuned on dev. The last row is the search as the
recipe's `decode.lattice` has it: from beam to beam while the lattice has no more than so many states a frame. Times are
CPU seconds a second of audio, of the search for one sentence and that for the lattice, of leaving the best alignment of
each sentence, and of listing the 100 best; `slowest` is the utterance for which they are most. Oracle: the word error
rate of the sentence with the fewest errors in each lattice; WER: of the cheapest one.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from asr_kd.decode.lattice_search import KaldiLatticeSearcher
from asr_kd.decode.nbest import edits, merge
from asr_kd.decode.search import KaldiSearcher, load_graph
from asr_kd.decode.systems import Decoding
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.pipeline import Job, fingerprint
from asr_kd.recipe_file import load_recipe
from asr_kd.workspace import Workspace

HEADER = "| beams | time | slowest | states a frame | sentences | WER | oracle |\n" + "|---" * 7 + "|"


def measure(
    searcher: KaldiLatticeSearcher, scores: dict[str, np.ndarray], references: dict[str, list[int]], audio: np.ndarray
) -> str:
    """The figures of a row; audio: seconds of each utterance."""
    rows = []
    for name, reference in references.items():
        start = time.process_time()
        found = searcher.search(scores[name])
        listed = merge(found.lattice, found.best, 100)
        spent = time.process_time() - start
        oracle = edits(reference, found.best.words)
        if found.lattice:
            oracle = min(oracle, found.lattice.oracle(reference))
        rows.append((spent, found.density, len(listed), edits(reference, listed[0][0]), oracle))
    spent, density, sentences, wrong, oracle = np.array(rows).T
    spoken = sum(map(len, references.values()))
    return (
        f"{spent.sum() / audio.sum():.3f} | {(spent / audio).max():.2f} | {density.mean():.0f} | "
        f"{sentences.mean():.0f} | {wrong.sum() / spoken:.2%} | {oracle.sum() / spoken:.2%} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--system", default="student")
    parser.add_argument("--split", choices=["dev", "test"], default="dev")
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--beams", nargs="+", type=float, default=[7.0, 9.0, 11.0])
    parser.add_argument("--keep", type=float, default=6.0)
    parser.add_argument("--max-states", type=float, default=50.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        recipe = load_recipe(arguments.exp / "recipe.yaml")
        work = Workspace(arguments.exp)
        # As stage 7 has it, or a graph would be made again in the experiment.
        decoding = Decoding(Job(recipe, work), [fingerprint(recipe, stage) for stage in ("lang", "align")])
        if decoding.pieces:
            raise UserError("a lattice over pieces of words cannot tell its word errors")
        scales = read_json(work.decode(arguments.system) / "summary.json")["scales"]
        system, speech = decoding.system(arguments.system), decoding.speech[arguments.split]
        graph = load_graph(work.graph(system.tree) / "HCLG.fst", scales["word_penalty"])
    except UserError as error:
        print(f"benchmarks/lattices.py: {error}", file=sys.stderr)
        return 2
    utterances = speech.sample(arguments.seconds, recipe.seed)
    ids = {symbol: number for number, symbol in enumerate(decoding.symbols)}
    scores = {name: system.acoustics[arguments.split].scores(name) for name in utterances}
    references = {name: [ids.get(word, 0) for word in speech.words[name]] for name in utterances}
    audio = np.array(list(utterances.values()))
    print(f"{len(utterances)} utterances, {audio.sum():.0f} s of {arguments.split}, {arguments.system}\n\n{HEADER}")
    one_best = KaldiSearcher(graph, 1 / scales["lm_scale"], recipe.decode.beam, recipe.decode.max_active)
    schedules = [((beam,), np.inf) for beam in arguments.beams] + [(tuple(arguments.beams), arguments.max_states)]
    for beams, most in schedules:
        searcher = KaldiLatticeSearcher(one_best, beams, arguments.keep, most)
        print(f"| {' '.join(f'{b:g}' for b in beams)} | {measure(searcher, scores, references, audio)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
