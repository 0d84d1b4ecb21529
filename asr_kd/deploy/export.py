"""A trained network with all that recognition needs, as one directory that runs without torch."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd import __version__
from asr_kd.decode.search import load_graph, read_word_symbols
from asr_kd.deploy.bundle import ABOUT, CARD, FORMAT, GRAPH, INT8, LEXICON, NETWORK, STATES, WORDS, sha256
from asr_kd.deploy.card import model_card
from asr_kd.deploy.onnx_model import onnx_model, quantised
from asr_kd.errors import UserError
from asr_kd.files import atomic_path, read_json, write_json, write_text
from asr_kd.hmm.tree import Tree
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.pieces import MARK, Pieces
from asr_kd.nn.model import AcousticModel, load_model
from asr_kd.pipeline import Job, is_done
from asr_kd.recipe import Recipe
from asr_kd.recipe_file import load_recipe
from asr_kd.stages.decode import made_from
from asr_kd.workspace import LAST_TREE, Workspace

MODELS = {"baseline": "member-00"}  # systems that are called otherwise than their network


def export(work: Workspace, system: str, to: Path) -> dict[str, Any]:
    """Write a bundle of `system` (student or baseline) to the directory `to`; returns what its bundle.json says.

    bundle.json is written last, so a directory without it is no bundle. UserError when the experiment or the system is
    not decoded with the present recipe, the network reads other features than filterbanks, or `to` holds anything else.
    """
    recipe = _finished_recipe(work)
    model = _exportable(work, recipe, system)
    if to.exists() and not (to / ABOUT).exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to}: neither empty nor a bundle; name a new directory")
    (to / ABOUT).unlink(missing_ok=True)
    summary = read_json(work.decode(system) / "summary.json")
    symbols = read_word_symbols(work.lang / "words.txt")
    pieces = Pieces.of(work.lang, symbols) is not None
    network = onnx_model(model)
    penalty = summary["scales"]["word_penalty"]
    _write(to / NETWORK, lambda path: path.write_bytes(network.SerializeToString()))
    _write(to / INT8, lambda path: path.write_bytes(quantised(network)))
    _write_states(to / STATES, Tree.load(work.gmm(LAST_TREE) / "tree.json"), model)
    beginnings = [label for label, symbol in enumerate(symbols) if symbol.startswith(MARK)] if pieces else None
    graph = load_graph(work.graph(LAST_TREE) / GRAPH, penalty, beginnings)
    _write(to / GRAPH, lambda path: graph.write(str(path)))
    write_text(to / WORDS, "".join(f"{symbol} {label}\n" for label, symbol in enumerate(symbols)))
    write_text(to / LEXICON, "".join(_pronunciations(work, symbols, pieces)))

    about = _about(work, recipe, system, model, summary)
    about["pieces"] = pieces
    about["files"] = {name: _size(to / name) for name in (NETWORK, INT8, STATES, GRAPH, WORDS, LEXICON)}
    return write_about(to, about)


def write_about(root: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Write a bundle's card and, last, its bundle.json, which has the card's size too; returns what that says."""
    (root / ABOUT).unlink(missing_ok=True)  # it has the size of the card that is about to change
    files = {name: entry for name, entry in about["files"].items() if name != CARD}
    write_text(root / CARD, model_card({**about, "files": files}))
    about = {**about, "files": {**files, CARD: _size(root / CARD)}}
    write_json(root / ABOUT, about)
    return about


def _finished_recipe(work: Workspace) -> Recipe:
    path = work.root / "recipe.yaml"
    if not path.exists():
        raise UserError(f"{path}: missing; name the directory of a finished experiment")
    recipe = load_recipe(path)
    if not is_done(recipe, work, "decode"):
        raise UserError(f"{work.record('decode')}: missing or older than recipe.yaml; run --stage 7 (decode) first")
    return recipe


def _exportable(work: Workspace, recipe: Recipe, system: str) -> AcousticModel:
    """The system's network; UserError where it is none that a bundle can hold, or was not decoded as it is."""
    if system not in ("student", *MODELS):
        raise UserError(f"--model {system}: no single network that was decoded; name student or baseline")
    path = work.decode(system) / "summary.json"
    if not path.exists() or read_json(path).get("made_from") != made_from(Job(recipe, work), system):
        raise UserError(
            f"{path}: missing or older than recipe.yaml; name {system} in decode.systems and run --stage 7 (decode)"
        )
    model = load_model(work.model(MODELS.get(system, system)))
    if model.network.input != "fbank":
        raise UserError(
            f"--model {system}: its network.input is {model.network.input}; only networks on filterbanks (fbank) can "
            "be exported, for adapted features need a first pass with the GMM"
        )
    return model


def _about(
    work: Workspace, recipe: Recipe, system: str, model: AcousticModel, summary: dict[str, Any]
) -> dict[str, Any]:
    bank, network, decode = recipe.features.fbank, model.network, recipe.decode
    return {
        "format": FORMAT,
        "name": recipe.name,
        "system": system,
        "made": {"by": f"asr_kd {__version__}", "at": datetime.now(UTC).isoformat(timespec="seconds")},
        "trained": {"corpus": recipe.corpus.kind, "seed": recipe.seed, "members": recipe.teachers.members},
        "features": {
            "sample_rate": recipe.corpus.sample_rate,
            "num_bins": bank.num_bins,
            "low_freq": bank.low_freq,
            "high_freq": bank.high_freq,
        },
        "normalisation": {**bank.normalise.model_dump(), **_average_speaker(work)},
        "network": {
            "left": network.left,
            "right": network.right,
            "layers": network.layers,
            "width": network.width,
            "num_pdfs": model.num_pdfs,
            "parameters": model.parameter_count,
        },
        "decode": {
            **summary["scales"],
            "prior_scale": decode.prior_scale,
            "beam": decode.beam,
            "max_active": decode.max_active,
        },
        "measured": _measured(work, recipe, system, summary),
    }


def _average_speaker(work: Workspace) -> dict[str, list[float]]:
    """Mean, and standard deviation within speakers (utterances), of the training frames; (bins,) each."""
    rows = list(read_json(work.features("fbank", "train") / "stats.json").values())
    frames = np.array([row["frames"] for row in rows])
    mean = np.average([row["mean"] for row in rows], axis=0, weights=frames)
    variance = np.average(np.square([row["std"] for row in rows]), axis=0, weights=frames)
    return {"global_mean": mean.round(6).tolist(), "global_std": np.sqrt(variance).round(6).tolist()}


def _measured(work: Workspace, recipe: Recipe, system: str, summary: dict[str, Any]) -> dict[str, Any]:
    """The experiment's figures of the float32 network, see docs/formats.md; without its score, where it has none."""
    measured = {key: summary[key] for key in ("network_rtf", "search_rtf")}
    results: dict[str, Any] = read_json(work.results) if is_done(recipe, work, "score") else {"systems": {}}
    if scored := results["systems"].get(system):
        measured |= {key: scored[key] for key in ("wer", "frame_accuracy", "rtf")} | {"hours": results["hours"]}
    return measured


def _write_states(path: Path, tree: Tree, model: AcousticModel) -> None:
    if tree.num_pdfs != model.num_pdfs:
        raise UserError(f"{path}: the network has {model.num_pdfs} tied states, the tree {tree.num_pdfs}; train again")
    log_prior = model.log_prior.cpu().numpy()
    lines = [f"{phone} {state} {prior!s}\n" for (phone, state), prior in zip(_owners(tree), log_prior, strict=True)]
    write_text(path, "".join(lines))


def _owners(tree: Tree) -> list[tuple[str, int]]:
    """The base phone and the HMM state that each tied state belongs to, `-` where there is none."""
    owners: list[set[tuple[str, int]]] = [set() for _ in range(tree.num_pdfs)]
    for phone, roots in enumerate(tree.roots.tolist()):
        for state, root in enumerate(roots):
            for pdf in tree.leaves_below(root) if root >= 0 else ():
                owners[pdf].add((tree.phone_set.base(phone), state))
    if shared := next((owner for owner in owners if len(owner) > 1), None):
        names = " and ".join(f"{phone} {state}" for phone, state in sorted(shared))
        raise UserError(f"tree.json: {names} share a tied state; only trees that keep phones apart can be exported")
    return [min(owner, default=("-", 0)) for owner in owners]


def _pronunciations(work: Workspace, symbols: list[str], pieces: bool) -> list[str]:
    """Lines `word phone phone …` of the graph's words; a piece is pronounced by its letters."""
    if pieces:
        return [" ".join([symbol, *symbol.removeprefix(MARK)]) + "\n" for symbol in symbols]
    lexicon = Lexicon.read(work.lang / "lexicon.txt").restrict(symbols)
    return [" ".join([word, *phones]) + "\n" for word in lexicon for phones in lexicon[word]]


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    with atomic_path(path) as temporary:
        write(temporary)


def _size(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}
