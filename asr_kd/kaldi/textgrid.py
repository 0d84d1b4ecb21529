"""Praat's TextGrid, in its long text form.

Written here rather than by praatio, which the tests read it back with: one interval is three lines, and the only rule
is that a quotation mark is doubled.
"""

from collections.abc import Mapping, Sequence

from asr_kd.hmm.boundaries import FIRST_BOUNDARY, FRAME_SHIFT
from asr_kd.kaldi.segments import Segment

Interval = tuple[float, float, str]


def textgrid(tiers: Mapping[str, Sequence[Segment]], frames: int, duration: float) -> str:
    """The file's text: one interval tier for each of `tiers`, from 0 to `duration` seconds, gaps filled.

    frames: of the utterance; its first and its last begin and end with the audio.
    """
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {duration:.4f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, segments) in enumerate(tiers.items(), start=1):
        intervals = _intervals(segments, frames, duration)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {duration:.4f}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, text) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {start:.4f}",
                f"            xmax = {end:.4f}",
            ]
            lines.append(f"            text = {_quoted(text)}")
    return "\n".join(lines) + "\n"


def _intervals(segments: Sequence[Segment], frames: int, duration: float) -> list[Interval]:
    """Seconds and text of the segments, and of empty intervals between them."""

    def seconds(frame: int) -> float:
        return 0.0 if frame == 0 else duration if frame == frames else frame * FRAME_SHIFT + FIRST_BOUNDARY

    intervals, end = list[Interval](), 0
    for segment in [*segments, Segment("", frames, frames)]:
        if segment.start > end:
            intervals.append((seconds(end), seconds(segment.start), ""))
        if segment.end > segment.start:
            intervals.append((seconds(segment.start), seconds(segment.end), segment.symbol))
        end = segment.end
    return intervals


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
