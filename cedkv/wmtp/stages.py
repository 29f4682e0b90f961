"""The recipe: texts, what scorers read, the critic's stage where there is one, and the weighted training."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.config import TrainingConfig, TrainSettings
from cedkv.errors import NonFiniteError
from cedkv.events import Done, Event, Progress, Warned
from cedkv.files import dump_json, write_whole
from cedkv.ledger import row_key
from cedkv.lm import LanguageModel, load_model
from cedkv.lm.adapters import LoraShape, save_trained, with_lora
from cedkv.lm.finetune import FineTuning, iter_finetuning
from cedkv.lm.heads import MTPWrapper
from cedkv.lm.hidden import hidden_states
from cedkv.optim.checkpoint import FILE_NAME, Checkpoint
from cedkv.optim.folder import kept
from cedkv.optim.loop import LoopSettings, Training, run_training
from cedkv.optim.weights import Scorer, ScorerSettings, find_scorer
from cedkv.provenance import library_versions
from cedkv.wmtp.critic import CriticObjective
from cedkv.wmtp.data import Text, Tokens, encode_text, make_texts
from cedkv.wmtp.lesson import Readings, WeightedLesson
from cedkv.wmtp.metrics import Judged, judge
from cedkv.wmtp.readings import reference_losses

# Which scorer an algorithm has by itself, and whether it looks further than the next token.
ALGORITHMS = {
    "rho1-wmtp": ("rho1-excess-v1", True),
    "critic-wmtp": ("critic-delta-v1", True),
    "mtp": ("uniform", True),
    "ntp": ("uniform", False),
}
# The texts are the same for every seed of a training: what differs is order, adapter and controls.
_TEXTS_SEED = 0
_CRITIC_TICK = 10


def scorer_of(settings: TrainSettings) -> Scorer:
    """The scorer that the settings name, or the algorithm's own."""
    return find_scorer(settings.weights.scorer or ALGORITHMS[settings.algo][0])


def horizon_of(settings: TrainSettings) -> int:
    return settings.horizon if ALGORITHMS[settings.algo][1] else 1


@dataclass(frozen=True)
class Trained:
    """A finished training: the wrapper, and how it does on held-out texts."""

    wrapper: MTPWrapper
    judged: Judged


def iter_wmtp(config: TrainingConfig, folder: Path, resume: bool = False) -> Iterator[Event]:
    """Train as `config.train` says; `folder` then holds settings, figures, checkpoint, adapter and heads.

    Yields what every stage tells and, last, `Done(dict)` with the figures on held-out texts.

    Raises
    ------
    ConfigError
        There is no such scorer or sink.
    NonFiniteError
        Weights or losses stopped being numbers, or weights became extreme; the step is named.
    OutputError
        The folder holds another training, or cannot be written.
    """
    scorer_of(config.train)
    yield from kept(_iter_all(config, folder), config, config.train.sinks, folder, resume)


def _iter_all(config: TrainingConfig, folder: Path) -> Iterator[Event]:
    runtime = config.run.runtime
    lm = load_model(config.run.model.id, runtime.torch_dtype, runtime.device)
    readings = yield from read_texts(lm, config.train, scorer_of(config.train).needs)
    checkpoint = Checkpoint(folder / FILE_NAME, _key(lm, config), config.train.checkpoint_every)
    trained = yield from train_weighted(lm, config, readings, folder, checkpoint)
    save_trained(trained.wrapper, folder / "model")
    report = {
        "algo": config.train.algo,
        "scorer": scorer_of(config.train).key,
        "seed": config.run.seed,
        "model": lm.describe(),
        "figures": trained.judged.figures(),
        "versions": library_versions(),
    }
    write_whole(folder / "report.json", dump_json(report))
    yield Done(report)


def read_texts(lm: LanguageModel, settings: TrainSettings, needs: frozenset[str]) -> Generator[Event, None, Readings]:
    """The texts to train on and what scorers need of them; returns `Readings`."""
    count, shots = settings.texts.count, settings.texts.shots
    made = make_texts(settings.texts.kinds, count + shots, _TEXTS_SEED)
    texts, shown = made[:count], made[count:]
    tokens = _encoded(lm, texts)
    reference: list[Tensor] = []
    if "reference" in needs:
        yield Progress("reading the reference", 0, count)
        reference = reference_losses(lm, settings, tokens, shown)
    values: list[Tensor] = (yield from _critic(lm, settings, texts, tokens)) if "values" in needs else []
    return Readings(tokens, len(lm.bos) + 1, reference, values)


def held_out_texts(lm: LanguageModel, settings: TrainSettings) -> tuple[list[Tokens], list[str]]:
    """The texts that judge every training, the same for all of them, and their kinds."""
    texts = make_texts(settings.texts.kinds, settings.texts.held_out, _TEXTS_SEED, held_out=True)
    return _encoded(lm, texts), [text.kind for text in texts]


def _encoded(lm: LanguageModel, texts: Sequence[Text], wrong: bool = False) -> list[Tokens]:
    return [encode_text(lm.encode, lm.bos, text, wrong) for text in texts]


def _critic(
    lm: LanguageModel, settings: TrainSettings, texts: list[Text], tokens: list[Tokens]
) -> Generator[Event, None, list[Float[Tensor, " _states"]]]:
    """Stage 1: train the critic on right and wrong solutions; returns its values after every token of the texts."""
    learnt = min(settings.weights.critic_texts, len(texts))
    yield Progress("training the critic", 0, settings.weights.critic_steps)
    right = hidden_states(lm, [text.ids[len(lm.bos) :] for text in tokens])
    wrong = hidden_states(lm, [text.ids[len(lm.bos) :] for text in _encoded(lm, texts[:learnt], wrong=True)])
    critic = CriticObjective.of_texts(right[:learnt], wrong, settings.weights.critic_lr)
    training = Training(critic, LoopSettings(settings.weights.critic_steps, tick_every=_CRITIC_TICK))
    yield from run_training(training)
    critic.load(training.best)
    return [critic.values(states) for states in right]


def train_weighted(
    lm: LanguageModel, config: TrainingConfig, readings: Readings, folder: Path, checkpoint: Checkpoint
) -> Generator[Event, None, Trained]:
    """The weighted training itself, taken up from its checkpoint where there is one; returns `Trained`."""
    settings, seed = config.train, config.run.seed
    tokens, kinds = held_out_texts(lm, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapper = MTPWrapper(with_lora(lm, LoraShape(settings.lora.rank, settings.lora.layers)), horizon_of(settings))
    weights = settings.weights
    scoring = ScorerSettings(weights.share, weights.selection, weights.temperature, seed)
    lesson = WeightedLesson(
        name=settings.algo,
        settings=settings,
        horizon=wrapper.horizon,
        seed=seed,
        readings=readings,
        run=scorer_of(settings).setup(scoring),
        judge=lambda: judge(wrapper, tokens, kinds),
    )
    tuning = FineTuning(
        settings.steps, settings.decay, settings.clip, rate=settings.lr, seed=seed, checkpoint=checkpoint
    )
    try:
        yield from iter_finetuning(wrapper, lesson, tuning, folder)
    except NonFiniteError as error:
        yield Warned(f"{settings.algo}: training stopped, {error}")
        raise
    return Trained(wrapper, lesson.judged or lesson.judge())


def _key(lm: LanguageModel, config: TrainingConfig) -> str:
    """All that a training depends on; where its figures go has no part in it."""
    settings: dict[str, Any] = config.train.model_dump(mode="json", exclude={"sinks"})
    return row_key(train=settings, seed=config.run.seed, model=lm.fingerprint, dtype=str(lm.dtype))
