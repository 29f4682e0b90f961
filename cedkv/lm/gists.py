"""Gist tokens: new tokens whose rows are trained, and an adapter that is on where a gist token reads, nowhere else.

A document and a query are read by the frozen model's own weights in every pass, so what stands behind gists is always
the frozen model. Vocabulary and adapter live in a copy that shares those weights; the model itself never changes.
"""

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AddedToken, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from cedkv.errors import ModelError, first_line
from cedkv.extras import extra
from cedkv.files import whole_folder
from cedkv.lm.adapter_gate import AdapterGate
from cedkv.lm.adapters import sharing_weights
from cedkv.lm.decoder import Decoder
from cedkv.lm.fingerprint import adapted_fingerprint
from cedkv.lm.load import LanguageModel

SHAPE_FILE = "gist.json"
_ROWS = "trainable_tokens_delta"


@dataclass(frozen=True)
class GistShape:
    """How many gist tokens there are, and the adapter that reads with them.

    layers : the first layers have an adapter; None for all of them.
    whole_embedding : train a copy of the whole embedding (PEFT's `modules_to_save`) instead of the gists' rows.
    sink : the first gist sees itself alone, as a text's first token does, and so becomes the attention sink that every
        prefix needs.
    """

    tokens: int
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    layers: int | None = None
    whole_embedding: bool = False
    sink: bool = True


def gist_names(count: int) -> list[str]:
    return [f"<GIST_{number}>" for number in range(count)]


def add_gist_tokens(tokenizer: PreTrainedTokenizerBase, count: int) -> tuple[int, ...]:
    """Put the gist tokens into a tokenizer, whose vocabulary grows by exactly `count`; their ids, in order.

    Raises
    ------
    ModelError
        The tokenizer has some of them already.
    """
    names = gist_names(count)
    if known := tokenizer.get_vocab().keys() & set(names):
        raise ModelError(f"the tokenizer has {min(known)!r} already; use the model without gist tokens")
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tuple(cast(list[int], tokenizer.convert_tokens_to_ids(names)))


def grow_embeddings(model: PreTrainedModel, vocabulary: int) -> None:
    """Give a model rows for the new tokens, in its output too; rows that it has to spare are used first."""
    embedding: Any = model.get_input_embeddings()
    if vocabulary > embedding.weight.shape[0]:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
        model.requires_grad_(False)


@dataclass(frozen=True)
class GistReader:
    """A model with gist tokens and the adapter that reads with them, beside the frozen one whose weights it shares."""

    lm: LanguageModel
    model: Any  # of PEFT, which ships no types
    tokenizer: PreTrainedTokenizerBase
    ids: tuple[int, ...]
    shape: GistShape
    fingerprint: str = ""
    _gate: AdapterGate = field(default_factory=AdapterGate, repr=False)

    def __post_init__(self) -> None:
        self._gate.watch(self.model)
        if not self.shape.whole_embedding:
            self._embed_gists_alone()

    def _embed_gists_alone(self) -> None:
        """Look gists' rows up beside the embedding, to the same bits: PEFT copies all of it, and the tied unembedding,
        at every forward, and gives both copies a gradient; a third of what a short step costs.
        """
        rows, trained = self.rows, self.rows.requires_grad

        def embed(module: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
            gists = torch.isin(inputs[0], torch.tensor(self.ids, device=out.device))[..., None]
            places = (inputs[0] - self.ids[0]).clamp(0, len(self.ids) - 1)
            scale = getattr(module.get_base_layer(), "embed_scale", 1.0)
            return torch.where(gists, nn.functional.embedding(places, rows).to(out) * scale, out)

        for layer in filter(lambda module: hasattr(module, _ROWS), self.model.modules()):
            layer.enable_adapters(False)
            if isinstance(layer.get_base_layer(), nn.Embedding):
                layer.register_forward_hook(embed)
        rows.requires_grad_(trained)

    def run(
        self,
        ids: Int[Tensor, "batch tokens"],
        positions: Int[Tensor, "batch tokens"],
        mask: Float[Tensor, "batch 1 tokens keys"],
        past: DynamicCache | None = None,
        reads: int | Int[Tensor, " reads"] = 1,
        adapter: bool = True,
        through: nn.Module | None = None,
    ) -> tuple[Float[Tensor, "batch reads vocab"], DynamicCache]:
        """One forward with an additive mask of its own; the adapter is on at gist tokens, or nowhere.

        Parameters
        ----------
        past : grows by the new tokens.
        reads : the last so many tokens, or those at these places, are the ones whose logits are told; 0 for none.
        through : the model as a trainer has wrapped it.

        Returns
        -------
        logits over the frozen model's vocabulary, and the cache, which holds the new tokens too.
        """
        gists = torch.isin(ids, torch.tensor(self.ids, device=ids.device))
        # By place, so that the rows are copied together and the unembedding is one matrix product.
        length = ids.shape[1]
        places = torch.arange(length - reads, length, device=ids.device) if isinstance(reads, int) else reads
        with self._gate.open_at(gists & adapter):
            out = (through or self.model)(
                input_ids=ids,
                position_ids=positions,
                attention_mask=mask,
                past_key_values=DynamicCache() if past is None else past,
                use_cache=True,
                logits_to_keep=places,
            )
        return out.logits[..., : self.lm.vocab], out.past_key_values

    @contextmanager
    def first_layers(self, count: int) -> Iterator[None]:
        """Only so many layers are run meanwhile, and the cache holds only theirs."""
        decoder: Any = Decoder(self.model.get_base_model()).stack
        whole, config = decoder.layers, decoder.config
        depth = config.num_hidden_layers
        decoder.layers, config.num_hidden_layers = whole[:count], min(count, depth)
        try:
            yield
        finally:
            decoder.layers, config.num_hidden_layers = whole, depth

    @property
    def trainable(self) -> int:
        """Parameters that a training changes."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    @property
    def rows(self) -> nn.Parameter:
        """The gist tokens' embeddings."""
        return next(parameter for name, parameter in self.model.named_parameters() if _ROWS in name)


def make_reader(lm: LanguageModel, shape: GistShape, start: Float[Tensor, "gists hidden"] | None = None) -> GistReader:
    """An adapter that does nothing yet, and gist rows that begin as `start`, or as the mean of all tokens.

    References
    ----------
    Mu et al. 2023, Learning to compress prompts with gist tokens; Hu et al. 2022, LoRA.

    Raises
    ------
    ModelError
        The model's layers slide, so that a gist could not see a whole document, or it has no such modules.
    """
    peft = extra("peft", "train")
    model, tokenizer, ids = _with_gists(lm, shape)
    embedding: Any = model.get_input_embeddings()
    with torch.no_grad():
        weight = embedding.weight.clone()
        known = cast(nn.Embedding, lm.model.get_input_embeddings()).weight
        weight[list(ids)] = known.mean(dim=0) if start is None else start.to(weight)
        embedding.weight = nn.Parameter(weight, requires_grad=False)
        if model.config.tie_word_embeddings:
            model.tie_weights()
    config = peft.LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        target_modules=list(shape.targets),
        layers_to_transform=None if shape.layers is None else list(range(min(shape.layers, lm.layers))),
        layers_pattern=None if shape.layers is None else "layers",
        trainable_token_indices=None if shape.whole_embedding else list(ids),
        modules_to_save=["embed_tokens"] if shape.whole_embedding else None,
        ensure_weight_tying=bool(model.config.tie_word_embeddings),
        task_type="CAUSAL_LM",
    )
    try:
        wrapped = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"the adapter cannot be put on {lm.id!r}: {first_line(error)}") from error
    return GistReader(lm, wrapped, tokenizer, ids, shape)


def save_reader(reader: GistReader, folder: Path, notes: dict[str, Any] | None = None) -> None:
    """Write adapter and gist rows as PEFT does, and what they belong to; the folder is there whole or not at all.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    said = {**asdict(reader.shape), "model": reader.lm.id, "fingerprint": reader.lm.fingerprint, **(notes or {})}
    for config in reader.model.peft_config.values():
        config.base_model_name_or_path = reader.lm.id  # and not where it lies on this machine
    with whole_folder(folder) as building:
        reader.model.save_pretrained(building, save_embedding_layers=False)
        (building / SHAPE_FILE).write_text(json.dumps(said, indent=1), encoding="utf-8")


def load_reader(lm: LanguageModel, folder: Path) -> GistReader:
    """The gists of a folder, as `save_reader` wrote them, for the model they were trained for.

    Raises
    ------
    ModelError
        The folder has none, or they were trained for another model.
    """
    peft = extra("peft", "train")
    try:
        said = json.loads((folder / SHAPE_FILE).read_text(encoding="utf-8"))
        fields = {name: said[name] for name in GistShape.__dataclass_fields__}
        shape = GistShape(**{**fields, "targets": tuple(fields["targets"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"adapter {str(folder)!r} has no gists: {first_line(error)}; give a trained folder") from error
    if said["fingerprint"] != lm.fingerprint:
        raise ModelError(
            f"adapter {str(folder)!r} was trained for {said['model']!r} of fingerprint {said['fingerprint']}, the "
            f"model's is {lm.fingerprint}; load that model or train gists for this one"
        )
    model, tokenizer, ids = _with_gists(lm, shape)
    try:
        wrapped = peft.PeftModel.from_pretrained(model, folder).requires_grad_(False).eval()
    except Exception as error:  # PEFT, safetensors and torch raise many kinds for what is missing or does not fit
        raise ModelError(f"adapter {str(folder)!r} cannot be read: {first_line(error)}; train it again") from error
    return GistReader(lm, wrapped, tokenizer, ids, shape, adapted_fingerprint(lm.fingerprint, folder))


def _with_gists(
    lm: LanguageModel, shape: GistShape
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, tuple[int, ...]]:
    """A copy of the model that shares its weights, and of its tokenizer, with gist tokens in both."""
    kinds, window = (getattr(lm.model.config, name, None) for name in ("layer_types", "sliding_window"))
    if window or any(kind != "full_attention" for kind in kinds or ()):
        raise ModelError(f"model {lm.id!r} has sliding layers, where a gist cannot see a whole document; use another")
    tokenizer = copy.deepcopy(lm.tokenizer)
    ids = add_gist_tokens(tokenizer, shape.tokens)
    model = sharing_weights(lm)
    embedding: Any
    for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
        # Growing writes into the parameter itself, which the frozen model has too.
        embedding.weight = nn.Parameter(embedding.weight.detach(), requires_grad=False)
    model.tie_weights()
    grow_embeddings(model, max(ids) + 1)
    return model, tokenizer, ids


def gist_tokens_of(reader: GistReader, documents: int) -> Int[Tensor, "documents gists"]:
    """The gist tokens, once for every document."""
    return torch.tensor([reader.ids] * documents, device=reader.lm.device)


def embedded_ids(lm: LanguageModel, ids: Sequence[int]) -> Float[Tensor, "tokens hidden"]:
    """What tokens are embedded as, before any scaling of the model's."""
    return cast(nn.Embedding, lm.model.get_input_embeddings()).weight[list(ids)].detach()
