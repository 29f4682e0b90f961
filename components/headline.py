"""The strip above the tabs: which run this is, its verdict, and a few numbers, each with its yardstick."""

import re
from math import sqrt
from typing import Literal

from cedkv.report import Report, of_harm
from cedkv.session.runs import Run
from components.text import esc, number
from components.theme import view_name

# What a number says and which way is better, told when its tile is pointed at.
_MEANING = {
    "first token": "Share of unseen queries whose answer begins with the right token. Higher is better.",
    "whole answer": "Share of unseen queries whose whole generated answer is the right one. Higher is better.",
    "agreement with teacher": "Share of queries whose answer begins as the teacher's does. Higher is better.",
    "KL to teacher, nats": "How far the next-token probabilities are from the teacher's on queries. Lower is better.",
    "OFF effect p99, nats": "How far the slots move the model on texts that have nothing to do with the examples, in "
    "all but the worst 1 of 100. Lower is better.",
    "whole answer, log-prob gain": "How much likelier the right answer is than without slots. Higher is better.",
    "effective rank of values": "How many of the slots really differ from each other. Higher is better.",
    "effective rank, values": "How many of the slots' values really differ from each other. Higher is better.",
    "effective rank, keys": "How many of the slots' keys really differ from each other. Higher is better.",
    "largest value cosine": "How alike the two most similar slots are, 1 being copies. Lower is better.",
    "largest overlap": "How much two slots draw on the same tokens, 1 being all. Lower is better.",
    "p99 on training’s texts, nats": "How far the slots move the model on texts that have nothing to do with the "
    "examples, in all but the worst 1 of 100: of those of the gate's texts that training reads. Lower is better.",
    "L_on, nats": "The training's loss: KL from the teacher on training queries. Lower is better.",
}

# Links within the page. Its base is another address, so the browser would load that anew.
ANCHORS = """
element.addEventListener('click', (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (!link) return;
  event.preventDefault();
  location.hash = link.getAttribute('href');
});
"""

_TO_WORK = " To try: more slots, more demonstrations, or a trained method."
_TO_HARM_LESS = (
    " To try against the harm: a trained method, whose loss counts other text, a larger lambda_off, or more steps "
    "where it is still loud (extend_to)."
)


def top_html(state: str, name: str, detail: str) -> str:
    """The page's first line: its name, and how the model is."""
    return (
        '<div class="ck ck-top"><h1>CED-KV</h1><span class="muted">what does each slot do, and is it safe?</span>'
        f'<span class="model mono"><i class="ck-dot {esc(state)}"></i>{esc(name)} '
        f'<span class="muted">{esc(detail)}</span></span></div>'
    )


def intro_html() -> str:
    """What this page is about, for who sees it for the first time."""
    return (
        '<p class="ck ck-intro">A <b>slot</b> is one key and value vector mixed from your examples’ tokens; a few '
        "slots stand in for the whole prompt. <b>Good</b> means that the student (slots and query) answers like the "
        "teacher (examples and query), and that text which has nothing to do with the examples is read as if nothing "
        'were there. <a class="ck-to-rail" href="#rail">Set up a run</a></p>'
    )


def headline_html(run: Run | None, alone: bool = False) -> str:
    """The strip of a run. `alone` is in a file of its own, where there is nothing to press."""
    if run is None:
        return empty_html("No run yet", "Choose demonstrations on the left and press Run.")
    report, view = run.report, run.judged_view
    what = (
        f"<h2>{esc(task_name(report))} · S={report['slots_budget']} · {esc(view_name(run.made_by or view))}</h2>"
        f"<small>{esc(' · '.join(part for part in (run.notes['name'], run.note, run.id) if part))}</small> "
    )
    stats = "".join(_stats(report, view)) if run.judged else _unjudged(report, bool(run.student) and not alone)
    said = f'<p class="ck-says">{verdict_sentence(report, view)}</p>' if run.judged else ""
    return f'<div class="ck ck-head"><div class="what run">{what}{_verdicts(run)}{said}</div>{stats}</div>'


def task_name(report: Report) -> str:
    """A run's task as people read it; demonstrations of one's own are a file with a number for its name."""
    name = str(report["episode"]["task"])
    return "own demonstrations" if re.fullmatch(r"demonstrations-[0-9a-f]{8}", name) else name


def verdict_sentence(report: Report, view: str) -> str:
    """Gate B as two sentences, each with its yardsticks."""
    rows, on, off = report["gate_b"], report["on"], report["off"]
    harm = [row for row in rows if of_harm(row)]
    works, harmless = (all(row["passed"] for row in part) for part in ([r for r in rows if r not in harm], harm))
    name: Literal["whole_answer", "accuracy"] = (
        "whole_answer" if on[view].get("whole_answer") is not None else "accuracy"
    )
    queries, right = report["episode"].get("on_eval", 0), "whole answers" if name == "whole_answer" else "first tokens"
    made_up = "queries that the model made up, measured by the teacher’s own answers"
    asked = made_up if report["episode"].get("on_eval_gold") == "teacher" else "unseen queries"
    count, theirs = (round(on[who][name] * queries) for who in (view, "teacher"))
    allowed = next((f" of {esc(number(row['threshold']))} allowed" for row in harm if "p99" in row["name"]), "")
    costs = [
        f"{label} {'cost' if label.endswith('s') else 'costs'} {esc(number(off[other]['stress']['delta_p99']))}"
        for other, label in (("neutral_paragraph", "an ordinary paragraph"), ("teacher", "the demonstrations"))
        if "stress" in off.get(other, {})
    ]
    verdicts = ("Works" if works else "Does not work well enough", "Harmless" if harmless else "Disturbs other text")
    worst = esc(number(off[view]["stress"]["delta_p99"]))
    return (
        f"<b>{verdicts[0]}</b>: {count} of {queries} {right} right on {asked} ({interval(count, queries)}), "
        f"the teacher {theirs}. <b>{verdicts[1]}</b>: {worst}{allowed}{'; ' if costs else ''}{', '.join(costs)}."
        f"{'' if works else _TO_WORK}{'' if harmless else _TO_HARM_LESS}"
    )


def interval(count: int, total: int) -> str:
    """Where a share lies with 95 % confidence (Wilson 1927), in percent."""
    if not total:
        return "no queries"
    z, share = 1.96, count / total
    middle, half = share + z * z / (2 * total), z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low, high = (max(0.0, min(1.0, (middle + sign * half) / (1 + z * z / total))) for sign in (-1, 1))
    return f"95 %: {low:.0%} to {high:.0%}"


def empty_html(title: str, advice: str) -> str:
    """What a part of the page shows while it has nothing to show."""
    return f'<div class="ck"><div class="ck-empty"><b>{esc(title)}</b>{esc(advice)}</div></div>'


def not_judged_html(run: Run | None, what: str, alone: bool = False) -> str:
    """Why a verdict is missing, and what to press for it. `what` the gate does; `alone` as for the headline."""
    if alone:
        return empty_html("Not judged", "The gate was not run on this state.")
    return empty_html("Not judged yet", f"{how_to_judge(run)}: {what}.")


def how_to_judge(run: Run | None) -> str:
    """What judges the run that is shown; Run gate judges another, made from the form."""
    if run is None:
        return "Press Run gate, which makes a run and judges it"
    if run.student:
        return "Press Judge this state, above the tabs"
    return "This run has no state to judge; Run gate makes and judges a new one"


def loading_html(opening: Run | None, otherwise: str) -> str:
    """A part of a page that opens on a finished run, before that is read; `otherwise` where it opens on none."""
    return empty_html("Loading the example…", "A finished run is being read.") if opening else otherwise


def _verdicts(run: Run) -> str:
    parts = ['<span class="ck-verdict none">cancelled</span>'] if run.cancelled else []
    for gate, rows in (("A", run.report.get("gate_a")), ("B", run.report.get("gate_b"))):
        if not rows:
            parts.append(f'<span class="ck-verdict none">Gate {gate} not run</span>')
        elif all(row["passed"] for row in rows):
            parts.append(f'<span class="ck-verdict pass">Gate {gate} passed</span>')
        else:
            failed = sum(not row["passed"] for row in rows)
            parts.append(f'<span class="ck-verdict fail">Gate {gate} failed ({failed} of {len(rows)})</span>')
    return " ".join(parts)


def _stats(report: Report, student: str) -> list[str]:
    on, off, episode = report["on"], report["off"], report["episode"]
    mine, teacher = on[student], on["teacher"]
    queries, stress = episode.get("on_eval", "?"), episode.get("off", {}).get("stress")
    texts = stress["count"] if stress else "?"
    if episode.get("on_eval_gold") == "teacher":
        asked = f"agreement with teacher on {queries} queries that the model made up"
    else:
        asked = f"teacher {number(teacher['accuracy'])} · {queries} queries"
    return [
        stat("first token", number(mine["accuracy"]), asked),
        stat("whole answer", number(mine.get("whole_answer")), f"teacher {number(teacher.get('whole_answer'))}"),
        stat("KL to teacher, nats", number(mine["kl_to_teacher"]), f"base {number(on['base']['kl_to_teacher'])}"),
        stat(
            "OFF effect p99, nats",
            number(off[student]["stress"]["delta_p99"]),
            f"demonstrations {number(off['teacher']['stress']['delta_p99'])} · {texts} texts{_few(texts)}",
        ),
        stat(
            "whole answer, log-prob gain",
            number(mine["answer_logprob_gain"]),
            f"teacher {number(teacher['answer_logprob_gain'])}",
        ),
    ]


def _few(texts: int | str) -> str:
    """Of fewer than a hundred texts no percent of them is one of them."""
    return ", so nearly the worst" if isinstance(texts, int) and texts < 100 else ""


def _unjudged(report: Report, judgeable: bool) -> str:
    """What there is of a run that was never judged, or was cut short before its verdict."""
    collapse, seconds = report["collapse"], report["timing"].get("total")
    stats = []
    if collapse:
        rank, slots = number(collapse["effective_rank_values"], 1), report["slots_budget"]
        stats.append(stat("effective rank of values", rank, f"of {slots} slots"))
    if seconds is not None:
        stats.append(stat("made in", f"{seconds:.1f} s", "press Judge this state" if judgeable else "not judged"))
    return "".join(stats) or stat("views judged", str(len(report.get("on", {}))), "before it was cut short")


def stat(name: str, value: str, yardstick: str) -> str:
    meaning = f' title="{esc(_MEANING[name])}"' if name in _MEANING else ""
    return (
        f'<div class="ck-stat"{meaning}><span class="k">{esc(name)}</span><span class="v">{esc(value)}</span> '
        f'<span class="of">{esc(yardstick)}</span></div>'
    )
