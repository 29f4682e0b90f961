"""Reports of the gate's shape for what no gate has judged: an extraction alone, or a state file from elsewhere."""

from cedkv.config import Config
from cedkv.episodes import Episode
from cedkv.lm import LanguageModel
from cedkv.methods import Extraction
from cedkv.provenance import library_versions
from cedkv.report import EpisodeBlock, Report
from cedkv.report.slots import describe_state
from cedkv.state import KVPrefix


def report_of_extraction(
    lm: LanguageModel, episode: Episode, config: Config, extraction: Extraction, run_id: str, seconds: float
) -> Report:
    """What an extraction alone can say.

    seconds : what it took, with loading the model and preparing the episode.
    """
    return {
        "run_id": run_id,
        "phase": 0,
        "method": extraction.method,
        "complete": extraction.complete,
        "stopped": extraction.training.get("stopped", ""),
        "seed": config.run.seed,
        "slots_budget": extraction.prefix.slots,
        "model": lm.describe(),
        "episode": {**episode.describe(), "a_query": episode.on_eval[0].input},
        "demonstrations_read": episode.reading.as_dict() if episode.reading else None,
        **describe_state(extraction.prefix, config.phase2.reporting.topk_tokens),
        "timing": {"total": seconds},
        "versions": library_versions(),
    }


def report_of_state(state: KVPrefix, method: str, lm: LanguageModel, config: Config) -> Report:
    """What a lone state file can tell."""
    tokens = state.mixture.tokens if state.mixture else None
    episode: EpisodeBlock = {
        "task": str(state.meta.get("task", "unknown")),
        "demos": len(tokens.demo_spans()) if tokens else 0,
        "tokens": len(tokens) if tokens else 0,
        "template": str(state.meta.get("template", "Q: {input}\nA: {output}\n\n")),
        "opening": str(state.meta.get("opening", "")),
        "stop": str(state.meta.get("stop", "")),
    }
    if "template_digest" in state.meta:
        episode["template_digest"] = str(state.meta["template_digest"])
    return {
        "run_id": "opened",
        "phase": 0,
        "method": method,
        "complete": True,
        "slots_budget": state.slots,
        "model": {"id": lm.id, "fingerprint": lm.fingerprint},
        "episode": episode,
        **describe_state(state, config.phase2.reporting.topk_tokens),
        "timing": {"total": 0.0},
    }
