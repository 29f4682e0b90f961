"""LoRA adapters, through PEFT. The frozen weights are shared with the model, which itself never changes."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from cedkv.errors import ModelError, first_line
from cedkv.extras import extra
from cedkv.files import whole_folder
from cedkv.lm.decoder import Decoder
from cedkv.lm.fingerprint import adapted_fingerprint
from cedkv.lm.heads import HEADS_FILE, MTPWrapper, load_heads, save_heads
from cedkv.lm.load import LanguageModel


@dataclass(frozen=True)
class LoraShape:
    """Rank, and how many of the last layers have an adapter; more than there are is all of them."""

    rank: int = 8
    layers: int = 8


def with_lora(lm: LanguageModel, shape: LoraShape) -> nn.Module:
    """A PEFT model: all linear maps of the last layers get an adapter that does nothing yet.

    References
    ----------
    Hu et al. 2022, LoRA: low-rank adaptation of large language models.
    """
    peft = extra("peft", "train")
    linear = Decoder(lm.model).layers[0].named_modules()
    names = {name.rpartition(".")[2] for name, module in linear if isinstance(module, nn.Linear)}
    config = peft.LoraConfig(
        r=shape.rank,
        lora_alpha=2 * shape.rank,
        target_modules=sorted(names),
        layers_to_transform=list(range(max(lm.layers - shape.layers, 0), lm.layers)),
        layers_pattern="layers",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(sharing_weights(lm), config)


def save_trained(wrapper: MTPWrapper, folder: Path) -> None:
    """Write the adapter as PEFT does and the further heads beside it; the folder is there whole or not at all.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    with whole_folder(folder) as building:
        wrapper.model.save_pretrained(building)
        save_heads(wrapper, building)


def load_trained(lm: LanguageModel, folder: Path) -> MTPWrapper:
    """The model with the adapter and the heads of a folder, as `save_trained` wrote them.

    Raises
    ------
    ModelError
        The folder has none, or they do not fit the model.
    """
    peft = extra("peft", "train")
    try:
        return load_heads(peft.PeftModel.from_pretrained(sharing_weights(lm), folder), folder)
    except Exception as error:  # PEFT, safetensors and torch raise many kinds for what is missing or does not fit
        raise ModelError(
            f"adapter {str(folder)!r} cannot be put on {lm.id!r}: {first_line(error)}; it needs {HEADS_FILE} and the "
            "model it was trained on"
        ) from error


def adapted(lm: LanguageModel, folder: Path) -> LanguageModel:
    """The model that a training made, with a fingerprint of its own: states of the old one are none of its."""
    model = load_trained(replace(lm, model=copy.deepcopy(lm.model)), folder).model.merge_and_unload()
    model.requires_grad_(False).eval()
    return replace(
        lm, model=model, id=f"{lm.id}+{folder.name}", fingerprint=adapted_fingerprint(lm.fingerprint, folder)
    )


def sharing_weights(lm: LanguageModel) -> PreTrainedModel:
    """A model of the same frozen weights whose modules can be replaced."""
    return copy.deepcopy(lm.model, {id(weight): weight for weight in lm.model.parameters()})
