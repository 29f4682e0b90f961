"""vLLM's KV connector: a state's slots as tokens that another has computed already.

The scheduler's side reads requests, decides and says which slots go into which blocks; the worker's side writes them
there before the forward. A request that cannot be served is announced as one that waits for keys and values and never
gets them: vLLM then fails it, and it alone.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from vllm.config import set_current_vllm_config
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
)
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.logger import init_logger
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.models.utils import extract_layer_index

from .client import PARAMETER
from .engine import open_states
from .errors import Refused
from .placing import Turn, cache_places, own_heads, placed_keys, turn_by
from .request import Asked, state_for
from .state import State
from .supported import rope_of

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

logger = init_logger(f"vllm.{__name__}")


@dataclass
class Load:
    """Slots `first` to the last of a state, to be written into a request's blocks."""

    name: str
    seal: str
    first: int
    blocks: list[int]


@dataclass
class Step(KVConnectorMetadata):
    """What the worker has to do in one step: slots to write, and requests to fail."""

    loads: list[Load] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)


class StateConnector(KVConnectorBase_V1):
    """Serves the states of one folder: `kv_connector_extra_config={"states": FOLDER}`."""

    def __init__(self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._states = open_states(vllm_config, read_model_files=role == KVConnectorRole.SCHEDULER)
        if len(kv_cache_config.kv_cache_groups) != 1:
            raise Refused("this model keeps several kinds of cache, and states are served with one only")
        self._block_size = kv_cache_config.kv_cache_groups[0].kv_cache_spec.block_size
        # Of the scheduler: what each unfinished request was found to be, and the next step.
        self._admitted: dict[str, State] = {}
        self._refused: set[str] = set()
        self._next = Step()
        # Of the worker: what went wrong in this step, and the keys of each name's state, turned.
        self._failed_blocks: set[int] = set()
        self._failed_requests: set[str] = set()
        self._turned: dict[str, tuple[str, torch.Tensor]] = {}

    # The scheduler's side

    def on_new_request(self, request: "Request") -> None:
        try:
            state = state_for(_asked(request), self._states)
        except Refused as refusal:
            logger.error("request %s is refused: %s", request.request_id, refusal)
            self._refused.add(request.request_id)
            # With it vLLM would not even ask, and answer as to plain text.
            request.skip_reading_prefix_cache = False
            return
        if state is not None:
            self._admitted[request.request_id] = state

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int, bool]:
        if request.request_id in self._refused:
            return 1, True
        state = self._admitted.get(request.request_id)
        return (max(state.slots - num_computed_tokens, 0) if state else 0), False

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        if not num_external_tokens:
            return
        if request.request_id in self._refused:
            self._next.refused.add(request.request_id)
            return
        state, name = self._admitted[request.request_id], request.kv_transfer_params[PARAMETER]
        (ids,) = blocks.get_block_ids()
        self._next.loads.append(Load(name, state.seal, state.slots - num_external_tokens, list(ids)))

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> Step:
        step, self._next = self._next, Step()
        return step

    def request_finished(self, request: "Request", block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        self._admitted.pop(request.request_id, None)
        self._refused.discard(request.request_id)
        return False, None

    # The worker's side

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        step = self._get_connector_metadata()
        self._failed_requests |= step.refused
        for load in step.loads:
            try:
                self._write(load, forward_context)
            except Refused as refusal:  # gone or changed since the scheduler read it, or not on this machine
                logger.error("state %r cannot be loaded: %s", load.name, refusal)
                self._failed_blocks.add(load.blocks[load.first // self._block_size])

    def _write(self, load: Load, forward_context: "ForwardContext") -> None:
        state = self._states.get(load.name)
        if state.seal != load.seal:
            raise Refused(f"its file has changed since the request came; ask again with the cache_salt {state.salt!r}")
        slots = slice(load.first, state.slots)
        places = cache_places(load.blocks, load.first, state.slots, self._block_size)
        keys = self._keys(load.name, state)
        for name, layer in forward_context.no_compile_layers.items():
            if not isinstance(layer, Attention):
                continue
            index, cache = extract_layer_index(name), layer.kv_cache
            # vLLM's own way of writing a token's key and value: on a CPU, keys lie transposed.
            rows = (
                part[index, self._heads, slots].transpose(0, 1).contiguous().to(cache.device, self._dtype)
                for part in (keys, state.values)
            )
            layer.impl.do_kv_cache_update(layer, *rows, cache, places.to(cache.device))

    def _keys(self, name: str, state: State) -> torch.Tensor:
        if name not in self._turned or self._turned[name][0] != state.seal:
            self._turned[name] = (state.seal, placed_keys(state, self._turn))
        return self._turned[name][1]

    @property
    def _dtype(self) -> torch.dtype:
        return self._vllm_config.model_config.dtype

    @cached_property
    def _heads(self) -> slice:
        kv_heads = self._vllm_config.model_config.get_total_num_kv_heads()
        return own_heads(kv_heads, get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size())

    @cached_property
    def _turn(self) -> Turn:
        """The model's own rotation, in fp32 and on the CPU."""
        model = self._vllm_config.model_config
        with set_current_vllm_config(self._vllm_config), torch.device("cpu"):
            rope = get_rope(
                model.get_head_size(),
                max_position=model.hf_config.max_position_embeddings,
                rope_parameters=rope_of(model.hf_config.to_dict()),
                dtype=torch.float32,
            )
        return turn_by(rope.cos_sin_cache, rope.is_neox_style)

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        failed, self._failed_requests = self._failed_requests, set()
        return KVConnectorTransferResults(finished_recving=set(failed), failed_recving=failed)

    def get_block_ids_with_load_errors(self) -> set[int]:
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    # Nothing is loaded layer by layer, and nothing is saved.

    def wait_for_layer_load(self, layer_name: str) -> None:
        return

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        return

    def wait_for_save(self) -> None:
        return


def _asked(request: "Request") -> Asked:
    sampling = request.sampling_params
    others = {
        "an adapter (LoRA)": request.lora_request,
        "an image or other medium": request.mm_features,
        "a prompt of embeddings": request.prompt_embeds is not None,
        "a prompt that is sent in parts": request.resumable,
        "a pooling request": sampling is None,
    }
    return Asked(
        parameters=request.kv_transfer_params,
        salt=request.cache_salt,
        prompt=request.prompt_token_ids,
        reads_prompt=sampling is not None
        and (sampling.prompt_logprobs is not None or bool(request.skip_reading_prefix_cache)),
        other=next((what for what, there in others.items() if there), ""),
    )
