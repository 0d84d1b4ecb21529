"""Stage 6: one network trained towards the ensemble's posteriors and the alignment."""

from dataclasses import dataclass

from asr_kd.distill.store import TargetStore
from asr_kd.distill.targets import SoftTargets
from asr_kd.files import write_json
from asr_kd.nn.accuracy import ACCURACY, CORRECT, by_utterance, frame_accuracy
from asr_kd.nn.chosen import ChosenFrames
from asr_kd.nn.hashes import joint_hash
from asr_kd.nn.inputs import Inputs, load_frames, load_inputs
from asr_kd.nn.posteriors import load_ensemble
from asr_kd.nn.training import Progress, Run, train
from asr_kd.pipeline import Job
from asr_kd.stages.teachers import Networks, prepare_input, teachers_origin


def run(job: Job) -> None:
    prepare_input(job, job.recipe.student_network)
    list(job.spread(Student(job.as_task()), ["student"]))


@dataclass(frozen=True)
class Student(Networks):
    """The one network, by its name."""

    title = "student"

    @property
    def epochs(self) -> int:
        return self.job.recipe.student.train.epochs

    def do(self, loaded: None, item: str, progress: Progress) -> None:
        train_student(self.job, progress)


def train_student(job: Job, progress: Progress) -> None:
    recipe, student, network = job.recipe, job.recipe.student, job.recipe.student_network
    store = TargetStore(job.work.targets)
    store.check(teachers_origin(job))
    inputs = load_inputs(job.work, network, job.device, student.train.fraction, recipe.seed)
    seed = recipe.seed if student.seed is None else student.seed
    targets = SoftTargets(
        store, inputs.train, student.temperature, student.hard_weight, student.loss, student.noise, seed
    )
    frames, data = inputs.train, inputs.data
    if student.transfer_classes is not None:
        frames = ChosenFrames.of_classes(frames, student.transfer_classes)
        data = joint_hash([data, f"classes {student.transfer_classes}"])
    plan = Run(network, student.train, (seed, "student"), inputs.num_pdfs, data)
    path = job.work.model("student")
    train(path, plan, frames, inputs.dev, targets, progress, job.device, tracker=job.tracker(path.name))
    write_accuracy(job, inputs)


def write_accuracy(job: Job, inputs: Inputs) -> None:
    """models/student/accuracy.json: the finished network without dropout on all splits, on train on a sample; and
    correct.json, the same of dev and test by utterance.
    """
    path = job.work.model("student")
    network = load_ensemble(job.work, [path.name], device=job.device)
    splits = {
        "train": inputs.train,
        "dev": inputs.dev,
        "test": load_frames(job.work, network.network, "test", job.device),
    }
    measured = {split: frame_accuracy(network, frames, split, job.progress) for split, frames in splits.items()}
    accuracy = {split: figures for split, (figures, _) in measured.items()}
    write_json(path / ACCURACY, accuracy)
    correct = {split: by_utterance(splits[split], {"student": measured[split][1]}) for split in ("dev", "test")}
    write_json(path / CORRECT, correct)
    shares = " ".join(f"{split} {figures['frame_accuracy']:.4f}" for split, figures in accuracy.items())
    job.log.info("student: frame accuracy %s", shares)
