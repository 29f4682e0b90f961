"""The one forward of the engine: base, teacher, student, training and generation are calls of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from cedkv.lm.attention import PREFIX_SEGMENT, AttentionRecorder, PackedBatch
from cedkv.lm.cache import layers_of
from cedkv.lm.load import LanguageModel
from cedkv.lm.rope import rotate_keys
from cedkv.state import DemoKV, DemoTokens, KVPrefix

# Tokens per packed forward: enough to keep matrix multiplies busy, few enough that the attention between
# different texts, which is computed and masked away, stays a small part.
PACK_TOKENS = 256
# Tokens of a block that are read at once: what is computed besides its cache stays of this size, however long it is.
READ_TOKENS = 1024
TokenIds = Sequence[int]
# What queries stand behind: one prefix for all of them, nothing, or one (or nothing) for each.
View = KVPrefix | None | Sequence[KVPrefix | None]


@dataclass
class PackedCache:
    """A prefix and the tokens packed behind it so far. A forward appends to it, as transformers' caches do."""

    kv: DynamicCache
    segment: Int[Tensor, " keys"]
    position: Int[Tensor, " keys"]
    active: Bool[Tensor, "layers prefix"]


def open_cache(lm: LanguageModel, prefix: KVPrefix | None) -> PackedCache:
    """A fresh cache holding the prefix: its keys rotated to their slots, everything in the model's dtype.

    The cache is built without the model's config on purpose: with it, sliding layers would drop old slots. Every
    prefix that enters a model enters it here.

    Raises
    ------
    StateError
        The prefix was made with another model.
    """
    if prefix is None:
        empty = torch.zeros(0, dtype=torch.long, device=lm.device)
        active = torch.zeros(lm.layers, 0, dtype=torch.bool, device=lm.device)
        return PackedCache(DynamicCache(), empty, empty, active)
    prefix.check_model(lm.fingerprint)
    keys = rotate_keys(lm, prefix.keys.to(lm.device), prefix.positions).to(lm.dtype)
    values = prefix.values.to(lm.device, lm.dtype)
    kv = DynamicCache(ddp_cache_data=[(k[None], v[None]) for k, v in zip(keys, values, strict=True)])
    segment = torch.full((prefix.slots,), PREFIX_SEGMENT, device=lm.device)
    return PackedCache(kv, segment, prefix.positions.to(lm.device), prefix.active.to(lm.device))


def open_caches(lm: LanguageModel, prefixes: Sequence[KVPrefix | None]) -> PackedCache:
    """A fresh cache that holds several prefixes at once: text `i` sees prefix `i` alone, as its own beginning."""
    caches = [open_cache(lm, prefix) for prefix in prefixes]
    filled = [cache.kv.layers for cache in caches if cache.kv.layers]
    if not filled:
        return open_cache(lm, None)
    kv = DynamicCache(
        ddp_cache_data=[
            (torch.cat([layer.keys for layer in same], dim=2), torch.cat([layer.values for layer in same], dim=2))
            for same in zip(*filled, strict=True)
        ]
    )
    segment = torch.cat([torch.full_like(cache.segment, text) for text, cache in enumerate(caches)])
    position = torch.cat([cache.position for cache in caches])
    return PackedCache(kv, segment, position, torch.cat([cache.active for cache in caches], dim=1))


def open_view(lm: LanguageModel, view: View) -> PackedCache:
    """A fresh cache for queries that are packed behind a view."""
    return open_caches(lm, view) if isinstance(view, Sequence) else open_cache(lm, view)


def part_of(view: View, part: slice) -> View:
    """The view of some of the queries."""
    return view[part] if isinstance(view, Sequence) else view


def extend(
    lm: LanguageModel,
    cache: PackedCache,
    ids: Int[Tensor, " tokens"],
    segment: Int[Tensor, " tokens"],
    position: Int[Tensor, " tokens"],
    read: Int[Tensor, " reads"],
    recorder: AttentionRecorder | None = None,
) -> Float[Tensor, "reads vocab"]:
    """Run packed tokens behind a cache and return the logits of the rows in `read`, in the model's dtype."""
    cache.segment = torch.cat([cache.segment, segment])
    cache.position = torch.cat([cache.position, position])
    packed = PackedBatch(
        cache.segment, cache.position, segment, position, cache.active, dtype=lm.dtype, recorder=recorder
    )
    return lm.model(
        input_ids=ids[None],
        position_ids=position[None],
        # Already four-dimensional, so transformers builds no mask of its own; `packed` makes the real one.
        attention_mask=torch.zeros(1, 1, 1, 1, device=lm.device),
        past_key_values=cache.kv,
        use_cache=True,
        logits_to_keep=read,
        packed=packed,
    ).logits[0]


def pack(
    lm: LanguageModel, queries: Sequence[TokenIds], view: View
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"], Int[Tensor, " tokens"], Int[Tensor, " queries"]]:
    """Concatenate queries: token ids, segment and position of each token, and the row of each query's last token."""
    prefixes = view if isinstance(view, Sequence) else [view] * len(queries)
    pairs = list(zip(queries, prefixes, strict=True))
    queries = [query if prefix else [*lm.bos, *query] for query, prefix in pairs]
    starts = [prefix.query_start if prefix else 0 for prefix in prefixes]
    lengths = torch.tensor([len(query) for query in queries])
    ids = torch.tensor([token for query in queries for token in query])
    segment = torch.repeat_interleave(torch.arange(len(queries)), lengths)
    spans = zip(starts, lengths.tolist(), strict=True)
    position = torch.cat([torch.arange(start, start + length) for start, length in spans])
    last = lengths.cumsum(0) - 1
    return ids.to(lm.device), segment.to(lm.device), position.to(lm.device), last.to(lm.device)


def packed_logits(
    lm: LanguageModel,
    queries: Sequence[TokenIds],
    view: View,
    reads: Sequence[int] | None = None,
    recorder: AttentionRecorder | None = None,
) -> Float[Tensor, "reads vocab"]:
    """Logits of one pack, differentiable in the prefixes.

    Without `reads`, one row per query: its last token. With it, the last `reads[i]` rows of query `i`, in order.
    """
    ids, segment, position, last = pack(lm, queries, view)
    rows = (
        last
        if reads is None
        else torch.cat(
            [torch.arange(int(end) - count + 1, int(end) + 1) for end, count in zip(last, reads, strict=True)]
        ).to(lm.device)
    )
    return extend(lm, open_view(lm, view), ids, segment, position, rows, recorder)


def pack_slices(queries: Sequence[TokenIds], pack_tokens: int = PACK_TOKENS) -> Iterator[slice]:
    """Consecutive queries that fit into one pack; a longer query gets a pack of its own."""
    start, tokens = 0, 0
    for index, query in enumerate(queries):
        if index > start and tokens + len(query) > pack_tokens:
            yield slice(start, index)
            start, tokens = index, 0
        tokens += len(query)
    if queries:
        yield slice(start, len(queries))


@torch.no_grad()
def iter_log_probs(
    lm: LanguageModel,
    queries: Sequence[TokenIds],
    view: View,
    reads: Sequence[int] | None = None,
    recorder: AttentionRecorder | None = None,
) -> Iterator[tuple[slice, Float[Tensor, "reads vocab"]]]:
    """Log-probabilities (fp32, nats) pack by pack: which queries, and their rows as in `packed_logits`.

    recorder : keeps how rows of the first pack attend.
    """
    for part in pack_slices(queries):
        watching = recorder if part.start == 0 else None
        logits = packed_logits(lm, queries[part], part_of(view, part), reads and reads[part], watching)
        yield part, logits.float().log_softmax(dim=-1)


def log_probs(
    lm: LanguageModel,
    queries: Sequence[TokenIds],
    view: View = None,
    reads: Sequence[int] | None = None,
) -> Float[Tensor, "reads vocab"]:
    """Next-token log-probabilities (fp32, nats) of many queries behind one prefix, alone, or each behind its own."""
    return torch.cat([rows for _, rows in iter_log_probs(lm, queries, view, reads)])


@torch.no_grad()
def read_demo_kv(lm: LanguageModel, tokens: DemoTokens, recorder: AttentionRecorder | None = None) -> DemoKV:
    """Keys before rotary embedding and values of every token of a block, from one forward, a long block's in parts.

    The keys are caught where the architecture makes them (`architectures.KeySource`), so nothing is un-rotated
    and the full block injected again is the teacher's own cache.

    recorder : keeps how rows of the last part attend.
    """
    caught: list[Tensor] = []
    source = lm.key_source
    hooks = [
        getattr(attention, source.module).register_forward_hook(lambda _m, _i, out: caught.append(out[0]))
        for attention in lm.decoder.attentions
    ]
    cache = open_cache(lm, None)
    ids = torch.tensor(tokens.ids, device=lm.device)
    position = torch.arange(len(ids), device=lm.device)
    parts = list(zip(ids.split(READ_TOKENS), position.split(READ_TOKENS), strict=True))
    try:
        for number, (some, at) in enumerate(parts, start=1):
            watching = recorder if number == len(parts) else None
            extend(lm, cache, some, torch.zeros_like(some), at, read=at[-1:] - at[0], recorder=watching)
    finally:
        for hook in hooks:
            hook.remove()
    parts_of = [_heads_first(k, source.layout, lm) for k in caught]  # every layer of a part, then the next part's
    keys = torch.stack([torch.cat(parts_of[layer :: lm.layers], dim=1) for layer in range(lm.layers)])
    values = torch.stack([layer.values[0] for layer in layers_of(cache.kv)])
    return DemoKV(keys, values, tokens, lm.fingerprint)


def read_lead(lm: LanguageModel, tokens: DemoTokens) -> KVPrefix | None:
    """What the base sees in front of a query: the lead of the demonstrations' tokens.

    None where that is what the tokenizer puts in front of every text by itself.
    """
    lead = tokens.lead()
    return read_demo_kv(lm, lead).as_prefix() if len(lead) > len(lm.bos) else None


def demo_kv_bytes(lm: LanguageModel, tokens: DemoTokens) -> int:
    """Bytes of the keys and values that `read_demo_kv` would give, without the forward."""
    return 2 * lm.layers * lm.kv_heads * len(tokens) * lm.head_dim * lm.dtype.itemsize


def _heads_first(keys: Tensor, layout: str, lm: LanguageModel) -> Float[Tensor, "kv_heads tokens head_dim"]:
    if layout == "heads_first":
        return keys
    if layout == "fused":
        start, width = keys.shape[-1] - 2 * lm.kv_heads * lm.head_dim, lm.kv_heads * lm.head_dim
        keys = keys[:, start : start + width]
    return keys.view(keys.shape[0], lm.kv_heads, lm.head_dim).transpose(0, 1)
