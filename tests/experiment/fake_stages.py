"""An experiment whose stages only leave marks, run inside the test's process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.experiment.sharing import CellRun
from asr_kd.files import read_json, write_json
from asr_kd.pipeline import STAGES, Job, Stage, fingerprint, run_stages
from asr_kd.stages.decode import made_from


@dataclass
class Slow:
    """A process that ends at the third look."""

    work: Callable[[], int]
    on_stop: Callable[[], None]
    looks: int = 0
    status: int | None = None

    def poll(self) -> int | None:
        self.looks += 1
        if self.looks == 3:
            self.status = self.work()
        return self.status

    def stop(self) -> None:
        self.on_stop()


@dataclass
class Factory:
    """Starts stages in this process and remembers them; `fails` says which fail."""

    ran: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    cores: list[int] = field(default_factory=list)
    running: int = 0
    busiest: int = 0
    stopped: int = 0
    fails: Callable[[CellRun, Stage], bool] = lambda run, stage: False

    def start(self, run: CellRun, stage: Stage, cores: int) -> Slow:
        self.ran.append(f"{run.name}/{run.seed} {stage.name}")
        self.cores.append(cores)
        self.running += cores
        self.busiest = max(self.busiest, self.running)

        def work() -> int:
            self.running -= cores
            if self.fails(run, stage):
                return 2
            number = STAGES.index(stage)
            run_stages(run.recipe, run.root, number, number, jobs=cores)
            return 0

        def stopped() -> None:
            self.stopped += 1

        return Slow(work, stopped)

    def ran_stage(self, name: str) -> list[str]:
        return [line.split()[0] for line in self.ran if line.endswith(f" {name}")]


def stage_of(name: str, trained: list[str]) -> Callable[[Job], None]:
    def leave(job: Job) -> None:
        mark = {"maker": job.recipe.name, "fingerprint": fingerprint(job.recipe, name)}
        write_once(job.work.root, f"{name}-mark.json", mark)
        if name == "teachers":
            leave_members(job, trained)
        elif name == "decode":
            leave_decoding(job)
        else:
            folder = {"align": "hmm/alignment", "student": "models/student", "prepare": "manifests"}.get(name, name)
            folder = "plots" if name == "score" else folder
            write_once(job.work.root, f"{folder}/mark.json", mark)

    return leave


def write_once(root: Path, name: str, content: object) -> None:
    """Refuse to write through a link into another directory."""
    path = root / name
    inside = path.parent.resolve().is_relative_to(root.resolve()) or not path.parent.exists()
    if not inside or path.is_symlink():
        raise UserError(f"{path}: written through a link")
    write_json(path, content)


def leave_members(job: Job, trained: list[str]) -> None:
    recipe = job.recipe
    for index in range(recipe.teachers.members):
        identity = [index, recipe.teachers.network_of(index).model_dump(), recipe.teachers.train.model_dump()]
        path = job.work.member(index) / "model.json"
        if path.exists() and read_json(path)["identity"] == identity:
            continue
        write_once(job.work.root, f"models/member-{index:02d}/model.json", {"identity": identity})
        trained.append(f"{recipe.name} member-{index:02d}")


def leave_decoding(job: Job) -> None:
    decode, origin = job.recipe.decode, [fingerprint(job.recipe, name) for name in ("lang", "align")]
    scales = [decode.transition_scale, decode.self_loop_scale, decode.silence_probability]
    graph = job.work.graph("sat") / "stats.json"
    if not (graph.exists() and read_json(graph)["made_from"] == [*origin, *scales]):
        write_once(job.work.root, "graph/sat/HCLG.fst", {})
        write_once(job.work.root, "graph/sat/stats.json", {"made_from": [*origin, *scales], "maker": job.recipe.name})
    for system in decode.systems:
        path = job.work.decode(system) / "summary.json"
        if not (path.exists() and read_json(path)["made_from"] == made_from(job, system)):
            content = {"made_from": made_from(job, system), "maker": job.recipe.name}
            write_once(job.work.root, f"decode/{system}/summary.json", content)
