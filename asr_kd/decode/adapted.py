"""Speaker-adapted features for networks whose recipe says `input: fmllr` or `fmllr+fbank`."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr_kd import scratch
from asr_kd.checksums import seal, unseal
from asr_kd.corpora.manifest import read_cuts, sped_up
from asr_kd.decode.systems import SPLITS, Decoding
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore, write_store
from asr_kd.files import read_json, write_json
from asr_kd.hmm.scorer import Scorer, load_scorer
from asr_kd.workspace import LAST_TREE
from asr_kd.workspace import SPLITS as ALL_SPLITS


def write_adapted_features(decoding: Decoding, with_fbank: bool = False) -> None:
    """Write hmm/fmllr/{train,dev,test}, unless they are there for the same language, alignment and first pass.

    Train speakers' transforms come from the forced alignment, those of dev and test from what the first pass
    recognises: no transcript of theirs is used (Kaldi's nnet recipes on fMLLR features do the same).
    with_fbank: write hmm/fmllr+fbank/{train,dev,test} too, each frame's filterbanks behind its adapted features.
    """
    work, hmm = decoding.work, decoding.job.recipe.hmm
    made_from = [*decoding.graph_inputs, decoding.recipe.first_pass.model_dump(), decoding.recipe.acoustic_scale]
    if decoding.recipe.adapt:
        made_from.append(decoding.recipe.adapt)
    if not (_is_there(work.adapted("test"), made_from) and work.adapting_seconds.exists()):
        unseal(work.adapting_seconds.parent)
        scorer = load_scorer(work, LAST_TREE, hmm.lda_context, hmm.fmllr_min_frames)
        adapted = {"train": _adapt_to_alignment(decoding, scorer)}
        for split in SPLITS:
            adapted[split], seconds = decoding.adapted(scorer, split)
        write_json(work.adapting_seconds, seconds.tolist())  # test's, the last
        for split, speaker_scorer in adapted.items():
            utterances = list(speaker_scorer.transforms or {})
            frames = (
                torch.from_numpy(speaker_scorer.adapted_features(split, u).numpy().astype(np.float16))
                for u in decoding.job.progress(utterances, f"{split} adapted features")
            )
            rows = by_utterance(utterances, FrameStore(work.features("mfcc", split)), frames)
            write_store(work.adapted(split), rows, {"kind": "fmllr", "made_from": made_from})
        seal(work.adapting_seconds.parent)
    kind = "fmllr+fbank"
    if with_fbank and not _is_there(work.adapted("test", kind), made_from):
        unseal(work.adapted("test", kind).parent)
        for split in ALL_SPLITS:
            joined = side_by_side(FrameStore(work.adapted(split)), FrameStore(work.features("fbank", split)))
            write_store(work.adapted(split, kind), joined, {"kind": kind, "made_from": made_from})
        seal(work.adapted("test", kind).parent)


def by_utterance(utterances: Sequence[str], like: FrameStore, arrays: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """`arrays`, one an utterance and as long as in `like`: made before anything is written, and not kept in memory."""
    ends = np.cumsum([like.frames(u) for u in utterances])
    rows = scratch.stacked(arrays, int(ends[-1]) if len(ends) else 0).numpy()
    return dict(zip(utterances, np.split(rows, ends[:-1]), strict=True))


def side_by_side(first: FrameStore, second: FrameStore) -> Iterator[tuple[str, np.ndarray]]:
    """The utterances of both stores, each frame's values of `second` behind those of `first`.

    Raises UserError where an utterance's frames differ in number.
    """
    for utterance in (name for name in first if name in second):
        if first.frames(utterance) != second.frames(utterance):
            raise UserError(
                f"{first.path}: {utterance} has {first.frames(utterance)} frames, {second.frames(utterance)} in "
                f"{second.path}; run --stage 1 (features) again"
            )
        yield utterance, np.hstack([first[utterance], second[utterance]])


def _is_there(path: Path, made_from: list[Any]) -> bool:
    index = path / "index.json"
    return index.exists() and read_json(index)["meta"].get("made_from") == made_from


def _adapt_to_alignment(decoding: Decoding, scorer: Scorer) -> Scorer:
    alignment, manifest = FrameStore(decoding.work.alignment("train")), decoding.work.manifest("train")
    cuts = chain(read_cuts(manifest), sped_up(read_cuts(manifest), decoding.job.recipe.features.speed))
    speakers = {cut.id: cut.supervisions[0].speaker for cut in cuts}
    return scorer.adapt("train", {u: alignment[u][:, 0] for u in alignment}, speakers)
