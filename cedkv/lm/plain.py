"""What a state needs to know of a model that plain transformers loaded, and the cache it gives to one."""

from pathlib import Path
from weakref import WeakKeyDictionary

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from cedkv.errors import ModelError, StateError, first_line
from cedkv.lm.cache import layers_of
from cedkv.lm.fingerprint import load_fingerprint

_known: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()


def plain_fingerprint(model: PreTrainedModel) -> str:
    """The fingerprint of the files that a model says it was loaded from, read once for each model.

    Whatever was done to the model after loading is not seen.

    Raises
    ------
    ModelError
        It was not loaded from files, or they are no longer there.
    """
    if model not in _known:
        _known[model] = load_fingerprint(_origin(model))
    return _known[model]


def _origin(model: PreTrainedModel) -> Path:
    name = str(model.config.name_or_path or "")
    if not name:
        raise ModelError(
            "the model does not say where it was loaded from, so no state can be known to be its own; "
            "save it with save_pretrained and load it with from_pretrained"
        )
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:  # as it lies in the hub's own cache since the model was loaded
        return Path(snapshot_download(name, revision=model.config._commit_hash, local_files_only=True))
    except Exception as error:  # malformed, removed: the hub client has a kind for each
        raise ModelError(f"model {name!r} is no longer where it was loaded from: {first_line(error)}") from error


class SlotCache(DynamicCache):
    """The cache of a state for one query, or one batch of them, and the tokens that follow, one at a time.

    Beams and several return sequences make the batch larger than the cache, which then grows with it. What would
    read behind an earlier query's tokens is refused: transformers would answer, and wrongly.
    """

    def __init__(self, rows: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__(ddp_cache_data=rows)
        self.slots = self.get_seq_length()

    @property
    def _is_user_defined(self) -> bool:
        """Transformers sets this on a cache that it was given when a generation starts."""
        return True

    @_is_user_defined.setter
    def _is_user_defined(self, value: bool) -> None:
        if self.get_seq_length() > self.slots:
            raise _used()

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs) -> tuple:
        layer = layers_of(self)[layer_idx]
        if layer.get_seq_length() > self.slots and key_states.shape[2] > 1:
            raise _used()
        repeats, rest = divmod(key_states.shape[0], layer.keys.shape[0])
        if rest or not repeats:
            raise StateError(
                f"the cache of the state is for {layer.keys.shape[0]} queries, not {key_states.shape[0]}; "
                "make one with as many as are asked"
            )
        if repeats > 1:
            layer.batch_repeat_interleave(repeats)
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


def _used() -> StateError:
    return StateError(
        "the cache of the state has been used: it takes one query, then one token at a time; make a new one for each "
        "query, and generate with use_cache=True and without prompt lookup, assistant or chunks"
    )
