"""Where an extractor's table begins: at what trainings of single episodes found, as a pair log keeps it."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.compressors.extractor import KINDS, Extractor, token_kinds
from cedkv.config import ExtractorConfig
from cedkv.episodes import get_template
from cedkv.errors import ConfigError
from cedkv.ledger import Row
from cedkv.lm import LanguageModel
from cedkv.methods.pairs import PairLog
from cedkv.state import DemoTokens

# As if one more slot of each kind had been found to need no correction: what few pairs speak of moves little.
_RIDGE = 1.0


def start_from_pairs(net: Extractor, lm: LanguageModel, config: ExtractorConfig) -> int:
    """Set the table's log-biases and gains to those nearest to the trainings' (ridge regression on kinds of place).

    What judges or is held out has no part in it, nor has another model. Returns how many pairs were read; 0 where none
    are asked for.

    Raises
    ------
    ConfigError
        The log has no pair that may be learnt from.
    PairError
        The log cannot be read, or a pair is damaged.
    """
    if config.data.pairs is None:
        return 0
    log = PairLog(Path(config.data.pairs))
    rows = [row for row in log.rows().values() if _may_be_learnt(row, lm, config)]
    if not rows:
        raise ConfigError(
            f"data.pairs = {config.data.pairs!r} has no pair of {lm.id!r} on tasks and templates to train "
            "on; train more episodes with phase3.pair_log, or leave data.pairs out"
        )
    told = [_told(log.read(row), DemoTokens(**_tuples(row["tokens"])), config.weight) for row in rows]
    kinds, off = torch.cat([kinds for kinds, _ in told]), torch.cat([off for _, off in told], dim=-1)
    inverse = torch.linalg.inv(kinds.mT @ kinds + _RIDGE * torch.eye(len(KINDS)))
    with torch.no_grad():
        for table, found in zip((net.log_bias, net.gain), off @ kinds @ inverse, strict=True):
            table.copy_(found)
    return len(rows)


def _may_be_learnt(row: Row, lm: LanguageModel, config: ExtractorConfig) -> bool:
    tasks, templates = config.data.not_trained_on
    apart = {get_template(name).name for name in templates}
    return row["fingerprint"] == lm.fingerprint and row["task"] not in tasks and row["template"] not in apart


def _told(
    numbers: dict[str, Tensor], tokens: DemoTokens, weight: float
) -> tuple[Float[Tensor, "slots kinds"], Float[Tensor, "both layers kv_heads slots"]]:
    """Of every slot the kinds of its tokens, and by how much the trained slot is off the closed form."""
    inside = (numbers["weights"] > 0).any(dim=0).any(dim=0).float()
    counts = inside.sum(dim=-1)
    kinds = inside @ torch.eye(len(KINDS))[[KINDS.index(kind) for kind in token_kinds(tokens)]] / counts[:, None]
    kinds[:, -1] = 0  # what belongs to no demonstration is never corrected
    return kinds, torch.stack([numbers["log_bias"] - weight * counts.log(), numbers["value_gain"] - 1]).float()


def _tuples(told: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(values) for name, values in told.items()}
