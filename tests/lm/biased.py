"""The oracle of a slot's weight: a true additive bias on its attention scores, as a float mask through plain SDPA."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from cedkv.lm import LanguageModel
from cedkv.lm.rope import rotate_keys
from cedkv.state import KVPrefix


@torch.no_grad()
def biased_log_probs(
    lm: LanguageModel, query: Sequence[int], prefix: KVPrefix, bias: Float[Tensor, "heads slots"]
) -> Float[Tensor, " vocab"]:
    """Next-token log-probabilities behind slots whose scores are raised by `bias`, the same in every layer."""
    keys = rotate_keys(lm, prefix.keys.float(), prefix.positions)
    cache = DynamicCache(ddp_cache_data=[(k[None], v[None]) for k, v in zip(keys, prefix.values.float(), strict=True)])
    own = torch.full((len(query), len(query)), torch.finfo(torch.float32).min).triu(1)
    mask = torch.cat([bias[:, None].expand(-1, len(query), -1), own.expand(len(bias), -1, -1)], dim=-1)[None]
    layer_types = getattr(lm.model.config, "layer_types", None) if "gemma" in lm.model.config.model_type else None
    logits = lm.model(
        input_ids=torch.tensor([list(query)]),
        position_ids=torch.arange(prefix.query_start, prefix.query_start + len(query))[None],
        attention_mask=dict.fromkeys(layer_types, mask) if layer_types else mask,
        past_key_values=cache,
    ).logits[0, -1]
    return logits.log_softmax(-1)
