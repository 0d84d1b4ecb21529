"""What a search needs, from the files of an experiment: for any process that sees them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from asr_kd.checksums import checksum_of
from asr_kd.decode.acoustics import Acoustics, alignment_log_prior, gmm_acoustics, network_acoustics
from asr_kd.decode.recognition import Outcome, Task
from asr_kd.decode.search import KaldiSearcher, load_graph
from asr_kd.decode.tuning import Point
from asr_kd.distill.inference import load_specialists
from asr_kd.features.store import FrameStore
from asr_kd.files import atomic_path
from asr_kd.hmm.scorer import load_scorer as load_gmm
from asr_kd.nn.posteriors import Scorer as NetworkScorer
from asr_kd.nn.posteriors import load_scorer as load_network
from asr_kd.recipe import Recipe, Width
from asr_kd.workspace import Workspace


def load_networks(work: Workspace, recipe: Recipe, name: str) -> NetworkScorer:
    """baseline (member 0), ensemble, specialists or student."""
    if name == "specialists":
        assert recipe.specialists is not None  # load_recipe sees to it
        return NetworkScorer(work, load_specialists(work, recipe.specialists), "cpu")
    members = [work.member(index).name for index in range(recipe.teachers.members)]
    models = {"baseline": members[:1], "ensemble": members, "student": ["student"]}[name]
    return load_network(work, models, recipe.decode.mean or recipe.targets.mean)


def load_network_acoustics(work: Workspace, recipe: Recipe, name: str, split: str) -> Acoustics:
    return network_acoustics(load_networks(work, recipe, name), split, recipe.decode.prior_scale)


def load_gmm_acoustics(
    work: Workspace, recipe: Recipe, step: str, split: str, of_alignment: bool, transforms: Path | None
) -> Acoustics:
    """transforms: file of each utterance's, where the step's adapted model is meant."""
    scorer = load_gmm(work, step, recipe.hmm.lda_context, recipe.hmm.fmllr_min_frames)
    if transforms:
        scorer = replace(scorer, gmm=scorer.step.gmm, transforms=load_transforms(transforms))
    return gmm_acoustics(scorer, split, alignment_log_prior(work) if of_alignment else None)


def load_searcher(graph: Path, beginnings: Sequence[int] | None, point: Point, width: Width) -> KaldiSearcher:
    loaded = load_graph(graph, point.word_penalty, beginnings)
    return KaldiSearcher(loaded, 1 / point.lm_scale, width.beam, width.max_active)


def load_search(
    acoustics: Callable[[], Acoustics],
    graph: Path,
    beginnings: Sequence[int] | None,
    point: Point,
    width: Width,
    alignment: Path | None,
    paths: bool,
) -> Callable[[str], Outcome]:
    """What a search does with an utterance, all of it from files."""
    searcher = load_searcher(graph, beginnings, point, width)
    return Task(acoustics(), searcher, FrameStore(alignment) if alignment else None, paths).recognise


def save_transforms(folder: Path, transforms: dict[str, Tensor]) -> Path:
    """The file in `folder`, named after its contents, with each utterance's matrix."""
    contents = save({utterance: matrix.contiguous().clone() for utterance, matrix in transforms.items()})
    path = folder / f"{checksum_of(contents)}.safetensors"
    with atomic_path(path) as temporary:
        temporary.write_bytes(contents)
    return path


def load_transforms(path: Path) -> dict[str, Tensor]:
    """Copies: products of what lies unaligned in a mapped file may end in other last bits."""
    return {utterance: matrix.clone() for utterance, matrix in load_file(path).items()}
