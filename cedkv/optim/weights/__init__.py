"""Which tokens matter: scorers of token weights. A new one is a file and a name in this list."""

from difflib import get_close_matches

from cedkv.errors import ConfigError
from cedkv.optim.weights import combined, controls, critic, rho1
from cedkv.optim.weights.base import Run, Scorer, ScorerSettings, TokenBatch

SCORERS: dict[str, Scorer] = {
    scorer.key: scorer
    for scorer in (
        rho1.SCORER,
        critic.SCORER,
        combined.SCORER,
        controls.UNIFORM,
        controls.SHUFFLED,
        controls.RANDOM_MATCHED,
    )
}


def find_scorer(key: str) -> Scorer:
    """The scorer of a key. Raises `ConfigError`, naming the nearest one, where there is none."""
    if key not in SCORERS:
        near = get_close_matches(key, SCORERS, n=1, cutoff=0)[0]
        raise ConfigError(f"scorer {key!r} is unknown; did you mean {near!r}? Known are {', '.join(SCORERS)}")
    return SCORERS[key]


__all__ = ["SCORERS", "Run", "Scorer", "ScorerSettings", "TokenBatch", "find_scorer"]
