"""Training: losses, lambda, top-k and the real metrics, live while it runs and from the run's file afterwards."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from cedkv.events import StepTrace, Tick
from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import DRAWING, drawn, run_of, told
from components.headline import empty_html, loading_html, stat
from components.plots import take_away_plot
from components.run_figures import read_training, trained_methods, training_figure
from components.tabs.frame import Page, Tab, Updates
from components.text import esc, number
from components.theme import view_choices, view_name

_GLOSS = (
    '<div class="ck ck-legend">L_on: KL from the teacher on queries · L_off: effect on the worst other texts, weighted '
    "by lambda_off · L_str: entropy and overlap of the mixtures · top-k: tokens that a slot may mix · at ticks: "
    "measured as the gate does · role mass: share of the slots’ weight on each kind of token</div>"
)


@dataclass(frozen=True)
class TrainingParts:
    note: gr.HTML
    method: gr.Radio
    curves: gr.Plot

    def shown(self) -> list[Component]:
        return [self.note, self.method, self.curves]


@dataclass
class LiveCurves:
    """The steps and ticks of the training that runs now; a second method starts anew."""

    method: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    ticks: list[dict[str, Any]] = field(default_factory=list)

    def add(self, event: StepTrace | Tick) -> None:
        if event.method != self.method:
            self.method, self.steps, self.ticks = event.method, [], []
        (self.steps if isinstance(event, StepTrace) else self.ticks).append(event.as_dict())


def build(opening: Run | None) -> TrainingParts:
    note = gr.HTML(loading_html(opening, training_html(None)), elem_id="training-note")
    method = gr.Radio([], label="method", container=False, visible=False, elem_id="trained")
    curves = take_away_plot("training-curves")
    return TrainingParts(note, method, curves)


def show(parts: TrainingParts, run: Run) -> Updates:
    trained = trained_methods(run)
    method = next(iter(trained), None)
    training = read_training(run, method)
    return {
        parts.note: training_html(training),
        parts.method: gr.Radio(view_choices(trained), value=method, visible=len(trained) > 1),
        parts.curves: drawn(training_figure(training)),
    }


def wire(page: Page, desk: Desk) -> None:
    parts = page.part(TrainingParts)

    @told
    def draw(run_id: str, method: str, request: gr.Request) -> tuple[Any, Any]:
        training = read_training(run_of(desk, request, run_id), method)
        return training_html(training), drawn(training_figure(training))

    parts.method.input(draw, [page.run_id, parts.method], [parts.note, parts.curves], **DRAWING)


def training_html(training: dict[str, Any] | None) -> str:
    if not training or not training["steps"]:
        return empty_html(
            "Nothing was trained",
            "Choose the method CED mixture or Free-KV and press Run; the curves move while it trains.",
        )
    last, ticks = training["steps"][-1], training["ticks"]
    stats = [
        stat("steps", str(len(training["steps"])), training.get("stopped") or f"of {last['steps']}"),
        stat("L_on, nats", number(last["loss_on"], 3), f"from {number(training['steps'][0]['loss_on'], 3)}"),
    ]
    if ticks:
        stats.append(
            stat(
                "KL to teacher, nats",
                number(ticks[-1]["train_kl"], 3),
                f"first tick {number(ticks[0]['train_kl'], 3)}",
            )
        )
        stats.append(
            stat(
                "p99 on training’s texts, nats",
                number(ticks[-1]["stress_p99"]),
                f"first tick {number(ticks[0]['stress_p99'])}",
            )
        )
    return f'<div class="ck ck-head">{"".join(stats)}</div>{_GLOSS}'


def live_html(live: LiveCurves) -> str:
    """Whose curves are growing, while the rest of the page still shows the run before. True also once it was cut."""
    name = f'<div class="ck ck-note busy">the latest training: {esc(view_name(live.method))}</div>'
    return name + training_html({"steps": live.steps, "ticks": live.ticks})


TAB = Tab("Training", "training", build, show, wire=wire)
