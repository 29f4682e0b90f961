"""Training a model's weights with transformers' Trainer, as a generator of events that can be cut short and taken up.

The batch of a step is a function of the step alone, and the checkpoint holds the trained parameters, the optimiser and
the random states, so what is taken up takes the same steps as what was never cut short.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cedkv.events import Event
from cedkv.optim.checkpoint import (
    Checkpoint,
    Memory,
    recall_random,
    recall_training,
    training_memory,
)
from cedkv.optim.schedule import BETAS, Descent, rate_at

Batch = dict[str, Tensor]


class Lesson(Protocol):
    """What is learnt, step by step."""

    def batch(self, step: int) -> Batch:
        """The tensors of a forward, which the trainer puts on the model's device; an update may have several."""
        ...

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        """What the step descends."""
        ...

    def told(self, step: int, grad_norm: float) -> Iterable[Event]:
        """What there is to say once the step's update is done; the norm is the one before gradients were clipped."""
        ...


@dataclass(frozen=True, kw_only=True)
class FineTuning(Descent):
    """A descent, its highest learning rate, the seed of its random numbers, and where the training is kept.

    accumulate : forwards whose mean gradient a step follows.
    warmup : steps over which the rate rises.
    """

    rate: float
    accumulate: int = 1
    warmup: int = 0
    seed: int = 0
    checkpoint: Checkpoint | None = None


def iter_finetuning(model: nn.Module, lesson: Lesson, tuning: FineTuning, folder: Path) -> Iterator[Event]:
    """Train those parameters of a model that may change; closing the generator stops after the step in hand.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be read, or is another training's.
    """
    course = _Course(model, lesson, tuning)
    course.recall()
    if course.start >= tuning.steps:
        return
    trainer = _LessonTrainer(course, folder)
    yield from _events_of(trainer.train, course)


class _Course:
    """A training under way: where it stands, and what it tells."""

    def __init__(self, model: nn.Module, lesson: Lesson, tuning: FineTuning) -> None:
        self.model, self.lesson, self.tuning = model, lesson, tuning
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=tuning.rate, betas=BETAS, weight_decay=0.0)
        self.start = 0
        self.random: Memory | None = None
        self.tell: Callable[[Event], None] = lambda event: None
        self.cancelled = threading.Event()
        self.grad_norm = 0.0

    def recall(self) -> None:
        memory = self.tuning.checkpoint.read() if self.tuning.checkpoint else None
        if memory is None:
            return
        recall_training(self.trained, self.optimiser, memory)
        self.random = memory.part("random")
        self.start = memory.part("progress").plain["done"]

    def keep(self, done: int) -> None:
        checkpoint, over = self.tuning.checkpoint, done == self.tuning.steps or self.cancelled.is_set()
        if checkpoint is None or not checkpoint.due(done, over):
            return
        parts = {**training_memory(self.trained, self.optimiser), "progress": Memory(plain={"done": done})}
        checkpoint.write(Memory.of_parts(parts))


class _Batches(Dataset):
    """The batches of the steps that are still to be taken."""

    def __init__(self, course: _Course) -> None:
        self.course = course

    def __len__(self) -> int:
        return (self.course.tuning.steps - self.course.start) * self.course.tuning.accumulate

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(index)
        return self.course.lesson.batch(self.course.start * self.course.tuning.accumulate + index)


class _LessonTrainer(Trainer):
    """transformers' Trainer on a lesson's batches and loss."""

    def __init__(self, course: _Course, folder: Path) -> None:
        tuning, self.course = course.tuning, course
        device = next(course.model.parameters()).device
        args = TrainingArguments(
            output_dir=str(folder),
            max_steps=tuning.steps - course.start,
            max_grad_norm=0,  # clipped below, where the norm can be told
            gradient_accumulation_steps=tuning.accumulate,
            seed=tuning.seed,
            use_cpu=device.type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        if args.n_gpu > 1:  # asking finds the devices; over several the Trainer would spread one text and its cache
            args._n_gpu = 1
        rates = torch.optim.lr_scheduler.LambdaLR(course.optimiser, lambda done: _rate(tuning, course.start + done))
        super().__init__(
            model=course.model,
            args=args,
            train_dataset=_Batches(course),
            callbacks=[_AfterSteps(course)],
            optimizers=(course.optimiser, rates),
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # a lesson's loss is a mean, so that of several forwards is theirs

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(cast(_Batches, self.train_dataset), batch_size=None, shuffle=False)

    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Tensor:
        return self.course.lesson.loss(model, inputs, self.course.start + self.state.global_step)


class _AfterSteps(TrainerCallback):
    def __init__(self, course: _Course) -> None:
        self.course = course

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.course.random is not None:  # the trainer and its loader have drawn since the checkpoint was read
            recall_random(self.course.random)
            self.course.random = None

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.course.trained, self.course.tuning.clip)
        self.course.grad_norm = norm.item()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        done = self.course.start + state.global_step
        for event in self.course.lesson.told(done - 1, self.course.grad_norm):
            self.course.tell(event)
        self.course.keep(done)
        control.should_training_stop |= self.course.cancelled.is_set()


def _rate(tuning: FineTuning, done: int) -> float:
    """What a step's learning rate is of the highest."""
    rising = min(1.0, (done + 1) / tuning.warmup) if tuning.warmup else 1.0
    return rising * rate_at(done, tuning.steps, tuning.decay)


def _events_of(work: Callable[[], Any], course: _Course) -> Iterator[Event]:
    """Run the trainer, which calls back, in a thread of its own, and yield what it tells.

    The thread goes on only once an event has been taken, so nothing is trained that nobody has heard of.
    """
    told: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()
    heard = threading.Semaphore(0)

    def tell(event: Event) -> None:
        if not course.cancelled.is_set():
            told.put(event)
            heard.acquire()

    def run() -> None:
        try:
            work()
            told.put(None)
        except BaseException as error:  # raised again where the generator is read
            told.put(error)

    course.tell = tell
    thread = threading.Thread(target=run, name="finetuning", daemon=True)
    thread.start()
    try:
        while (item := told.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            heard.release()
    finally:
        course.cancelled.set()
        heard.release()
        thread.join()
