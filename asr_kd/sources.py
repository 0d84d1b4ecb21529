"""The text files outside the experiment that a stage reads: a corpus's lists, and what the recipe names.

Their sizes and checksums are in the stage's completion record, so that a lexicon that is mended later is noticed. The
recordings are listed in manifests/audio.json.
"""

import glob
from collections.abc import Iterator
from pathlib import Path

from asr_kd.checksums import Damage, Recorded, find_damage, is_recorded, record_files
from asr_kd.errors import UserError
from asr_kd.integrity import read_record
from asr_kd.plan import STAGE_NAMES
from asr_kd.recipe import Corpus, Recipe
from asr_kd.workspace import Workspace

SOURCES = "sources"  # entry of a completion record
JSON_LINES = ("jsonl", "jsonl.gz")
CHAPTERS = ("{part}/**/*.trans.txt",)
LISTS: dict[str, tuple[str, ...]] = {  # patterns below corpus.dir, by kind of corpus
    "librispeech": CHAPTERS,
    "mini_librispeech": CHAPTERS,
    "kaldi": tuple(f"{{part}}/{name}" for name in ("wav.scp", "utt2spk", "text", "segments")),
    "lhotse": tuple(f"*{kind}_{{part}}.{end}" for kind in ("recordings", "supervisions") for end in JSON_LINES),
    "manifest": tuple(f"{{part}}.{end}" for end in JSON_LINES),
}


def record_sources(recipe: Recipe, stage: str, jobs: int = 1) -> Recorded:
    """Sizes, times of change and checksums of the files that `stage` reads under the recipe, by absolute path."""
    paths = {path.absolute() for path in _named(recipe, stage) if path.is_file()}
    return {f"/{name}": row for name, row in record_files(Path("/"), sorted(paths), jobs).items()}


def changed_sources(work: Workspace, stage: str, thorough: bool | None = False, jobs: int = 1) -> list[Damage]:
    """Those that are not as the finished stage read them; thorough: see find_damage. One that is gone is not needed."""
    try:
        recorded = (read_record(work, stage) or {}).get(SOURCES)
    except UserError:  # the record itself is damaged, which examine tells
        return []
    found = find_damage(work.root, recorded, thorough, jobs) if is_recorded(recorded) else []
    return [damage for damage in found if not damage.missing]


def describe(stage: str, damage: Damage) -> str:
    return f"{damage.path}: {damage.what}, not as stage {STAGE_NAMES.index(stage)} ({stage}) read it"


def _named(recipe: Recipe, stage: str) -> Iterator[Path]:
    corpus, lang, external = recipe.corpus, recipe.lang, recipe.hmm.external
    if stage == "prepare":
        yield from _lists(corpus)
        yield from [Path(corpus.lm_text)] if corpus.lm_text else []
    elif stage == "lang":
        yield from [Path(lang.lexicon)] if lang.lexicon != "cmudict" else []
        yield from [Path(lang.ngram.arpa)] if lang.ngram.arpa else []
    elif stage == "score":
        yield from [Path(recipe.score.vocabulary)] if recipe.score.vocabulary else []
    elif stage == "align" and external:
        named = [*external.alignment, external.tree or "", external.phones or ""]
        patterns = [name.rpartition(":")[2] for name in named]  # after `ark:` or `ark,t:`
        yield from [Path(path) for pattern in patterns for path in (pattern, *_matching(pattern))]


def _lists(corpus: Corpus) -> Iterator[Path]:
    folder = Path(glob.escape(corpus.dir or "."))
    for part in dict.fromkeys((*corpus.train, *corpus.dev, *corpus.test)):
        for pattern in LISTS.get(corpus.kind, ()):
            yield from map(Path, _matching(str(folder / pattern.format(part=glob.escape(part)))))


def _matching(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True)  # noqa: PTH207 - absolute patterns too
