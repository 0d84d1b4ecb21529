"""Speaker-adapted features for networks whose recipe says `input: fmllr`."""

import numpy as np

from asr_kd.corpora.manifest import load_cuts
from asr_kd.decode.systems import LAST_TREE, SPLITS, Decoding
from asr_kd.features.store import FrameStore, write_store
from asr_kd.files import read_json
from asr_kd.hmm.scorer import Scorer, load_scorer


def write_adapted_features(decoding: Decoding) -> None:
    """Write hmm/fmllr/{train,dev,test}, unless they are there for the same language, alignment and first pass.

    Train speakers' transforms come from the forced alignment, those of dev and test from what the first pass
    recognises: no transcript of theirs is used (Kaldi's nnet recipes on fMLLR features do the same).
    """
    work, hmm = decoding.work, decoding.job.recipe.hmm
    made_from = [*decoding.graph_inputs, decoding.recipe.first_pass.model_dump(), decoding.recipe.acoustic_scale]
    index = work.adapted("test") / "index.json"
    if index.exists() and read_json(index)["meta"].get("made_from") == made_from:
        return
    scorer = load_scorer(work, LAST_TREE, hmm.lda_context, hmm.fmllr_min_frames)
    adapted = {"train": _adapt_to_alignment(decoding, scorer)}
    adapted |= {split: decoding.adapted(scorer, split)[0] for split in SPLITS}
    for split, speaker_scorer in adapted.items():
        utterances = decoding.job.progress(speaker_scorer.transforms or {}, f"{split} adapted features")
        rows = {u: speaker_scorer.adapted_features(split, u).numpy().astype(np.float16) for u in utterances}
        write_store(work.adapted(split), rows, {"kind": "fmllr", "made_from": made_from})


def _adapt_to_alignment(decoding: Decoding, scorer: Scorer) -> Scorer:
    alignment = FrameStore(decoding.work.alignment("train"))
    speakers = {cut.id: cut.supervisions[0].speaker for cut in load_cuts(decoding.work.manifest("train"))}
    return scorer.adapt("train", {u: alignment[u][:, 0].astype(np.int64) for u in alignment}, speakers)
