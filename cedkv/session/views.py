"""What a comparison and its explanation are, as plain data: a face can show stored ones before torch is there."""

from dataclasses import dataclass, field

_NAMED_HEADS = 3

Weights = tuple[float | None, ...]


@dataclass(frozen=True)
class View:
    """One column: what this view generates and what it expects next.

    tokens, probabilities, teacher_probabilities : the view's most likely next tokens, what it gives them and what
        the teacher gives them.
    delta : KL(this view || base), nats. kl_to_teacher : KL(teacher || this view), nats; as in the report's `on`.
    said : ids of the tokens it has generated, those that end the answer among them.
    """

    name: str
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]
    teacher_probabilities: tuple[float, ...]
    delta: float
    kl_to_teacher: float
    text: str = ""
    said: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The same query in several views. `done` once all text is there."""

    query: str
    views: tuple[View, ...]
    done: bool = False

    def view(self, name: str) -> View:
        return next(view for view in self.views if view.name == name)


@dataclass(frozen=True)
class SlotMap:
    """Weights of every slot on every demonstration token, of one layer and KV head or the mean of them.

    layers, heads : how many of them have a mixture of their own; 1 means that all share it.
    counts : as how many tokens each slot counts there; None for slots that count once.
    """

    texts: tuple[str, ...]
    roles: tuple[str, ...]
    demo: tuple[int, ...]
    weights: list[list[float]]
    active: list[bool]
    layers: int
    heads: int
    counts: list[float] | None = None

    @property
    def mass(self) -> list[float]:
        """Weight per token, all slots together."""
        return [sum(column) for column in zip(*self.weights, strict=True)]


@dataclass(frozen=True)
class SlotPart:
    """One slot's part in one token.

    attention : what the token's position gives it, mean over layers and heads.
    change : of the measured value once the slot is switched off, nats.
    heads : the (layer, head, attention) that attend to it most, from 0.
    """

    attention: float
    change: float
    heads: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class Why:
    """What each slot of a state did to each token of an answer, or at each position of a text.

    kind : `answer`, measured in log p(token); or `text`, measured in Delta of what follows the token. Nats both.
    measured, without : per token with all slots, and per slot and token with the slot switched off.
    attention : by token, slot, layer and head: from the position at which the value is read.
    slots : what the slots are made of; None for free vectors.
    cut : of how many tokens only these are shown; 0 when it is all of them.
    """

    kind: str
    tokens: tuple[str, ...]
    measured: list[float]
    without: list[list[float]]
    attention: list[list[list[list[float]]]]
    slots: SlotMap | None
    cut: int = 0

    @property
    def telling(self) -> range:
        """The tokens that can be compared: behind a text's first one, anything in front changes how it goes on."""
        return range(1 if self.kind == "text" and len(self.tokens) > 1 else 0, len(self.tokens))

    @property
    def first(self) -> int:
        """The token to look at first: where a text is disturbed most, an answer's beginning."""
        return max(self.telling, key=lambda token: self.measured[token]) if self.kind == "text" else 0

    def strongest(self, token: int) -> int:
        """The slot (from 0) without which the token would be given least, or the text be disturbed least, there."""
        return min(range(len(self.without)), key=lambda slot: self.without[slot][token])

    def parts(self, token: int) -> list[SlotPart]:
        """Every slot's part in one token."""
        return [
            SlotPart(_mean(self.attention[token][slot]), values[token] - self.measured[token], _best(heads))
            for slot, (values, heads) in enumerate(zip(self.without, self.attention[token], strict=True))
        ]


@dataclass(frozen=True)
class Weighed:
    """Tokens and what scorers of token weights say of them, the mean of all being 1.

    demo : per token the demonstration it belongs to, from 0; -1 in front of the first.
    weights : by scorer, per token; None where no token in front predicts it.
    slots : by scorer, the mean weight of what each slot is made of; empty for a text.
    """

    tokens: tuple[str, ...]
    demo: tuple[int, ...]
    weights: dict[str, Weights]
    slots: dict[str, Weights] = field(default_factory=dict)


def _mean(shares: list[list[float]]) -> float:
    return sum(map(sum, shares)) / sum(map(len, shares))


def _best(shares: list[list[float]]) -> tuple[tuple[int, int, float], ...]:
    found = ((layer, head, share) for layer, row in enumerate(shares) for head, share in enumerate(row))
    return tuple(sorted(found, key=lambda place: -place[2])[:_NAMED_HEADS])
