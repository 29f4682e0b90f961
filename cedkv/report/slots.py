"""What the report says about each slot: its tokens, its roles, and whether slots are copies of each other."""

from cedkv.metrics import collapse_summary, role_mass, top_tokens
from cedkv.report import CollapseBlock, RoleMass, SlotBlocks, SlotRow
from cedkv.state import KVPrefix
from cedkv.state.words import slot_words


def describe_state(prefix: KVPrefix, top_k: int) -> SlotBlocks:
    """The slots of a state, their roles, and whether they are copies of each other."""
    return {
        "slots": describe_slots(prefix, top_k),
        "role_mass": describe_roles(prefix),
        "collapse": describe_collapse(prefix),
    }


def describe_slots(prefix: KVPrefix, top_k: int) -> list[SlotRow]:
    """Per slot what it is in words and its tokens of most weight, mean over layers and heads; empty for free slots."""
    if prefix.mixture is None:
        return []
    tokens = prefix.mixture.tokens
    mean = prefix.mixture.weights.mean(dim=(0, 1))
    return [
        {
            "slot": slot,
            "position": int(prefix.positions[slot]),
            "active": bool(prefix.active[:, slot].any()),
            "words": slot_words(prefix, slot),
            "tokens": [
                {
                    "index": index,
                    "text": tokens.texts[index],
                    "role": tokens.roles[index],
                    "demo": tokens.demo[index],
                    "weight": weight,
                }
                for index, weight in row
            ],
        }
        for slot, row in enumerate(top_tokens(mean, top_k))
    ]


def describe_roles(prefix: KVPrefix) -> RoleMass:
    """Mass per token role, mean over layers and heads: for all slots together and for each slot."""
    if prefix.mixture is None:
        return {}
    names = prefix.mixture.tokens.role_names
    mass = role_mass(prefix.mixture.weights, prefix.mixture.tokens.roles, names).mean(dim=(0, 1))
    used = mass[mass.sum(-1) > 0]
    return {
        "mean": dict(zip(names, used.mean(0).tolist(), strict=True)),
        "slots": [dict(zip(names, row, strict=True)) for row in mass.tolist()],
    }


def describe_collapse(prefix: KVPrefix) -> CollapseBlock:
    """Similarity of the slots that are switched on anywhere."""
    used = prefix.active.any(0).nonzero()[:, 0]
    weights = prefix.mixture.weights[:, :, used] if prefix.mixture else None
    return collapse_summary(prefix.keys[:, :, used], prefix.values[:, :, used], weights)
