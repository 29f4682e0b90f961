"""What every extraction method takes and gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from cedkv.calibration import model_directions
from cedkv.config import Config
from cedkv.episodes import Episode
from cedkv.errors import ConfigError
from cedkv.events import Event
from cedkv.lm import AttentionReading, LanguageModel, log_probs, read_attention, read_demonstrations
from cedkv.lm.layers import layers_in_scope
from cedkv.lm.weighing import WeightDirections
from cedkv.slots.merging import LAST_TAIL
from cedkv.state import DemoKV, KVPrefix

# Training queries that say which tokens the teacher attends to.
_ATTENDING = 32
# Tokens at the end of each query that the warm start matches: they lead to the answer, and more queries tell more about
# queries to come than more tokens of the same ones.
_READ_TAIL = 4
_PROBES = 16

Observer = Callable[[KVPrefix], dict[str, float]]


def never() -> bool:
    return False


@dataclass(frozen=True)
class Workbench:
    """A model and an episode, with what several methods read from them computed once.

    observe : measures a state on evaluation queries at training ticks. For the record only: nothing is chosen by it.
    stop : asked after every training step; once it says yes, the training ends there and leaves its best state.

    Raises
    ------
    ConfigError
        A setting names layers that the model does not have, whether or not a method will ask for them.
    """

    lm: LanguageModel
    episode: Episode
    config: Config
    observe: Observer | None = None
    stop: Callable[[], bool] = never

    def __post_init__(self) -> None:
        for phase, settings in self.config:
            for name, scope in getattr(settings, "layer_scope", ()):
                try:  # whichever layers they are, so that no ranking is needed
                    layers_in_scope(scope, self.lm.layers, ())
                except ConfigError as error:
                    raise ConfigError(f"{phase}.layer_scope.{name}: {error}") from error

    @cached_property
    def trunk(self) -> LanguageModel:
        """The model in the precision that slots are trained in."""
        return self.lm.for_training(self.config.phase3.optim.train_dtype)

    @cached_property
    def _read(self) -> tuple[DemoKV, AttentionReading | None]:
        return read_demonstrations(self.lm, self.episode.tokens, tail=LAST_TAIL)

    @property
    def demo_kv(self) -> DemoKV:
        return self._read[0]

    @property
    def last_demonstration(self) -> AttentionReading | None:
        """How the last demonstration attends to those before it: a query of the relation that everybody has."""
        return self._read[1]

    @cached_property
    def teacher(self) -> KVPrefix:
        return self.demo_kv.as_prefix()

    @cached_property
    def directions(self) -> WeightDirections:
        """Along which a slot's key carries its weight."""
        return model_directions(self.lm)

    @cached_property
    def train_ids(self) -> list[tuple[int, ...]]:
        return [query.ids for query in self.episode.on_train]

    @cached_property
    def probes(self) -> list[tuple[int, ...]]:
        """The ON training queries that a state is held against the teacher with, on its way and as it leaves."""
        return self.train_ids[:_PROBES]

    @cached_property
    def teacher_on_probes(self) -> Float[Tensor, "probes vocab"]:
        """The teacher's next-token log-probabilities on them."""
        return log_probs(self.lm, self.probes, self.teacher)

    @cached_property
    def teacher_reading(self) -> AttentionReading:
        """How the last tokens of ON training queries attend behind the teacher's prefix."""
        queries = self.train_ids[: self.config.phase3.optim.matching_queries]
        return read_attention(self.lm, queries, self.teacher, tail=_READ_TAIL)

    @cached_property
    def teacher_attention(self) -> Float[Tensor, "layers heads queries tokens"]:
        """The teacher's attention from each ON training query's last token to each demonstration token."""
        return self.teacher_reading.at_last_tokens()[:, :, :_ATTENDING]

    @cached_property
    def layer_ranking(self) -> list[int]:
        """Layers by how much ON queries attend to the demonstrations, token 0 (the sink) left out, most first."""
        mass = self.teacher_attention[..., 1:].sum(-1).mean(dim=(1, 2))
        return mass.argsort(descending=True).tolist()

    def layers(self, scope: str | list[int]) -> list[int]:
        """The layers a scope names; only `top25` needs to look at the teacher."""
        return layers_in_scope(scope, self.lm.layers, self.layer_ranking if scope == "top25" else ())


@dataclass(frozen=True)
class Extraction:
    """What a method returns.

    training : the steps, ticks and lambda of a training, and why it stopped; empty for methods that do not train.
    artifacts : what the method wants written beside the report, by file stem.
    metrics : what the method measured of the state on the way, for the state's own notes.
    complete : whether the method came to its own end, and was not told to stop.
    """

    method: str
    prefix: KVPrefix
    training: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    complete: bool = True


Run = Callable[[Workbench, int], Iterator[Event]]
GateRole = Literal["floor", "rival", "free lunch", "student", "ceiling", "instant"]


@dataclass(frozen=True)
class Method:
    """An extraction method.

    run : takes a bench and the number of slots, yields events, the last of which is `Done(Extraction)`.
    label : its name as people read it.
    settings : the blocks of the config that concern it, such as `phase3.optim`.
    gate_role : what it is beside others in a gate. `floor`: slots that are copied; `rival`: what a user would do
        instead; `free lunch`: what costs no training; `student`: what the gate is about; `ceiling`: what slots could
        do without any constraint; `instant`: what was trained for the model and not for the episode, which no gate
        runs by itself: it judges the state that it made.
    beside : a fingerprint of what it reads besides episode and settings, such as weights of its own; part of what a
        kept state is found by.
    """

    run: Run
    label: str
    settings: tuple[str, ...]
    gate_role: GateRole
    beside: Callable[[LanguageModel, Config], str] = lambda lm, config: ""
