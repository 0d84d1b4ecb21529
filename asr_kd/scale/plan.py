"""What a recipe will take on a machine before it runs: `asr-kd plan`."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from asr_kd.distill.asking import estimate_bytes
from asr_kd.files import read_json
from asr_kd.integrity import read_record
from asr_kd.plan import STAGE_NAMES
from asr_kd.recipe import Recipe
from asr_kd.recipe_file import load_recipe
from asr_kd.scale.costs import Cost, costs, total
from asr_kd.scale.machine import Machine, calibrate
from asr_kd.scale.sizes import Sizes, members_of, parameters, sizes_of, sizes_of_experiment
from asr_kd.workspace import Workspace

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True)
class Plan:
    """costs: by stage; factors: of a stage, seconds that an experiment took over those that its costs say."""

    recipe: Recipe
    sizes: Sizes
    machine: Machine
    costs: list[Cost]
    factors: dict[str, float]

    def seconds(self, cost: Cost) -> float:
        return cost.seconds(self.machine) * self.factors.get(cost.stage, 1.0)

    @property
    def product_seconds(self) -> float:
        """Of the networks' products: what a device would take over."""
        products = [replace(cost, parallel=0.0, serial=0.0) for cost in self.costs]
        return sum(map(self.seconds, products))

    def lines(self) -> list[str]:
        """What the estimate is of."""
        sizes, targets = self.sizes, self.recipe.targets
        pdfs = sizes.pdfs or self.recipe.hmm.sat.leaves
        members = [parameters(network, pdfs) for network in members_of(self.recipe)]
        frames = round(sizes.frames("train") * (1 + len(self.recipe.features.speed or ())))
        stored, dense = (estimate_bytes(t, pdfs, frames) for t in (targets, targets.model_copy(update={"top_k": None})))
        recipe, student = self.recipe, parameters(self.recipe.student_network, pdfs)
        hours = ", ".join(f"{split} {time:.4g} h" for split, time in sizes.hours.items())
        epochs = f"{recipe.teachers.train.epochs} epochs; student {student / 1e6:.3g} M, {recipe.student.train.epochs}"
        return [
            f"{hours}; {frames:,} training frames, {pdfs:,} tied states",
            f"{len(members)} members of {max(members) / 1e6:.3g} M parameters, {epochs} epochs",
            f"soft targets {quantity(stored)}; dense they would be {quantity(dense)}",
            f"machine: {self.machine}; the networks' products take {duration(self.product_seconds)} of all",
        ]

    def table(self) -> Table:
        table = Table("stage", "time", "leaves on disk", "memory", "mapped", title=f"plan of {self.recipe.name}")
        for column in table.columns[1:]:
            column.justify = "right"
        for cost in self.costs:
            table.add_row(
                cost.stage, duration(self.seconds(cost)), *map(quantity, (cost.bytes, cost.memory, cost.mapped))
            )
        whole, seconds = total(self.costs), sum(map(self.seconds, self.costs))
        table.add_section()
        table.add_row("all", duration(seconds), *map(quantity, (whole.bytes, whole.memory, whole.mapped)))
        return table


def make_plan(
    recipe: Recipe,
    hours: float | None = None,
    exp: Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    tflops: tuple[float, float] | None = None,
) -> Plan:
    """Calibrate the machine, count the recipe's work; exp: take the costs' units from this experiment's stages.

    hours: of training speech, in place of the corpus's; tflops: of products in training and in float32, in place of
    measuring. Raises UserError as `sizes_of` does, and where `exp` holds no experiment.
    """
    machine = calibrate(device, jobs, recipe.teachers.train.precision, tflops)
    if exp is None:
        sizes, factors = sizes_of(recipe, hours), dict[str, float]()
    else:
        own = load_recipe(exp / "recipe.yaml")
        found = sizes_of_experiment(own, Workspace(exp))
        same_speech = own.corpus == recipe.corpus and hours is None
        sizes = replace(found, pdfs=None) if same_speech else sizes_of(recipe, hours)
        if own.lang == recipe.lang and own.corpus.lm_text == recipe.corpus.lm_text:
            sizes = replace(sizes, ngrams=found.ngrams)
        if own.hmm == recipe.hmm and same_speech:
            sizes = replace(sizes, pdfs=found.pdfs)
        factors = measured_factors(own, found, Workspace(exp), machine)
    on_device = tflops is not None or device != "cpu"
    return Plan(recipe, sizes, machine, costs(recipe, sizes, 1 if on_device else jobs), factors)


def measured_factors(recipe: Recipe, sizes: Sizes, work: Workspace, machine: Machine) -> dict[str, float]:
    """Of each finished stage of an experiment, the seconds it took over those that its costs say for this machine.

    Raises UserError for a damaged completion record.
    """
    cores = int(read_json(work.root / "environment.json")["cpus"])
    there = replace(machine, jobs=cores)
    modelled = {cost.stage: cost.seconds(there) for cost in costs(recipe, sizes, cores)}
    seconds = {name: (read_record(work, name) or {}).get("seconds") for name in STAGE_NAMES}
    return {name: took / modelled[name] for name, took in seconds.items() if isinstance(took, int | float)}


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `7.5 h`, `31 days`."""
    for unit, size, limit in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 72 * 3600)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def quantity(count: float) -> str:
    """Bytes in decimal units, `8.48 GB`."""
    power = 0
    while count >= 999.5 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {UNITS[power]}" if count else "–"
