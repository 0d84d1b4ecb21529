"""What the stages of a finished experiment took, in all and per hour of speech, as a table in Markdown.

    python benchmarks/costs.py exp/libri_mini

Seconds, CPU seconds and peak memory (the main process's largest resident size, libraries and mapped files included) are
those of the completion records, bytes those of the stage's files. The hour is one of train, dev and test together for
the first two stages, of dev and test for the last two, and of train for the others.
"""

import argparse
from pathlib import Path

from asr_kd.checksums import files_below
from asr_kd.files import read_json
from asr_kd.plan import STAGES, Stage
from asr_kd.recipe_file import load_recipe
from asr_kd.scale.plan import quantity
from asr_kd.scale.sizes import sizes_of_experiment
from asr_kd.workspace import Workspace

SHARED = {"decode": ("graph",)}  # files that several stages share count where they are made
WHOSE = {"prepare": ("train", "dev", "test"), "features": ("train", "dev", "test")}
WHOSE |= {"decode": ("dev", "test"), "score": ("dev", "test")}


def left_bytes(work: Workspace, stage: Stage) -> int:
    patterns = (*stage.files, *SHARED.get(stage.name, ()))
    found = {path for pattern in patterns for path in files_below(work.root.glob(pattern))}
    return sum(path.stat().st_size for path in found)


def figure(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    work = Workspace(parser.parse_args().exp)
    hours = sizes_of_experiment(load_recipe(work.root / "recipe.yaml"), work).hours
    print("| stage | seconds | CPU seconds | bytes | peak memory | an hour of | seconds | CPU seconds | bytes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for stage in STAGES:
        if not work.record(stage.name).exists():
            continue
        record, size = read_json(work.record(stage.name)), left_bytes(work, stage)
        splits = WHOSE.get(stage.name, ("train",))
        each = sum(hours[split] for split in splits)
        whose = {3: "all", 2: "dev, test", 1: "train"}[len(splits)]
        wall, cpu, peak = record["seconds"], record["cpu_seconds"], record.get("peak_bytes") or 0
        measured = f"{wall:.0f} | {cpu:.0f} | {quantity(size)} | {quantity(peak)}"
        hourly = f"{figure(wall / each)} | {figure(cpu / each)} | {quantity(size / each)}"
        print(f"| {stage.name} | {measured} | {whose} | {hourly} |")


if __name__ == "__main__":
    main()
