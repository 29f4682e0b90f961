"""Looking inside a forward: how queries attend to a prefix, and what another prefix would have given them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cedkv.lm.attention import AttentionRecorder
from cedkv.lm.forward import READ_TOKENS, TokenIds, pack, pack_slices, packed_logits, read_demo_kv
from cedkv.lm.load import LanguageModel
from cedkv.lm.rope import rotate_keys
from cedkv.state import DemoKV, DemoTokens, KVPrefix


@dataclass(frozen=True)
class AttentionReading:
    """Every query token's attention behind a prefix, in every layer (fp32); see `AttentionRecorder`.

    last : the row of each query's last token.
    """

    query: Float[Tensor, "layers heads rows head_dim"]
    prefix_scores: Float[Tensor, "layers heads rows slots"]
    own_lse: Float[Tensor, "layers heads rows"]
    own_out: Float[Tensor, "layers heads rows head_dim"]
    last: Int[Tensor, " queries"]
    query_start: int
    scaling: float

    def to_slots(self, rows: Int[Tensor, " some"] | slice = slice(None)) -> Float[Tensor, "layers heads some slots"]:
        """Attention probability from rows, or from every row, to each slot."""
        scores = torch.cat([self.prefix_scores, self.own_lse[..., None]], dim=-1)[:, :, rows]
        return scores.softmax(-1)[..., :-1]

    def at_last_tokens(self) -> Float[Tensor, "layers heads queries slots"]:
        """Attention probability from each query's last token to each slot."""
        return self.to_slots(self.last)

    def outputs(
        self,
        prefix_scores: Float[Tensor, "layers heads rows slots"],
        values: Float[Tensor, "layers kv_heads slots head_dim"],
    ) -> Float[Tensor, "layers heads rows head_dim"]:
        """Attention outputs of the same queries, had the prefix these scores and values."""
        heads = self.query.shape[1]
        values = values.float().repeat_interleave(heads // values.shape[1], dim=1)
        shares = torch.cat([prefix_scores, self.own_lse[..., None]], dim=-1).softmax(-1)
        return shares[..., :-1] @ values + shares[..., -1:] * self.own_out

    def scores_of(self, lm: LanguageModel, prefix: KVPrefix) -> Float[Tensor, "layers heads rows slots"]:
        """Scores the same queries would give another prefix, moved to where they stand behind it.

        Rotary attention depends on distances only, so the queries stay and the slots are moved towards them. (Turning
        the queries once more would apply the scale of yarn's rotary embedding twice.)
        """
        positions = prefix.positions - (prefix.query_start - self.query_start)
        keys = rotate_keys(lm, prefix.keys.float(), positions)
        keys = keys.repeat_interleave(self.query.shape[1] // keys.shape[1], dim=1)
        hidden = torch.finfo(torch.float32).min
        # Slots first: few rows by many columns is what matrix multiplication on a processor is fast at.
        scores = (keys @ self.query.mT * self.scaling).masked_fill(~prefix.active[:, None, :, None], hidden)
        return scores.mT


@torch.no_grad()
def read_attention(
    lm: LanguageModel, queries: Sequence[TokenIds], prefix: KVPrefix | None, tail: int | None = None
) -> AttentionReading:
    """Run queries behind a prefix, or alone, and keep how every token attends, or the last `tail` of each query."""
    slots = prefix.slots if prefix else 0
    recorders, last, offset = [], [], -1
    for part in pack_slices(queries):
        ids, segment, _, ends = pack(lm, queries[part], prefix)
        rows = torch.arange(len(ids), device=lm.device)
        if tail is not None:
            rows = rows[ends[segment] - rows < tail]
        recorders.append(AttentionRecorder(rows, slots))
        packed_logits(lm, queries[part], prefix, recorder=recorders[-1])
        last.append(offset + torch.searchsorted(rows, ends, right=True))
        offset += len(rows)

    return reading_of(lm, recorders, prefix.query_start if prefix else 0, torch.cat(last))


def read_demonstrations(lm: LanguageModel, tokens: DemoTokens, tail: int) -> tuple[DemoKV, AttentionReading | None]:
    """`read_demo_kv`, and from the same forward how the last demonstration attends to all that stands before it.

    No reading where there are not two demonstrations, or those tokens lie before the last part of a long block.

    tail : how many of its last tokens are looked at.
    """
    *before, (start, end) = tokens.demo_spans() or [(0, len(tokens))]
    first, part = max(start, end - tail), (len(tokens) - 1) // READ_TOKENS * READ_TOKENS
    if not before or first < part:
        return read_demo_kv(lm, tokens), None
    recorder = AttentionRecorder(torch.arange(first, end, device=lm.device) - part, prefix=start)
    demo_kv = read_demo_kv(lm, tokens, recorder)
    return demo_kv, reading_of(lm, [recorder], query_start=start)


def record_tail(lm: LanguageModel, text: TokenIds, prefix: KVPrefix, tail: int) -> AttentionRecorder:
    """Keeps how the last `tail` tokens of a text attend to the prefix, in a forward whose first text it is."""
    return AttentionRecorder(torch.arange(len(text) - tail, len(text), device=lm.device), prefix.slots)


def reading_of(
    lm: LanguageModel,
    recorders: Sequence[AttentionRecorder],
    query_start: int,
    last: Int[Tensor, " queries"] | None = None,
) -> AttentionReading:
    """What forwards have recorded of queries that start at a position; without `last`, their last row is the only
    query's end."""

    def gathered(name: str) -> Tensor:
        return torch.cat([torch.stack(getattr(recorder, name)) for recorder in recorders], dim=2)

    return AttentionReading(
        query=gathered("query"),
        prefix_scores=gathered("prefix_scores"),
        own_lse=gathered("own_lse"),
        own_out=gathered("own_out"),
        last=torch.tensor([-1], device=lm.device) if last is None else last,
        query_start=query_start,
        scaling=lm.decoder.scaling,
    )
