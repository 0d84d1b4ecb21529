"""What a system's lattices hold and what another n-gram makes of them, for results.json."""

from typing import Any

from asr_kd.files import read_json
from asr_kd.recipe import Recipe
from asr_kd.score.wer import SCORED, Words, read_hypotheses, word_errors
from asr_kd.workspace import Workspace

KEYS = ("oracle_wer", "sentences", "states_per_frame", "network_rtf", "search_rtf", "confidence")


def lattice_figures(recipe: Recipe, work: Workspace, name: str, references: dict[str, Words]) -> dict[str, Any]:
    """`{"lattice": {…}}` as docs/formats.md has it; nothing of a recipe without lattices.

    Raises UserError that names the file when stage 7 has left something out.
    """
    if recipe.decode.lattice is None:
        return {}
    figures = read_json(work.decode(name) / "lattice.json")
    found = {key: figures[key] for key in KEYS}
    if recipe.decode.lattice.rescore:
        samples, seed = recipe.score.bootstrap_samples, recipe.seed
        words = {s: read_hypotheses(work.decode(name) / f"{s}.rescored.txt", references[s]) for s in SCORED}
        wer = {split: word_errors(references[split], words[split], samples, seed) for split in SCORED}
        found["rescored"] = {"scales": figures["rescored"]["scales"], "wer": wer}
    return {"lattice": found}
