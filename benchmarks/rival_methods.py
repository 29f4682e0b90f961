"""What others do with a few demonstrations and a frozen model, as prefixes of the same engine.

Each takes a workbench and the slots it may have. Where a library has the method, the library trains it.
"""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cedkv.episodes import Query, make_query
from cedkv.lm import LanguageModel, packed_logits, read_queries, stream_tokens
from cedkv.lm.export import load_peft
from cedkv.lm.forward import pack, pack_slices
from cedkv.lm.rope import rotate_keys, unrotate_keys
from cedkv.methods import Workbench
from cedkv.metrics import kl
from cedkv.slots.base import detached
from cedkv.state import KVPrefix

# Learning rates as the papers and PEFT's examples give them.
CT_STEPS, CT_RATE, CT_DROPOUT = 40, 3e-3, 0.05
PEFT_STEPS, PEFT_RATE = 60, 3e-2
# Multiplicative updates of the non-negative least squares, and the ridge of the values as a share of the mean square.
_NNLS_UPDATES, _RIDGE = 500, 1e-4
# Depths at which a function vector may be added, as shares of the model's layers.
_DEPTHS = (0.25, 0.33, 0.5, 0.66)


def answered(bench: Workbench) -> list[Query]:
    """The demonstrations as queries with their answers and the token that ends them: what others train on."""
    lm, template = bench.lm, bench.episode.template
    end = lm.encode(template.stop)[:1]
    queries = [make_query(lm, template, demo.input, demo.output) for demo in bench.episode.demos]
    return [replace(query, answer_ids=(*query.answer_ids, *end)) for query in queries]


def context_tuned(bench: Workbench, slots: int) -> KVPrefix:
    """CT-KV: the demonstrations' own keys and values, trained to answer each demonstration without seeing it.

    Leave-one-out masking and token dropout as in Lu et al. 2025, "Context Tuning for In-Context Optimization",
    arXiv:2507.04221. It needs as many slots as the demonstrations have tokens.
    """
    teacher, queries = bench.teacher, answered(bench)
    keys, values = (part.float().clone().requires_grad_() for part in (teacher.keys, teacher.values))
    adam = torch.optim.Adam([keys, values], lr=CT_RATE)
    draw = torch.Generator().manual_seed(bench.config.run.seed)
    spans = bench.episode.tokens.demo_spans()
    texts = [[*query.ids, *query.answer_ids[:-1]] for query in queries]
    reads = [len(query.answer_ids) for query in queries]
    gold = torch.tensor([token for query in queries for token in query.answer_ids], device=bench.lm.device)
    for _ in range(CT_STEPS):
        kept = torch.rand(teacher.slots, generator=draw) >= CT_DROPOUT
        kept[0] = True
        dropped = (~kept).nonzero()[:, 0].tolist()
        trained = teacher.with_tensors(keys, values).without(dropped)
        # Token 0 stays: it is the attention sink, whatever demonstration it belongs to.
        views = [trained.without(list(range(max(start, 1), end))) for start, end in spans]
        loss = torch.nn.functional.cross_entropy(packed_logits(bench.lm, texts, views, reads).float(), gold)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return replace(detached(teacher.with_tensors(keys, values)), mixture=None)


def peft_prefix(bench: Workbench, slots: int) -> KVPrefix:
    """Prefix tuning (Li & Liang 2021) as the PEFT library does it, on the demonstrations, from its own random start."""
    from peft import PrefixTuningConfig, TaskType, get_peft_model

    lm = bench.lm
    shared = {id(weight): weight for weight in lm.model.parameters()}
    torch.manual_seed(bench.config.run.seed)
    settings = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=slots)
    tuned = get_peft_model(copy.deepcopy(lm.model, shared), settings)
    ids, mask, labels = _padded(lm, answered(bench))
    adam = torch.optim.Adam([weight for weight in tuned.parameters() if weight.requires_grad], lr=PEFT_RATE)
    for _ in range(PEFT_STEPS):
        loss = tuned(input_ids=ids, attention_mask=mask, labels=labels).loss
        adam.zero_grad()
        loss.backward()
        adam.step()
    with tempfile.TemporaryDirectory() as folder:
        tuned.save_pretrained(folder)
        return load_peft(folder, lm.model)


def _padded(lm: LanguageModel, queries: Sequence[Query]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and labels of a batch; only answers are learnt."""
    rows = [[*query.ids, *query.answer_ids] for query in queries]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    asked = torch.tensor([len(query.ids) for query in queries])[:, None]
    place = torch.arange(longest)[None]
    labels = torch.where((place >= asked) & (mask == 1), ids, -100)
    return ids.to(lm.device), mask.to(lm.device), labels.to(lm.device)


def attention_matched(bench: Workbench, slots: int) -> KVPrefix:
    """Attention matching (arXiv:2602.16284), highest-attention keys: per head some of the teacher's keys are kept, a
    bias each makes their attention mass that of all, and values are refitted to the attention outputs.

    The reference queries are the training queries' last tokens behind the demonstrations. A bias is carried by the
    key, along the model's weight direction, as a slot's weight is.
    """
    lm, teacher, reading = bench.lm, bench.teacher, bench.teacher_reading
    slots = min(slots, teacher.slots)
    scores = reading.prefix_scores.unflatten(1, (lm.kv_heads, -1)).flatten(2, 3)
    outputs = scores.softmax(-1) @ teacher.values.float()
    chosen = scores.softmax(-1).square().mean(2).topk(slots, dim=-1).indices.sort(dim=-1).values
    kept = scores.gather(-1, chosen[:, :, None].expand(-1, -1, scores.shape[2], -1))
    bias = matching_bias(kept, scores)
    values = _refitted((kept + bias[:, :, None]).softmax(-1), outputs)
    positions = torch.arange(teacher.slots - slots, teacher.slots, device=lm.device)
    rotated = rotate_keys(lm, teacher.keys.float(), teacher.positions)
    keys = unrotate_keys(lm.model, _gathered(rotated, chosen), positions)
    along = bench.directions.at(lm, positions, teacher.slots)
    return KVPrefix(
        keys=keys + bias[..., None] * along,
        values=values,
        positions=positions,
        query_start=teacher.slots,
        active=torch.ones(lm.layers, slots, dtype=torch.bool, device=lm.device),
        fingerprint=lm.fingerprint,
    )


def matching_bias(
    kept: Float[Tensor, "layers kv_heads rows slots"], scores: Float[Tensor, "layers kv_heads rows tokens"]
) -> Float[Tensor, "layers kv_heads slots"]:
    """Log of the non-negative weights with which the kept keys' mass is that of all, in the least squares.

    Multiplicative updates (Lee & Seung 2001), which stay positive.
    """
    top = scores.amax(-1, keepdim=True)
    mass, whole = (kept - top).exp(), (scores - top).exp().sum(-1, keepdim=True)
    weights = torch.ones_like(kept[:, :, :1]).mT
    gram, wanted = mass.mT @ mass, mass.mT @ whole
    for _ in range(_NNLS_UPDATES):
        weights = weights * wanted / (gram @ weights).clamp_min(1e-12)
    return weights[..., 0].clamp_min(1e-4).log()


def _refitted(
    shares: Float[Tensor, "layers kv_heads rows slots"], outputs: Float[Tensor, "layers kv_heads rows head_dim"]
) -> Float[Tensor, "layers kv_heads slots head_dim"]:
    """Values with which these attention shares give the outputs, by ridge regression."""
    gram = shares.mT @ shares
    mean_square = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    ridge = _RIDGE * mean_square * torch.eye(shares.shape[-1], device=shares.device)
    return torch.linalg.solve(gram + ridge, shares.mT @ outputs)


def _gathered(
    keys: Float[Tensor, "layers kv_heads tokens head_dim"], chosen: Int[Tensor, "layers kv_heads slots"]
) -> Float[Tensor, "layers kv_heads slots head_dim"]:
    return keys.gather(2, chosen[..., None].expand(-1, -1, -1, keys.shape[-1]))


@dataclass(frozen=True)
class FunctionVector:
    """A vector added to the hidden state of a text's last token after one layer: no slots at all.

    After Todd et al. 2024, "Function Vectors in Large Language Models": here the mean difference that the
    demonstrations make there, at the depth that is nearest to the teacher on training queries.
    """

    lm: LanguageModel
    layer: int
    vector: Float[Tensor, " hidden"]
    slots: ClassVar[int] = 0

    @classmethod
    def of(cls, bench: Workbench) -> "FunctionVector":
        lm, ids = bench.lm, bench.train_ids
        layers = sorted({int(depth * lm.layers) for depth in _DEPTHS})
        shift = last_states(lm, ids, bench.teacher).mean(1) - last_states(lm, ids, None).mean(1)
        candidates = [cls(lm, layer, shift[layer]) for layer in layers]
        reference = bench.teacher_on_probes
        return min(candidates, key=lambda each: kl(reference, each.log_probs(bench.probes)).mean().item())

    @contextmanager
    def added(self, rows: Int[Tensor, " rows"]) -> Iterator[None]:
        """While it is open, a packed forward has the vector at these rows."""

        def add(module, arguments, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[0, rows] += self.vector

        hook = self.lm.decoder.layers[self.layer].register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()

    @torch.no_grad()
    def log_probs(self, ids: Sequence[Sequence[int]]) -> Float[Tensor, "texts vocab"]:
        rows = []
        for part in pack_slices(ids):
            with self.added(pack(self.lm, ids[part], None)[-1]):
                rows.append(packed_logits(self.lm, ids[part], None).float().log_softmax(-1))
        return torch.cat(rows)

    def answers(self, ids: Sequence[Sequence[int]], length: int, stop: str) -> list[str]:
        """Greedy answers; the vector is there for the first token of each and not for those after it."""
        texts = []
        for part in pack_slices(ids):
            with self.added(pack(self.lm, ids[part], None)[-1]):
                read = read_queries(self.lm, ids[part], None)
            *_, rows = stream_tokens(self.lm, read, length, stop=stop)
            texts += [self.lm.decode(row).split(stop)[0] for row in rows]
        return texts


@torch.no_grad()
def last_states(
    lm: LanguageModel, ids: Sequence[Sequence[int]], view: KVPrefix | None
) -> Float[Tensor, "layers texts hidden"]:
    """The hidden state of every text's last token after each layer."""
    caught: list[list[Tensor]] = [[] for _ in range(lm.layers)]
    for part in pack_slices(ids):
        rows = pack(lm, ids[part], view)[-1]

        def keep(layer: int, output, rows=rows) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            caught[layer].append(hidden[0, rows].float())

        hooks = [
            module.register_forward_hook(lambda _m, _i, output, layer=layer: keep(layer, output))
            for layer, module in enumerate(lm.decoder.layers)
        ]
        try:
            packed_logits(lm, ids[part], view)
        finally:
            for hook in hooks:
                hook.remove()
    return torch.stack([torch.cat(parts) for parts in caught])
