"""Reading a state into a model that llama-cpp-python has opened: the right file, for the right model, or a refusal."""

import ctypes
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cedkv.errors import StateError
from cedkv.extras import extra
from cedkv.files import dump_json, write_whole
from cedkv.lm.fingerprint import file_fingerprint
from cedkv.serve.llama_cpp import F32, VERSION

SUFFIX = ".ggsq"
_SEQUENCE = 0
_NO_FLASH_ATTENTION = 0


@dataclass(frozen=True)
class SequenceHandle:
    """What is known of a sequence file, in the small JSON file beside it.

    Attributes
    ----------
    slots : cells, and tokens that count as read.
    placeholder : the token id that stands for each.
    fingerprint : of the GGUF file that the state was made with.
    sha256 : of the sequence file.
    version : of llama.cpp's format.
    """

    slots: int
    placeholder: int
    fingerprint: str
    sha256: str
    version: int = VERSION

    def save(self, path: Path) -> None:
        write_whole(path, dump_json(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "SequenceHandle":
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise StateError(f"{str(path)!r} is no handle of a state; write it with serve export") from error


def load_sequence(llm: Any, handle: str | Path, gguf: str | Path | None = None) -> None:
    """Let a `llama_cpp.Llama` go on behind a state: `llm.generate(query_ids, reset=False)` then reads the query.

    Queries come without a beginning-of-text token: the state has it. Whatever the model has read before is forgotten.

    Parameters
    ----------
    llm : opened with `type_k=0, type_v=0` (F32) and without flash attention, which is the default.
    handle : the JSON file that `serve export --to llama.cpp` wrote; the sequence file lies beside it.
    gguf : the file the state was made with, where `llm` has a copy of it in other numbers; by default the file that
        `llm` has opened.

    Raises
    ------
    StateError
        The state is another model's or damaged, its format is one that this llama.cpp does not read, or the context is
        too short or keeps other numbers.
    ConfigError
        llama-cpp-python is not installed.
    """
    llama_cpp = extra("llama_cpp", "llama")
    known, file = SequenceHandle.load(Path(handle)), Path(handle).with_suffix(SUFFIX)
    check_version(known.version, llama_cpp.LLAMA_STATE_SEQ_VERSION)
    check_file(known, file)
    check_model(known, Path(gguf or llm.model_path))
    _check_context(known, llm)
    llm.reset()
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(llm.ctx), True)
    tokens, count = (llama_cpp.llama_token * known.slots)(), ctypes.c_size_t()
    if not llama_cpp.llama_state_seq_load_file(
        llm.ctx, str(file).encode(), _SEQUENCE, tokens, known.slots, ctypes.byref(count)
    ):
        raise StateError(f"llama.cpp does not read {str(file)!r}; open the model with verbose=True to see why")
    llm.input_ids[: known.slots] = list(tokens)
    llm.n_tokens = known.slots


def check_version(written: int, read: int) -> None:
    """Refuse a file of another version of the format than the engine reads."""
    if written != read:
        raise StateError(
            f"the sequence file has version {written} of the format, this llama.cpp reads version {read}; "
            "export it again or install a llama-cpp-python that reads it"
        )


def check_file(known: SequenceHandle, file: Path) -> None:
    """Refuse a file of which a byte is not as it was written."""
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise StateError(f"sequence file {str(file)!r} cannot be read: {error.strerror}") from error
    if digest != known.sha256:
        raise StateError(f"sequence file {str(file)!r} is damaged or not its handle's; export the state again")


def check_model(known: SequenceHandle, gguf: Path) -> None:
    """Refuse any model but the state's own."""
    try:
        found = file_fingerprint(gguf)
    except OSError as error:
        raise StateError(f"GGUF file {str(gguf)!r} cannot be read: {error.strerror}; name it with gguf=") from error
    if found != known.fingerprint:
        raise StateError(
            f"the state was made with a model of fingerprint {known.fingerprint}, {str(gguf)!r} has {found}; "
            "open the GGUF file that it was made for, or name it where this is a copy in other numbers"
        )


def _check_context(known: SequenceHandle, llm: Any) -> None:
    given = llm.context_params
    if given.type_k != F32 or given.type_v != F32:
        raise StateError(f"the context keeps keys and values of ggml types {given.type_k}, {given.type_v}; "
                         f"open the model with type_k={F32}, type_v={F32}")  # fmt: skip
    if given.flash_attn_type != _NO_FLASH_ATTENTION:
        raise StateError("the context has flash attention, which keeps values in another order; open the model without")
    if llm.n_ctx() <= known.slots:
        raise StateError(f"the context has {llm.n_ctx()} tokens, the state takes {known.slots}; raise n_ctx")
