"""From a document to a prefix: read it, let the gists read it, keep their keys and values and nothing else."""

from dataclasses import dataclass, replace

import torch

from cedkv.compressors.gist.mask import Control, Region, gist_mask
from cedkv.errors import DemoError
from cedkv.lm import LanguageModel, read_demo_kv
from cedkv.lm.cache import layers_of
from cedkv.lm.forward import open_cache
from cedkv.lm.gists import GistReader, gist_tokens_of
from cedkv.lm.rope import unrotate_keys
from cedkv.state import DemoKV, DemoTokens, KVPrefix
from cedkv.state.cache import StateCache, content_key


def document_tokens(lm: LanguageModel, text: str, room: int = 0) -> DemoTokens:
    """A document's tokens, each of role `context`.

    Parameters
    ----------
    room : tokens that are to fit into the model's context besides.

    Raises
    ------
    DemoError
        The document is empty, or longer than the model's context.
    """
    if not text.strip():
        raise DemoError("the document is empty; paste a text or choose another file")
    ids = [*lm.bos, *lm.encode(text)]
    if len(ids) + room > lm.context:
        raise DemoError(
            f"the document has {len(ids)} tokens and {room} more are needed, the model's context is {lm.context}; "
            "split the document"
        )
    demo = (-1,) * len(lm.bos) + (0,) * (len(ids) - len(lm.bos))
    return DemoTokens(tuple(ids), tuple(lm.decode([token]) for token in ids), ("context",) * len(ids), demo)


@torch.no_grad()
def compress(reader: GistReader, document: DemoKV, control: Control = "gist") -> KVPrefix:
    """The gists' own keys (before rotary embedding) and values after they have read a document: an `N`-slot prefix.

    Positions go on after the document, so whatever follows stands where it would behind the document itself.

    Parameters
    ----------
    document : what the frozen model has read, as `read_demo_kv` gives it.
    control : `blind` keeps the document from the gists.
    """
    lm, length, gists = reader.lm, document.keys.shape[2], len(reader.ids)
    past = open_cache(lm, document.as_prefix()).kv
    positions = torch.arange(length, length + gists, device=lm.device)
    regions = torch.tensor([[Region.CONTEXT] * length + [Region.GIST] * gists], device=lm.device)
    mask = gist_mask(regions, control, reader.shape.sink, lm.dtype)[:, :, length:]
    _, cache = reader.run(gist_tokens_of(reader, 1), positions[None], mask, past, reads=0)
    keys = torch.stack([layer.keys[0, :, length:] for layer in layers_of(cache)])
    values = torch.stack([layer.values[0, :, length:] for layer in layers_of(cache)])
    return KVPrefix(
        keys=unrotate_keys(lm.model, keys, positions),
        values=values.clone(),
        positions=positions,
        query_start=length + gists,
        active=torch.ones(lm.layers, gists, dtype=torch.bool, device=lm.device),
        fingerprint=lm.fingerprint,
        meta={"method": "gist", "adapter": reader.fingerprint, "control": control, "document_tokens": length},
    )


def with_document(document: DemoKV, gists: KVPrefix) -> KVPrefix:
    """A document and behind it the gists that have read it: what a query sees under the control `full` of the mask."""
    whole = document.as_prefix()
    return replace(
        gists,
        keys=torch.cat([whole.keys, gists.keys], 2),
        values=torch.cat([whole.values, gists.values], 2),
        positions=torch.cat([whole.positions, gists.positions]),
        active=torch.cat([whole.active, gists.active], 1),
        meta={**gists.meta, "control": "full"},
    )


@dataclass(frozen=True)
class GistMemory:
    """Documents that have been compressed, kept as states: the same text is never read twice by the same gists."""

    reader: GistReader
    cache: StateCache

    def prefix(self, text: str, room: int = 0) -> KVPrefix:
        """The prefix of a document; raises what `document_tokens` raises."""
        lm = self.reader.lm
        tokens = document_tokens(lm, text, room + len(self.reader.ids))
        key = content_key(
            gist=self.reader.fingerprint, model=lm.fingerprint, dtype=str(lm.dtype), tokens=list(tokens.ids)
        )
        return self.cache.get_or_make(key, lm.fingerprint, lambda: self._made(tokens))

    def _made(self, tokens: DemoTokens) -> KVPrefix:
        prefix = compress(self.reader, read_demo_kv(self.reader.lm, tokens))
        parts = {name: getattr(prefix, name).cpu() for name in ("keys", "values", "positions", "active")}
        return replace(prefix, **parts)
