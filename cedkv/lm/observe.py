"""Looking inside a forward: how much each query attends to each prefix token."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm.attention import AttentionRecorder
from cedkv.lm.forward import TokenIds, pack, pack_slices, packed_logits
from cedkv.lm.load import LanguageModel
from cedkv.state import KVPrefix


@torch.no_grad()
def prefix_attention(
    lm: LanguageModel, queries: Sequence[TokenIds], prefix: KVPrefix
) -> Float[Tensor, "layers heads queries slots"]:
    """Attention probability (fp32) from each query's last token to each slot of the prefix."""
    parts = []
    for part in pack_slices(queries):
        recorder = AttentionRecorder(rows=pack(lm, queries[part], prefix)[3])
        packed_logits(lm, queries[part], prefix, recorder=recorder)
        parts.append(torch.stack(recorder.probabilities)[..., : prefix.slots])
    return torch.cat(parts, dim=2)
