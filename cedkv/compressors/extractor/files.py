"""An extractor on the disk: a folder with its numbers (safetensors) and what they belong to (JSON)."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load, save_file

from cedkv.compressors.extractor.net import Extractor, ExtractorShape
from cedkv.compressors.extractor.places import KINDS, SCALARS
from cedkv.errors import ModelError, first_line
from cedkv.files import dump_json, parse_json, whole_folder
from cedkv.lm import LanguageModel

FORMAT = "cedkv-extractor-1"
NOTES, NUMBERS = "extractor.json", "extractor.safetensors"


@dataclass(frozen=True)
class TrainedExtractor:
    """An extractor of one model.

    digest : of its numbers; a state that it made notes it.
    notes : what it was trained on, what was held out, and what was measured.
    """

    net: Extractor
    digest: str
    notes: dict[str, Any] = field(default_factory=dict)


def shape_for(lm: LanguageModel, width: int) -> ExtractorShape:
    return ExtractorShape(lm.layers, lm.kv_heads, lm.head_dim, width)


def save_extractor(net: Extractor, lm: LanguageModel, folder: Path, notes: dict[str, Any] | None = None) -> None:
    """Write an extractor and what it belongs to; the folder is there whole or not at all.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    said = {"format": FORMAT, "model": lm.id, "fingerprint": lm.fingerprint, "kinds": KINDS, "scalars": SCALARS}
    with whole_folder(folder) as building:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()},
                  building / NUMBERS)  # fmt: skip
        said |= {"shape": asdict(net.shape), "sha256": _sha256(building / NUMBERS), **(notes or {})}
        (building / NOTES).write_text(dump_json(said), encoding="utf-8")


def noted_fingerprint(folder: Path) -> str:
    """Of the model that a folder's extractor is for; empty where there is none."""
    try:
        return str(parse_json((folder / NOTES).read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def load_extractor(lm: LanguageModel, folder: Path) -> TrainedExtractor:
    """The extractor of a folder, every byte of it verified, for the model it was trained for.

    Raises
    ------
    ModelError
        The folder has none, it is damaged, or it was trained for another model.
    """
    try:
        said = parse_json((folder / NOTES).read_text(encoding="utf-8"))
        if said["format"] != FORMAT or tuple(said["kinds"]) != KINDS or said["scalars"] != SCALARS:
            raise ValueError(f"it is none of {FORMAT!r}")
        shape, fingerprint, model = ExtractorShape(**said["shape"]), said["fingerprint"], said["model"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"extractor {str(folder)!r} cannot be read: {first_line(error)}; "
            "give a folder that cedkv train extractor wrote"
        ) from error
    if fingerprint != lm.fingerprint:
        raise ModelError(
            f"extractor {str(folder)!r} was trained for {model!r} of fingerprint {fingerprint}, the model's is "
            f"{lm.fingerprint}; load that model or train an extractor for this one"
        )
    try:
        content = (folder / NUMBERS).read_bytes()
        if hashlib.sha256(content).hexdigest() != said["sha256"]:
            raise ValueError(f"the checksum of {NUMBERS} does not match")
        net = Extractor(shape)
        net.load_state_dict(load(content))
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"extractor {str(folder)!r} is damaged: {first_line(error)}; train it again") from error
    return TrainedExtractor(net.requires_grad_(False).eval().to(lm.device), said["sha256"], said)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
