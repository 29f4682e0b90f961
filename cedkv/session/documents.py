"""A question about a document, answered behind every view there is, with what each view costs."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cedkv.calibration import iter_calibration
from cedkv.compressors.off_effect import iter_off_effect
from cedkv.compressors.profile import answering_times
from cedkv.compressors.shipped import gist_adapter
from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.config import Config
from cedkv.episodes.documents import Passage, Question
from cedkv.errors import CedKVError, ConfigError, ModelError
from cedkv.events import Done, Event, Progress, StepTrace
from cedkv.lm import LanguageModel, generate
from cedkv.lm.embed import load_embedder
from cedkv.lm.gists import load_reader
from cedkv.methods import Extraction
from cedkv.methods.document import iter_train_on_document
from cedkv.session.going import Going, Stop
from cedkv.session.limits import LimitError
from cedkv.session.service import Service
from cedkv.state import DemoTokens, KVPrefix

ANSWER_TOKENS = 16
_OFF_TEXTS = 64
# Of so many documents the trained slots are kept, a megabyte each.
_TRAINED = 8


@dataclass(frozen=True)
class DocumentAnswer:
    """What one view answers. `missing` says why there is no answer; costs are 0 then.

    passages : the text that retrieval has put in front of the question, with cosines.
    for_others : whether other text can be read behind what the document has become.
    """

    view: str
    text: str = ""
    slots: int = 0
    kv_bytes: int = 0
    ttft_ms: float = 0.0
    passages: tuple[tuple[Passage, float], ...] = ()
    missing: str = ""
    for_others: bool = False


@dataclass
class Documents:
    """Gists and the sentence model, loaded when a document is asked about and kept for the model at hand.

    trained : the slots of the last documents that were trained on, by the document's tokens.
    going : the trainings that go on. Runs do not wait for them, so they are no runs.
    """

    service: Service
    desks: dict[str, DocumentDesk] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    trained: OrderedDict[tuple[int, ...], Extraction] = field(default_factory=OrderedDict)
    going: Going = field(init=False)

    def __post_init__(self) -> None:
        self.going = Going(self.service.limits)

    def iter_document(
        self, config: Config, document: str, asked: str, train: Stop | None = None
    ) -> Iterator[DocumentAnswer | Progress]:
        """What every view of a document answers, by the model that a config names; where it has to be calibrated first,
        that is told.

        train : slots are trained on the document too, which takes minutes on a processor, until this is set.

        Raises
        ------
        CedKVError
            A limit is passed, or document or question is empty or too long.
        """
        self.service.limits.check_query(asked)
        self.service.limits.check_demos(0, len(document))
        if not asked.strip():
            raise CedKVError("the question is empty; write something to ask of the document")
        lm = self.service.models.get(config)
        question = Question(document, f"\n\n{asked}", (), max_new_tokens=ANSWER_TOKENS)
        with self.service.turns.short():
            tokens = self.desk(lm).check(question)
        yield from self.service.turns.parted(iter_calibration(lm))
        for view, kind in VIEWS.items():
            if kind.needs == "training":
                if train is None:
                    continue
                try:
                    yield from self._told_training(lm, tokens, train)
                except LimitError as error:
                    yield DocumentAnswer(view, missing=str(error))
                    continue
            with self.service.turns.short():
                answer = self._answered(lm, question, view)
            yield answer

    def iter_off(self, config: Config, document: str, views: Sequence[str]) -> Iterator[Event]:
        """What views of a document do to other text, beside neutral prefixes; the last event is `Done(dict[str,
        OffScores])`. Raises what `iter_document` raises."""
        work = self._off_effect(self.service.models.get(config), Question(document, "", ()), views)
        yield from self.service.turns.parted(work)

    def _off_effect(self, lm: LanguageModel, question: Question, views: Sequence[str]) -> Iterator[Event]:
        """The desk belongs to the work: its gists are read by a copy of the model, made while it has no hooks."""
        yield from iter_off_effect(self.desk(lm), [question], views, _OFF_TEXTS)

    def _told_training(self, lm: LanguageModel, tokens: DemoTokens, stop: Stop) -> Iterator[Progress]:
        """Slots trained on a document, unless they are kept: short calls come in between, and time is limited.

        Raises
        ------
        LimitError
            Nothing came of it in the time that a run may take.
        """
        if tokens.ids in self.trained and self.trained[tokens.ids].complete:
            return
        for event in self.going.in_time(self.service.turns.parted(self._iter_train(lm, tokens, stop)), stop):
            if isinstance(event, StepTrace):
                yield Progress("training on this document", event.step + 1, event.steps)
            elif isinstance(event, Progress):
                yield event

    def _iter_train(self, lm: LanguageModel, tokens: DemoTokens, stop: Stop) -> Iterator[Event]:
        desk = self.desk(lm)
        for event in iter_train_on_document(lm, tokens, desk.slots, stop=stop):
            if isinstance(event, Done):
                desk.forget()  # what an earlier training has left that was stopped
                self.trained[tokens.ids] = event.result
                while len(self.trained) > _TRAINED:
                    self.trained.popitem(last=False)
            yield event

    def _kept(self, lm: LanguageModel, tokens: DemoTokens, slots: int) -> KVPrefix:
        """The slots that were trained on a document. Views make none: nobody else could use the model for minutes."""
        if tokens.ids not in self.trained:
            raise ConfigError("the slots trained on this document are no longer kept; ask again")
        return self.trained[tokens.ids].prefix

    def _answered(self, lm: LanguageModel, question: Question, view: str) -> DocumentAnswer:
        desk = self.desk(lm)
        if view in self.lacking:
            return DocumentAnswer(view, missing=self.lacking[view])
        try:
            return _answer(desk, question, view)
        except ConfigError as error:  # an extra that is not installed
            return DocumentAnswer(view, missing=str(error))

    def desk(self, lm: LanguageModel, adapter: Path | None = None) -> DocumentDesk:
        """The views' desk for a model; what cannot be had is noted and only its views are missing."""
        if lm.fingerprint not in self.desks:
            desk, self.lacking = DocumentDesk(lm, train=self._kept), {}
            self.trained.clear()
            try:
                desk.reader = load_reader(lm, adapter or gist_adapter())
                desk.slots = len(desk.reader.ids)
            except (ConfigError, ModelError) as error:
                self.lacking |= _without("gists", error)
            try:
                desk.embed = load_embedder()
            except ModelError as error:
                self.lacking |= _without("passages", error)
            self.desks = {lm.fingerprint: desk}
        return self.desks[lm.fingerprint]


def _without(what: str, error: CedKVError) -> dict[str, str]:
    """Why the views that need something have no answer."""
    return {name: str(error) for name, view in VIEWS.items() if view.needs == what}


def _answer(desk: DocumentDesk, question: Question, view: str) -> DocumentAnswer:
    kind = VIEWS[view]
    prefix = kind.prefix(desk, question)
    text = generate(desk.lm, [desk.lm.encode(question.query)], prefix, question.max_new_tokens)[0]
    times = answering_times(desk.lm, question.query, prefix, 1)
    found = desk.passages(question.context).nearest(question.question) if kind.needs == "passages" else []
    return DocumentAnswer(
        view,
        text,
        slots=prefix.slots if prefix else 0,
        kv_bytes=prefix.nbytes if prefix else 0,
        ttft_ms=times["ttft_ms"],
        passages=tuple(found),
        for_others=prefix is not None and not kind.of_question and not kind.control,
    )
