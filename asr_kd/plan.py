"""The nine stages: what each uses of the recipe, which files it reads, and which it leaves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """`keys`: recipe keys it uses; `needs`: stages whose files it reads. The code is asr_kd.stages.NAME.run(job).

    `after`: stages it reads too, of which only the recipe keys named in `keys` change what it reads. `files`: what it
    leaves below the experiment directory, as glob patterns; logs and what several stages share (graphs, adapted
    features) aside. `reads`: stages whose files it may read too, and on whose keys it depends through `needs`.
    """

    name: str
    keys: tuple[str, ...]
    needs: tuple[str, ...]
    title: str
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """All stages whose files it may read."""
        return (*self.needs, *self.after, *self.reads)


# What of the language decides the alignment: all but the n-gram's sizes, so sweeping those trains nothing.
LEXICON_KEYS = (
    "lexicon",
    "stress",
    "g2p",
    "vocabulary",
    "vocabulary_in_lexicon_only",
    "max_words",
    "units",
    "ngram.arpa",
)

STAGES = (
    Stage("prepare", ("corpus", "seed"), (), "corpus to manifests", files=("manifests", "corpus")),
    Stage("features", ("features", "corpus.sample_rate"), ("prepare",), "filterbanks and MFCC", files=("features",)),
    Stage("lang", ("lang", "seed"), ("prepare",), "lexicon and language model", files=("lang",)),
    Stage(
        "align",
        ("hmm", "seed", *(f"lang.{key}" for key in LEXICON_KEYS)),
        ("prepare", "features"),
        "GMM-HMM, tied states, alignment",
        after=("lang",),
        files=("hmm/mono", "hmm/tri", "hmm/lda", "hmm/sat", "hmm/alignment", "hmm/*.json", "models/realignment*"),
    ),
    Stage(
        "teachers",
        ("teachers", "specialists", "targets.mean", "seed"),
        ("features", "align"),
        "the ensemble's networks",
        files=("models/member-*", "models/ensemble.json", "models/correct.json", "models/specialist*"),
        reads=("prepare", "lang"),
    ),
    Stage(
        "targets",
        ("targets",),
        ("features", "align", "teachers"),
        "the ensemble's soft posteriors",
        files=("targets",),
    ),
    Stage(
        "student",
        ("student", "teachers.network", "seed"),
        ("features", "align", "targets"),
        "the distilled network",
        files=("models/student",),
        reads=("prepare", "lang", "teachers"),
    ),
    Stage(
        "decode",
        ("decode",),
        ("lang", "align", "teachers", "student"),
        "graphs and search",
        files=("decode/*",),
        reads=("prepare", "features"),
    ),
    Stage(
        "score",
        ("score", "name"),
        ("targets", "decode"),
        "tables, plots, report",
        files=("results.json", "report.md", "plots"),
        reads=("prepare", "lang", "align", "teachers", "student"),
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def required(stage: Stage) -> list[str]:
    """Stages that have to be done under the present recipe before `stage` runs: all that it reads, but for those of
    which its result depends on some keys only, and that `after` does not name.
    """
    return [*stage.needs, *stage.after, *(name for name in stage.reads if name in _ancestors(stage))]


def _ancestors(stage: Stage) -> set[str]:
    needs = {name: STAGES[STAGE_NAMES.index(name)] for name in stage.needs}
    return set(needs).union(*map(_ancestors, needs.values()))
