"""Who sees whom when a document, its gists and a query stand in one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

# `gist`: a query sees the gists and not the context. `full`, the positive control: it sees both. `blind`, the negative
# control: the gists do not see the context either, so nothing of it can reach the query.
Control = Literal["gist", "full", "blind"]
CONTROLS: tuple[Control, ...] = ("gist", "full", "blind")
IGNORED = -100


class Region(IntEnum):
    """What a token of a row belongs to."""

    PAD = 0
    CONTEXT = 1
    GIST = 2
    QUERY = 3


def gist_mask(
    regions: Int[Tensor, "batch tokens"],
    control: Control = "gist",
    sink: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "batch 1 tokens tokens"]:
    """The additive mask of rows that hold a context, gists and a query in this order: 0 or the dtype's least number.

    A row without gists is plainly causal. With `sink` the first gist of a row sees itself alone.

    References
    ----------
    Mu et al. 2023, Learning to compress prompts with gist tokens.
    """
    reader, read = regions[:, :, None], regions[:, None, :]
    tokens = regions.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=regions.device).tril()
    gist = regions == Region.GIST
    has_gists = gist.any(dim=1)[:, None, None]
    blocked = read == Region.PAD
    if control != "full":
        blocked = blocked | (has_gists & (reader == Region.QUERY) & (read == Region.CONTEXT))
    if control == "blind":
        blocked = blocked | ((reader == Region.GIST) & (read == Region.CONTEXT))
    if sink:
        blocked = blocked | (gist & (gist.cumsum(dim=1) == 1))[:, :, None]
    itself = torch.eye(tokens, dtype=torch.bool, device=regions.device)
    allowed = (causal & ~blocked) | itself  # padding sees itself: a row of nothing has no softmax
    mask = torch.zeros(regions.shape[0], 1, tokens, tokens, dtype=dtype, device=regions.device)
    return mask.masked_fill_(~allowed[:, None], torch.finfo(dtype).min)


@dataclass(frozen=True)
class GistDataCollator:
    """Rows of context, gists, query and answer, filled up on the left so that they end together.

    gist_ids : the gist tokens' ids; none of them leaves a row plainly causal.
    pad_id : any token that may stand where nobody looks.
    """

    gist_ids: Sequence[int]
    pad_id: int
    control: Control = "gist"
    sink: bool = False
    dtype: torch.dtype = torch.float32

    def __call__(self, features: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Tensor]:
        """Tensors of a batch of features with `context`, `query` and, where it is known, `answer`.

        Returns
        -------
        `input_ids`, `regions`, `position_ids` (every row's own, from 0), `attention_mask` as `gist_mask` makes it, and
        `labels`, which are the answers' tokens in their own places and `IGNORED` elsewhere.
        """
        rows = [self._row(feature) for feature in features]
        width = max(len(ids) for ids, _, _ in rows)
        input_ids = _left_padded([ids for ids, _, _ in rows], width, self.pad_id)
        regions = _left_padded([regions for _, regions, _ in rows], width, Region.PAD)
        labels = _left_padded([labels for _, _, labels in rows], width, IGNORED)
        return {
            "input_ids": input_ids,
            "regions": regions,
            "position_ids": ((regions != Region.PAD).cumsum(dim=1) - 1).clamp(min=0),
            "attention_mask": gist_mask(regions, self.control, self.sink, self.dtype),
            "labels": labels,
        }

    def _row(self, feature: Mapping[str, Sequence[int]]) -> tuple[list[int], list[int], list[int]]:
        parts = [list(feature["context"]), list(self.gist_ids), list(feature["query"]), list(feature.get("answer", ()))]
        ids = [token for part in parts for token in part]
        named = (Region.CONTEXT, Region.GIST, Region.QUERY, Region.QUERY)
        regions = [int(region) for region, part in zip(named, parts, strict=True) for _ in part]
        return ids, regions, [IGNORED] * (len(ids) - len(parts[-1])) + parts[-1]


def _left_padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Int[Tensor, "batch width"]:
    return torch.tensor([[fill] * (width - len(row)) + list(row) for row in rows], dtype=torch.long)
