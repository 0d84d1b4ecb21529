"""Stage 3 where the recipe has hmm.external: Kaldi's alignment, and its tree, in place of GMM training."""

from pathlib import Path

import numpy as np

from asr_kd.corpora.manifest import read_cuts
from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore, write_store
from asr_kd.files import write_json
from asr_kd.hmm.boundaries import boundary_errors, summarise
from asr_kd.hmm.transcript import TranscriptCompiler
from asr_kd.hmm.tree import Tree
from asr_kd.kaldi.archive import read_alignments
from asr_kd.kaldi.following import alignment_rows, follow, transitions_of, without_gaussians
from asr_kd.kaldi.matching import Match, count_pdfs, examples, match
from asr_kd.kaldi.tree import read_tree
from asr_kd.lang.lexicon import Lexicon
from asr_kd.lang.phones import PhoneSet
from asr_kd.nn.products import threads
from asr_kd.pipeline import Job
from asr_kd.recipe import External
from asr_kd.stages.align import load_part
from asr_kd.workspace import LAST_TREE, SPLITS

Tables = dict[str, dict[str, np.ndarray]]


def run(job: Job) -> None:
    external, work = job.recipe.hmm.external, job.work
    assert external is not None  # the pipeline sees to it
    alignments = read_alignments(external.alignment)
    tree = load_tree(job, external)
    matches = {split: match(split, FrameStore(work.features("fbank", split)), alignments) for split in SPLITS}
    num_pdfs = count_pdfs(external, tree, matches.values())
    for name in ("tree.json", "model.safetensors"):
        (work.gmm(LAST_TREE) / name).unlink(missing_ok=True)  # of an earlier alignment, whose pdfs are others
    tables = follow_transcripts(job, tree, matches) if tree else pdf_columns(matches)
    for split, rows in tables.items():
        write_store(work.alignment(split), rows, {"num_pdfs": num_pdfs, "tree_hash": tree.digest if tree else None})
        write_json(work.failed_alignments(split), matches[split].left_out)
    write_boundaries(job, tables)
    unknown = sorted(set(alignments).difference(*(FrameStore(work.features("fbank", split)) for split in SPLITS)))
    job.log.info("%d pdfs; %d utterances of the archives are in no split%s", num_pdfs, len(unknown), examples(unknown))
    lists = {split: {"missing": m.missing, "mismatched": m.mismatched} for split, m in matches.items()}
    write_json(work.hmm / "external.json", {"num_pdfs": num_pdfs, "unknown": unknown, **lists})


def load_tree(job: Job, external: External) -> Tree | None:
    if external.tree is None:
        return None
    phones = Path(external.phones) if external.phones else None
    phone_set = PhoneSet.read(job.work.lang / "phones.txt")
    return read_tree(Path(external.tree), phone_set, phones, external.silence, external.noise)


def pdf_columns(matches: dict[str, Match]) -> Tables:
    """All that is known without a tree: (frames, 1)."""
    return {
        split: {name: pdfs[:, None].astype(np.int16) for name, pdfs in found.pdfs.items()}
        for split, found in matches.items()
    }


def follow_transcripts(job: Job, tree: Tree, matches: dict[str, Match]) -> Tables:
    """Phones and words of every frame; from those of train the transition probabilities, saved with the tree.

    UserError when most of train fits no pronunciation: then lexicon or tree is another system's.
    """
    compiler = TranscriptCompiler(tree.phone_set, Lexicon.read(job.work.lang / "lexicon.txt").entries)
    model, tables = without_gaussians(tree), {}
    for split, found in job.progress(matches.items(), "phones and words of the alignment"):
        cuts = [cut for cut in read_cuts(job.work.manifest(split)) if cut.id in found.pdfs]
        with threads(1):  # batches of utterances run in threads of their own
            speech = load_part(job, split, cuts, compiler)
            alignment = follow(speech, found.pdfs, model, job.jobs)
        failed = [speech.utterances[u] for u in alignment.failed]
        if split == "train" and 2 * len(failed) > len(speech):
            raise UserError(
                f"hmm.external: {len(failed)} of {len(speech)} training alignments fit no pronunciation of their "
                f"transcripts{examples(failed)}; set lang.lexicon and lang.stress as for that system, or "
                "hmm.external.tree to null"
            )
        if failed:
            job.log.warning("%s: %d fit no pronunciation of theirs%s", split, len(failed), examples(failed))
        tables[split] = alignment_rows(tree, speech, alignment, found.pdfs)
        if split == "train":
            without_gaussians(tree, transitions_of(tree, speech, alignment)).save(job.work.gmm(LAST_TREE))
    return tables


def write_boundaries(job: Job, tables: Tables) -> None:
    """hmm/boundaries.json, of the utterances whose words are known."""
    boundaries = {}
    for split, rows in tables.items():
        known = {name for name, table in rows.items() if table.shape[1] > 1 and table[:, 2].all()}
        cuts = (cut for cut in read_cuts(job.work.manifest(split), word_times=True) if cut.id in known)
        errors = boundary_errors(cuts, FrameStore(job.work.alignment(split)))
        if len(errors):
            boundaries[split] = summarise(errors)
    write_json(job.work.hmm / "boundaries.json", boundaries)
