"""Slots as sparse convex mixtures: what each setting changes, and what holds whatever the settings."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.config import DelimiterSettings, MixtureSettings
from cedkv.errors import ConfigError
from cedkv.events import Tick, Warned
from cedkv.lm import log_probs
from cedkv.methods.ced import mixture_slots
from cedkv.methods.warm import warm_prefix
from cedkv.metrics import role_mass
from cedkv.slots.base import detached
from cedkv.slots.mixture import MixtureSlots
from cedkv.state import ROLES
from tests.optim.trainings import SLOTS, bench_with, ced, events_of, train
from tests.tiny import KV_HEADS, LAYERS
from tests.tolerance import PRODUCT, rounding

ALL = 1000  # a top-k that keeps every token
MASS = ROLES.index("delimiter")


def slots_of(*overrides: str, noise: float = 2.0) -> MixtureSlots:
    """Slots before training, their logits shaken so that mixtures are far from their anchors."""
    slots = mixture_slots(bench_with(*overrides), SLOTS)
    shaken = noise * torch.randn(slots.logits.shape, generator=torch.Generator().manual_seed(0))
    return replace(slots, logits=(slots.logits.detach() * 0.2 + shaken).requires_grad_())


def with_settings(slots: MixtureSlots, **settings) -> MixtureSlots:
    return replace(slots, settings=slots.settings.model_copy(update=settings))


def outputs_of(slots: MixtureSlots) -> torch.Tensor:
    return torch.tensor([role == "output" for role in slots.demo_kv.tokens.roles])


# Warm start


def test_a_warm_start_is_mostly_its_anchors():
    bench = bench_with()
    slots, warm = mixture_slots(bench, SLOTS), warm_prefix(bench, SLOTS)
    weights = slots.prefix(4).mixture.weights
    assert torch.equal(weights.argmax(-1), slots.anchors.expand(LAYERS, 1, -1))
    assert weights.amax(-1).min() > 0.5
    assert torch.equal(warm.mixture.weights[0, 0].argmax(-1), slots.anchors)
    assert torch.equal(slots.prefix(1).values, warm.values)


@pytest.mark.parametrize(
    ("scope", "layers", "heads"),
    [("shared", 1, 1), ("per_layer", LAYERS, 1), ("per_head", LAYERS, KV_HEADS)],
)
def test_the_scope_is_the_shape_of_the_parameters(scope, layers, heads):
    slots = slots_of(f"phase3.mixture.scope={scope}")
    assert slots.logits.shape[:3] == (layers, heads, SLOTS)


# What holds for every setting

SETTINGS = [
    "phase3.mixture={scope: shared}",
    "phase3.mixture={scope: per_layer, mix_mode: kv}",
    "phase3.mixture={scope: per_head}",
    "phase3.mixture={scope: per_head, mix_mode: kv, key_candidates: input_and_delimiter_only}",
    "phase3.mixture={scope: per_layer, value_candidates: input_and_delimiter_only}",
    "phase3.mixture={scope: per_layer, delimiter: {cap: 0.4, penalty: 1.0}}",
    "phase3.layer_scope.mixture=[1, -1]",
    "phase3.layer_scope.injection=top25",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_slot_is_a_sparse_convex_mixture_of_the_demonstrations_values(setting):
    extraction = ced(setting)
    prefix, bench = extraction.prefix, bench_with(setting)
    weights = prefix.mixture.weights
    assert (weights >= 0).all()
    assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    assert (weights > 0).sum(-1).max() <= 3
    for slots, rows, vectors in (
        (prefix.values, weights, bench.demo_kv.values),
        (prefix.keys, prefix.mixture.key_weights, bench.demo_kv.keys),
    ):
        by_hand = torch.einsum("lhst,lhtd->lhsd", rows.expand(LAYERS, KV_HEADS, -1, -1), vectors)
        assert_close(slots, by_hand, **PRODUCT)


@pytest.mark.parametrize("mix_mode", ["v_only", "kv"])
def test_per_head_mixtures_are_convex_in_every_head(mix_mode):
    slots = slots_of(f"phase3.mixture={{scope: per_head, mix_mode: {mix_mode}}}")
    weights, prefix = slots.value_weights(3), slots.prefix(3)
    assert (weights > 0).sum(-1).max() == 3
    assert_close(weights.sum(-1), torch.ones(LAYERS, KV_HEADS, SLOTS))
    by_hand = torch.einsum("lhst,lhtd->lhsd", weights, slots.demo_kv.values)
    assert_close(prefix.values, by_hand, **PRODUCT)
    assert torch.equal(prefix.mixture.weights, weights)


def test_top_k_is_in_force_in_the_real_forward():
    bench, slots = bench_with(), slots_of()
    dense, sparse = (detached(slots.prefix(top_k)) for top_k in (ALL, 2))
    assert (dense.mixture.weights > 0).sum(-1).min() == len(bench.episode.tokens)
    assert (sparse.mixture.weights > 0).sum(-1).unique().tolist() == [2]
    assert (
        log_probs(bench.lm, bench.train_ids, dense) - log_probs(bench.lm, bench.train_ids, sparse)
    ).abs().max() > 0.1


# One setting at a time


def test_shared_uses_the_same_row_in_every_layer():
    extraction, bench = ced("phase3.mixture.scope=shared"), bench_with()
    weights = extraction.prefix.mixture.weights
    assert weights.shape[:2] == (1, 1)
    for layer in range(LAYERS):
        by_hand = torch.einsum("st,htd->hsd", weights[0, 0], bench.demo_kv.values[layer])
        assert_close(extraction.prefix.values[layer], by_hand, **PRODUCT)


def test_per_layer_learns_rows_of_its_own():
    weights = ced("phase3.optim.steps=12").prefix.mixture.weights
    assert weights.shape[0] == LAYERS
    assert not torch.equal(weights[0], weights[-1])


def test_with_v_only_the_keys_stay_bitwise_those_of_the_anchors():
    extraction, bench = ced("phase3.mixture.mix_mode=v_only"), bench_with()
    anchors = warm_prefix(bench, SLOTS).mixture.weights[0, 0].argmax(-1)
    assert torch.equal(extraction.prefix.keys, bench.demo_kv.keys[:, :, anchors])
    assert not torch.equal(extraction.prefix.values, bench.demo_kv.values[:, :, anchors])


def test_with_kv_the_keys_are_mixed_before_rotation():
    extraction, bench = ced("phase3.mixture.mix_mode=kv"), bench_with()
    by_hand = torch.einsum("lhst,lhtd->lhsd", extraction.prefix.mixture.key_weights, bench.demo_kv.keys)
    assert_close(extraction.prefix.keys, by_hand, **PRODUCT)
    anchors = warm_prefix(bench, SLOTS).mixture.weights[0, 0].argmax(-1)
    assert not torch.equal(extraction.prefix.keys, bench.demo_kv.keys[:, :, anchors])


def test_keys_and_values_share_their_mixture_unless_their_candidates_differ():
    mixture = ced("phase3.mixture.mix_mode=kv").prefix.mixture
    assert_close(mixture.key_weights, mixture.weights)
    settings = (
        "phase3.mixture={scope: per_layer, mix_mode: kv, output_factor: 1.0, key_candidates: input_and_delimiter_only}"
    )
    apart = slots_of(settings)
    outputs = outputs_of(apart)
    assert (apart.key_weights(ALL)[..., outputs] == 0).all()
    assert (apart.value_weights(ALL)[..., outputs] > 0).all()


def test_keys_with_candidates_of_their_own_have_mixtures_of_their_own():
    (shared,) = mixture_slots(bench_with("phase3.mixture.mix_mode=kv"), SLOTS).parameters
    closed = "phase3.mixture={scope: per_layer, mix_mode: kv, value_candidates: input_and_delimiter_only}"
    slots = mixture_slots(bench_with(closed), SLOTS)
    of_values, of_keys = slots.parameters
    assert shared.shape == of_values.shape == of_keys.shape
    slots.prefix(8).keys.square().sum().backward()
    assert of_keys.grad.abs().max() > 0
    assert of_values.grad is None


def test_values_without_output_tokens_have_no_output_weight():
    extraction = ced("phase3.mixture.value_candidates=input_and_delimiter_only")
    mass = role_mass(extraction.prefix.mixture.weights, extraction.prefix.mixture.tokens.roles, ROLES)
    assert (mass[..., ROLES.index("output")] == 0).all()
    assert (role_mass(ced().prefix.mixture.weights, extraction.prefix.mixture.tokens.roles, ROLES) > 0)[..., 1].any()


@pytest.mark.parametrize("mix_mode", ["v_only", "kv"])
def test_keys_without_output_tokens_start_from_other_anchors(mix_mode):
    select = "phase2.select={span_len: 1, candidate_policy: all}"
    allowed = [select, f"phase3.mixture.mix_mode={mix_mode}"]
    roles = bench_with().episode.tokens.roles
    picked = [roles[anchor] for anchor in slots_of(*allowed).anchors]
    restricted = slots_of(*allowed, "phase3.mixture.key_candidates=input_and_delimiter_only")
    assert "output" in picked, "or this test shows nothing"
    assert "output" not in [roles[anchor] for anchor in restricted.anchors]
    assert len(set(restricted.anchors.tolist())) == SLOTS
    assert (restricted.key_weights(ALL)[..., outputs_of(restricted)] == 0).all()


def test_the_output_factor_scales_output_tokens_before_renormalising():
    slots = slots_of()
    outputs = outputs_of(slots)
    full = with_settings(slots, output_factor=1.0).value_weights(ALL)
    scaled = torch.where(outputs, 0.25 * full, full)
    by_hand = scaled / scaled.sum(-1, keepdim=True)
    assert_close(with_settings(slots, output_factor=0.25).value_weights(ALL), by_hand)
    none = with_settings(slots, output_factor=0.0).value_weights(ALL)
    assert (none[..., outputs] == 0).all()


def test_a_small_factor_keeps_output_tokens_out_of_the_top_k():
    slots = slots_of()
    outputs = outputs_of(slots)
    kept = [(with_settings(slots, output_factor=f).value_weights(4)[..., outputs] > 0).sum() for f in (1.0, 0.1, 1e-6)]
    assert kept[0] > kept[1] > kept[2] == 0


def test_layers_out_of_the_mixture_scope_keep_their_anchors():
    extraction, bench = ced("phase3.layer_scope.mixture=[1, -1]"), bench_with()
    anchors = warm_prefix(bench, SLOTS).mixture.weights[0, 0].argmax(-1)
    copied = bench.demo_kv.values[:, :, anchors]
    for layer in range(LAYERS):
        assert torch.equal(extraction.prefix.values[layer], copied[layer]) is (layer in (0, 2))
    one_hot = extraction.prefix.mixture.weights[[0, 2]]
    assert torch.equal(one_hot.argmax(-1), anchors.expand(2, 1, -1))
    assert one_hot.amax(-1).eq(1).all()


@pytest.mark.parametrize(("scope", "seeing"), [("all", [0, 1, 2, 3]), ("last_2", [2, 3]), ([0, 2], [0, 2])])
def test_only_layers_in_the_injection_scope_see_the_slots(scope, seeing):
    bench = bench_with(f"phase3.layer_scope.injection={scope}")
    prefix = train(bench)[0].prefix
    assert prefix.active.any(1).nonzero()[:, 0].tolist() == seeing
    before = log_probs(bench.lm, bench.train_ids, prefix)
    for layer in range(LAYERS):
        values = prefix.values.clone()
        values[layer] += 1.0
        moved = (log_probs(bench.lm, bench.train_ids, replace(prefix, values=values)) - before).abs().max()
        assert (moved > 1e-3) if layer in seeing else (moved == 0)


@pytest.mark.parametrize("setting", ["phase2.layer_scope.selection=[4]", "phase3.layer_scope.mixture=last_5"])
def test_layers_that_the_model_lacks_are_refused_before_any_method_runs(setting):
    with pytest.raises(ConfigError, match=rf"{setting.partition('=')[0]}: layer scope .* is"):
        bench_with(setting)


def test_top25_names_the_layers_that_look_at_the_demonstrations_most():
    bench = bench_with("phase3.layer_scope={mixture: top25, injection: top25}")
    prefix = train(bench)[0].prefix
    seen = bench.teacher_attention[..., 1:].sum(-1).mean(dim=(1, 2)).argmax().item()
    assert prefix.active.any(1).nonzero()[:, 0].tolist() == [seen]


# Delimiter steering


def test_the_cap_holds_for_every_slot_but_the_sinks():
    slots = slots_of("phase3.mixture={scope: per_layer, delimiter: {cap: 0.3}}")
    free = with_settings(slots, delimiter=DelimiterSettings())
    steered = slots.anchors != 0
    before, after = (
        role_mass(some.value_weights(6)[:, 0], slots.demo_kv.tokens.roles, ROLES)[..., MASS] for some in (free, slots)
    )
    # A slot of nothing but delimiters has nowhere else to put its weight.
    others = before < 1 - rounding(1, before.shape[-1] * 64)
    assert before[:, steered].max() > 0.4, "or there is nothing to cap"
    assert (after[:, steered][others[:, steered]] <= 0.3 + rounding(1, 64)).all()
    assert torch.equal(after[:, ~steered], before[:, ~steered])
    below = before <= 0.3
    assert torch.equal(after[below], before[below])
    assert_close(slots.value_weights(6).sum(-1), torch.ones(LAYERS, 1, SLOTS))


def test_the_penalty_is_the_squared_mass_above_the_cap():
    slots = slots_of()
    cap, penalty = 0.3, 7.0
    # A cap of 1 on the weights and one of 0.3 in the penalty alone: the penalty sees what the cap would cut.
    weights = slots.value_weights(6)
    mass = role_mass(weights[:, 0], slots.demo_kv.tokens.roles, ROLES)[:, slots.anchors != 0, MASS]
    by_hand = penalty * (mass - cap).clamp_min(0).square().mean()
    assert by_hand > 0.01
    steering = DelimiterSettings(cap=cap, penalty=penalty)
    assert_close(slots._delimiter_penalty(weights, steering), by_hand)
    assert slots._delimiter_penalty(weights, DelimiterSettings(cap=cap)) == 0


def test_coming_near_the_cap_is_warned_of():
    near = "phase3.mixture={scope: per_layer, delimiter: {cap: 0.9, warn_margin: 0.9}}"
    _, events = train(bench_with(near))
    warnings = [event.message for event in events_of(events, Warned)]
    (first, _) = events_of(events, Tick)
    assert len(warnings) == 2
    assert warnings[0].startswith("ced step 3: delimiter mass 0.")
    assert warnings[0].endswith("near its cap 0.90")
    anchors = mixture_slots(bench_with(near), SLOTS).anchors
    mass = torch.tensor(first.slot_role_mass)[:, anchors != 0, MASS].mean().item()
    assert f"{mass:.2f}" in warnings[0]


def test_without_a_cap_there_is_no_warning():
    _, events = train(bench_with())
    assert events_of(events, Warned) == []


# Structure


def test_the_structure_loss_by_hand():
    slots = slots_of("phase3.mixture={scope: shared}")
    logits = torch.full((1, 1, 2, len(slots.demo_kv.tokens)), -50.0)
    logits[0, 0, 0, :2] = 0.0  # half a, half b
    logits[0, 0, 1, 0] = 0.0  # all a
    two = replace(slots, logits=logits, anchors=torch.tensor([0, 1]), settings=MixtureSettings(output_factor=1.0))
    entropy = torch.tensor(0.5).log().neg() / 2
    cosine = 0.5**0.5
    assert two.structure_loss(4).item() == pytest.approx(entropy.item() + cosine, abs=1e-5)


def test_identical_slots_overlap_wholly_and_disjoint_ones_not_at_all():
    slots = slots_of("phase3.mixture={scope: shared}")
    tokens = len(slots.demo_kv.tokens)
    settings = MixtureSettings(output_factor=1.0)
    same = torch.nn.functional.one_hot(torch.tensor([3, 3]), tokens) * 100.0
    apart = torch.nn.functional.one_hot(torch.tensor([3, 4]), tokens) * 100.0
    losses = [
        replace(slots, logits=rows[None, None], anchors=torch.tensor([3, 4]), settings=settings)
        .structure_loss(4)
        .item()
        for rows in (same, apart)
    ]
    assert losses == pytest.approx([1.0, 0.0], abs=1e-5)


def test_a_single_slot_overlaps_with_nothing():
    extraction, events = train(bench_with(), slots=1)
    assert extraction.prefix.slots == 1
    assert all(step["loss_str"] < 3.0 for step in extraction.training["steps"])
