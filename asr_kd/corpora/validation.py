"""What is wrong with a corpus, gathered by kind: the report of `asr-kd validate` and of stage 0."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from asr_kd.corpora.utterance import Fault, Utterance
from asr_kd.errors import UserError

LISTED = 10
SHARED_SPEAKER = "speaker in two splits"


@dataclass(frozen=True)
class Finding:
    """One fault: of an utterance, or of a speaker or word (`id`) of a split."""

    split: str
    id: str
    fault: Fault


@dataclass
class Report:
    """Findings in the order of the corpus; `utterances`: how many each split describes."""

    findings: list[Finding] = field(default_factory=list)
    utterances: dict[str, int] = field(default_factory=dict)

    def add(self, split: str, name: str, fault: Fault) -> None:
        self.findings.append(Finding(split, name, fault))

    @property
    def left_out(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.fault.is_note]

    def by_kind(self) -> dict[str, list[Finding]]:
        """Findings by kind, those that leave utterances out first, the commonest first."""
        kinds: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            kinds[finding.fault.kind].append(finding)
        return dict(sorted(kinds.items(), key=lambda item: (item[1][0].fault.is_note, -len(item[1]), item[0])))

    def lines(self) -> list[str]:
        """For a terminal: each kind with its count, below it the first ten."""
        lines = []
        for kind, findings in self.by_kind().items():
            lines.append(f"{kind}: {len(findings)}" + (" (not left out)" if findings[0].fault.is_note else ""))
            lines += [f"  {finding.split} {finding.id}: {finding.fault.reason}" for finding in findings[:LISTED]]
            lines += [f"  and {len(findings) - LISTED} more"] * (len(findings) > LISTED)
        total = sum(self.utterances.values())
        return [*lines, f"{total} utterances, {len(self.left_out)} cannot be used"]

    def as_json(self) -> dict[str, Any]:
        return {
            "utterances": self.utterances,
            "left_out": {split: sum(f.split == split for f in self.left_out) for split in self.utterances},
            "kinds": {
                kind: {
                    "count": len(findings),
                    "left_out": not findings[0].fault.is_note,
                    "first": [{"split": f.split, "id": f.id, "reason": f.fault.reason} for f in findings[:LISTED]],
                }
                for kind, findings in self.by_kind().items()
            },
        }

    def refuse(self, max_bad_fraction: float) -> None:
        """Raise UserError when a split keeps nothing, or more than the share of all utterances cannot be used."""
        bad, total, why = self.left_out, sum(self.utterances.values()), ""
        if bad:
            kind, commonest = next(iter(self.by_kind().items()))
            why = f"; most often: {kind} ({len(commonest)} times), for example {commonest[0].id}"
        for split, count in self.utterances.items():
            if count == sum(finding.split == split for finding in bad):
                raise UserError(
                    f"corpus.{split}: no usable utterance ({len(bad)} of {total} left out{why}); see the log"
                )
        if len(bad) > max_bad_fraction * total:
            raise UserError(
                f"corpus.max_bad_fraction: {len(bad)} of {total} utterances cannot be used, more than "
                f"{max_bad_fraction:.1%}{why}; repair the corpus or raise the key"
            )


def shared_speakers(splits: dict[str, list[Utterance]]) -> dict[tuple[str, str], list[str]]:
    """Speakers that two splits share, by the two."""
    speakers = {split: {utterance.speaker for utterance in members} for split, members in splits.items()}
    pairs = {pair: sorted(speakers[pair[0]] & speakers[pair[1]] - {""}) for pair in combinations(speakers, 2)}
    return {pair: shared for pair, shared in pairs.items() if shared}


def check_speakers_disjoint(splits: dict[str, list[Utterance]]) -> None:
    """Raise UserError naming a speaker that two splits share."""
    for (one, other), shared in shared_speakers(splits).items():
        raise UserError(
            f"corpus.{one}, corpus.{other}: both have speaker {shared[0]} ({len(shared)} such speakers); "
            "choose parts whose speakers are disjoint"
        )
