"""State files: what is read is what was written, and whatever else a file may be is refused in one line."""

import hashlib
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cedkv.errors import CedKVError, OutputError, StateError
from cedkv.report.slots import describe_roles
from cedkv.slots.mixture import sparse_softmax
from cedkv.state import DemoTokens, KVPrefix, Mixture, pad_with_null_slots
from cedkv.state.container import as_bytes, write_container
from cedkv.state.mixture import PER_SLOT

LAYERS, HEADS, SLOTS, DIM, KEPT = 3, 2, 4, 8, 3
TOKENS = DemoTokens(
    ids=(0, 5, 6, 7, 8),
    texts=("<bos>", "lift", " →", '"é\n', "�"),
    roles=("delimiter", "input", "delimiter", "output", "output"),
    demo=(-1, 0, 0, 0, 1),
)


def make(dtype: torch.dtype = torch.float32, mixture: bool = True, key_weights: bool = False) -> KVPrefix:
    draw = torch.Generator().manual_seed(0)
    weights = sparse_softmax(torch.rand(LAYERS, HEADS, SLOTS, len(TOKENS), generator=draw), KEPT)
    return KVPrefix(
        keys=torch.randn(LAYERS, HEADS, SLOTS, DIM, generator=draw).to(dtype),
        values=torch.randn(LAYERS, HEADS, SLOTS, DIM, generator=draw).to(dtype),
        positions=torch.tensor([0, 2, 3, 7]),
        query_start=9,
        active=torch.rand(LAYERS, SLOTS, generator=draw) > 0.3,
        fingerprint="print",
        mixture=Mixture(weights, TOKENS, weights.flip(2) if key_weights else None) if mixture else None,
        meta={"method": "ced", "nested": {"é": [1, 2.5, None, True]}},
    )


MIXTURE = (LAYERS, HEADS, SLOTS, KEPT)


def rows_of(*tokens: int) -> torch.Tensor:
    """The same tokens in every slot, head and layer."""
    return torch.tensor(tokens, dtype=torch.int32).expand(LAYERS, HEADS, SLOTS, -1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


@pytest.fixture
def saved(path):
    make().save(path)
    return path


# A header's field, a tensor that is wrong, or tensors that are too many or too few. It need not be the one forged:
# a smaller number of slots is seen by the tensors, which are too large for it.
NAMED = re.compile(r"header '[\w.]+'|'(tokens|keys|values|positions|active|(key_)?weights(_index)?)' |tensors \w+")


def refusal(path, *fingerprint: str) -> str:
    with pytest.raises(StateError) as caught:
        KVPrefix.load(path, *fingerprint)
    assert isinstance(caught.value, CedKVError)
    assert "\n" not in str(caught.value)
    assert repr(str(path)) in str(caught.value)
    return str(caught.value)


def forge(path, header: dict | None = None, drop: tuple[str, ...] = (), **tensors: torch.Tensor) -> None:
    """Rewrite a state file with other contents and checksums that fit them: not damaged, but wrong."""
    with safe_open(path, framework="pt") as file:
        old = json.loads(file.metadata()["header"])
        contents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    contents = {name: tensor.contiguous() for name, tensor in {**contents, **tensors}.items() if name not in drop}
    checksums = {name: hashlib.sha256(as_bytes(tensor)).hexdigest() for name, tensor in contents.items()}
    merged = {**old, "checksums": checksums, **(header or {})}
    text = json.dumps({name: value for name, value in merged.items() if value is not ...}, sort_keys=True)
    write_container(path, contents, {"format": "cedkv-state", "header": text})


def assert_same(read: KVPrefix, written: KVPrefix) -> None:
    for name in ("keys", "values", "positions", "active"):
        one, other = getattr(read, name), getattr(written, name)
        assert one.dtype == other.dtype
        assert torch.equal(one, other), name
    for name in ("query_start", "fingerprint", "meta"):
        assert getattr(read, name) == getattr(written, name), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixture", [{"mixture": False}, {"key_weights": False}, {"key_weights": True}])
def test_what_is_read_is_what_was_written(path, dtype, mixture):
    written = make(dtype, **mixture)
    written.save(path)
    read = KVPrefix.load(path, "print")
    assert_same(read, written)
    assert (read.mixture is None) == (written.mixture is None)
    if written.mixture:
        assert read.mixture.tokens == TOKENS
        assert torch.equal(read.mixture.weights, written.mixture.weights)
        assert (read.mixture.key_weights is None) == (written.mixture.key_weights is None)
    if written.mixture and written.mixture.key_weights is not None:
        assert torch.equal(read.mixture.key_weights, written.mixture.key_weights)


def test_tensors_that_share_memory_or_gradients_are_written_as_they_look(path):
    """Views, expanded rows and trained leaves come out of methods; a file knows only numbers."""
    keys = make().keys.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    shared = torch.eye(len(TOKENS))[:SLOTS].expand(LAYERS, HEADS, SLOTS, len(TOKENS))
    written = replace(make(), keys=keys, values=keys, mixture=Mixture(shared, TOKENS, shared))
    written.save(path)
    read = KVPrefix.load(path)
    assert torch.equal(read.keys, keys)
    assert torch.equal(read.values, keys)
    assert torch.equal(read.mixture.key_weights, shared)


@pytest.mark.parametrize("shape", [(1, 1), (LAYERS, 1), (1, HEADS), (LAYERS, HEADS)], ids=str)
def test_mixtures_shared_by_layers_and_heads_stay_so(path, shape):
    written = replace(make(), mixture=Mixture(torch.eye(len(TOKENS))[:SLOTS].expand(*shape, -1, -1), TOKENS))
    written.save(path)
    assert torch.equal(KVPrefix.load(path).mixture.weights, written.mixture.weights)


def test_a_mixture_is_stored_by_the_tokens_that_have_weight(path):
    """The fullest row has two tokens; a row of one is filled up with token 0, a null slot with the first two."""
    weights = torch.zeros(1, 1, SLOTS, len(TOKENS))
    weights[0, 0, 0, [1, 4]] = torch.tensor([0.25, 0.75])
    weights[0, 0, 1, 3] = 1
    weights[0, 0, 2, 0] = 1
    replace(make(), mixture=Mixture(weights, TOKENS)).save(path)
    with safe_open(path, framework="pt") as file:
        stored, index = file.get_tensor("weights"), file.get_tensor("weights_index")
    assert index.tolist() == [[[[1, 4], [0, 3], [0, 1], [0, 1]]]]
    assert stored.tolist() == [[[[0.25, 0.75], [0, 1], [1, 0], [0, 0]]]]
    assert (index.dtype, stored.dtype) == (torch.int32, torch.float32)
    assert torch.equal(KVPrefix.load(path).mixture.weights, weights)


def test_a_mixture_of_null_slots_alone_is_stored_by_none(path):
    written = replace(make(), mixture=Mixture(torch.zeros(1, 1, SLOTS, len(TOKENS)), TOKENS))
    written.save(path)
    assert torch.equal(KVPrefix.load(path).mixture.weights, written.mixture.weights)


def test_a_few_bytes_cannot_ask_for_a_mixture_of_any_size(path, monkeypatch):
    make().save(path)
    numbers = LAYERS * HEADS * SLOTS * len(TOKENS)
    monkeypatch.setattr("cedkv.state.file._MAX_MIXTURE", numbers)
    KVPrefix.load(path)
    monkeypatch.setattr("cedkv.state.file._MAX_MIXTURE", numbers - 1)
    assert f"'weights' would be a mixture of more than {numbers - 1} numbers" in refusal(path)


def test_what_could_not_be_read_is_not_written(path, monkeypatch):
    prefix = make()
    monkeypatch.setattr("cedkv.state.file._MAX_MIXTURE", prefix.mixture.weights.numel() - 1)
    with pytest.raises(StateError, match=r"'weights' has \d+ numbers and a file may hold \d+; use fewer"):
        prefix.save(path)
    assert not path.exists()


def test_saving_makes_the_folder_and_replaces_an_older_state(tmp_path):
    path = tmp_path / "new" / "folder" / "state.safetensors"
    make().save(path)
    replace(make(), query_start=11).save(path)
    assert KVPrefix.load(path).query_start == 11
    assert [file.name for file in path.parent.iterdir()] == ["state.safetensors"], "nothing else is left behind"


def test_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        make().save(tmp_path / "file" / "state.safetensors")
    assert str(tmp_path / "file") in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        make().save(tmp_path / "folder")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_state_of_another_model_is_refused(saved):
    message = refusal(saved, "other")
    assert "'fingerprint' is print, the model's is other; load the model it was made for" in message
    assert KVPrefix.load(saved).fingerprint == "print", "without a model any state can be looked at"


def test_missing_file_and_folder_are_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "none.safetensors")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"not a state", b"\xff" * 400, b"PK\x03\x04" * 50])
def test_what_is_no_state_file_is_refused(path, content):
    path.write_bytes(content)
    assert "'header'" in refusal(path)


def test_another_safetensors_file_is_refused(path):
    save_file({"keys": torch.zeros(1)}, path)
    assert "it is no state file" in refusal(path)


def test_file_cut_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        saved.write_bytes(whole[:length])
        assert str(saved) in refusal(saved)
    saved.write_bytes(whole + b"\x00")
    assert str(saved) in refusal(saved)


def test_another_format_version_is_refused(saved):
    forge(saved, {"format_version": 99})
    assert "'format_version' is 99, this version reads 4" in refusal(saved)


@pytest.mark.parametrize(
    "header",
    [
        {"query_start": ...},
        {"query_start": "soon"},
        {"query_start": -1},
        {"query_start": 2**70},
        {"query_start": None},
        {"fingerprint": ...},
        {"fingerprint": 3},
        {"fingerprint": None},
        {"created": "yesterday"},
        {"versions": {"torch": 2}},
        {"checksums": {}},
        {"checksums": {"keys": "0" * 64}},
        {"slots": 5},
        {"slots": -1},
        {"slots": 2**40},
        {"layers": 1},
        {"kv_heads": 1.5},
        {"head_dim": "8"},
        {"dtype": "fp64"},
        {"dtype": "bf16"},
        {"dtype": "int8"},
        {"meta": ...},
        {"meta": {"settings": "none"}},
        {"meta": {"template": 3}},
        {"meta": {"metrics": {"train_kl": "low"}}},
        {"meta": {"rope": []}},
        {"unknown": 1},
        {"meta": []},
        {"tokens": ...},
        {"tokens": None},
        {"tokens": []},
        {"tokens": {"ids": [1]}},
        {"tokens": {"ids": [1], "texts": ["a", "b"], "roles": ["input"], "demo": [0]}},
        {"tokens": {"ids": 5, "texts": 5, "roles": 5, "demo": 5}},
        {"tokens": {"ids": [0] * 5, "texts": ["a"] * 5, "roles": ["<b>"] * 5, "demo": [0] * 5}},
        {"tokens": {"ids": ["x"] * 5, "texts": ["a"] * 5, "roles": ["input"] * 5, "demo": [0] * 5}},
        {"tokens": {"ids": [0] * 5, "texts": [1] * 5, "roles": ["input"] * 5, "demo": [0] * 5}},
        {"tokens": {"ids": [0] * 5, "texts": ["a"] * 5, "roles": [["input"]] * 5, "demo": [0] * 5}},
        {"tokens": {"ids": [0] * 5, "texts": ["a"] * 5, "roles": ["input"] * 5, "demo": [None] * 5}},
    ],
    ids=str,
)
def test_header_with_a_checksum_that_fits_is_still_checked(saved, header):
    forge(saved, header)
    assert NAMED.search(refusal(saved))


@pytest.mark.parametrize(
    "tensors",
    [
        {"keys": torch.zeros(3)},
        {"keys": torch.zeros(LAYERS, HEADS, SLOTS + 1, DIM)},
        {"values": torch.zeros(LAYERS, HEADS, SLOTS, DIM + 1)},
        {"values": torch.full((LAYERS, HEADS, SLOTS, DIM), float("nan"))},
        {"keys": torch.full((LAYERS, HEADS, SLOTS, DIM), float("inf"))},
        {"keys": torch.zeros(LAYERS, HEADS, SLOTS, DIM, dtype=torch.int64)},
        {"positions": torch.zeros(SLOTS)},
        {"positions": torch.tensor([0, 1, 2, 99])},
        {"positions": torch.tensor([-1, 1, 2, 3])},
        {"positions": torch.arange(SLOTS + 1)},
        {"active": torch.ones(LAYERS + 1, SLOTS, dtype=torch.bool)},
        {"active": torch.full((LAYERS, SLOTS), 0.5)},
        {"weights": torch.zeros(LAYERS, HEADS, SLOTS, KEPT - 1)},
        {"weights": torch.zeros(SLOTS, KEPT)},
        {"weights": torch.full(MIXTURE, float("nan"))},
        {"weights": torch.full(MIXTURE, 1)},
        {"weights": torch.full(MIXTURE, 1 / KEPT, dtype=torch.bfloat16)},
        {"weights": torch.full(MIXTURE, 0.5)},
        {"weights": torch.tensor([2.0, -1.0, 0.0]).expand(MIXTURE)},
        {"weights_index": torch.zeros(MIXTURE, dtype=torch.int64)},
        {"weights_index": rows_of(0, 1)},
        {"weights_index": rows_of(0, 1, len(TOKENS))},
        {"weights_index": rows_of(-1, 1, 2)},
        {"weights_index": rows_of(0, 2, 2)},
        {"weights_index": rows_of(2, 1, 0)},
        {"weights": torch.zeros(LAYERS + 1, HEADS, SLOTS, 1), "weights_index": rows_of(0)[[0, 0, 1, 2]]},
        {"weights": torch.zeros(LAYERS, HEADS + 1, SLOTS, 1), "weights_index": rows_of(0)[:, [0, 0, 1]]},
        {"weights": torch.zeros(*MIXTURE[:3], 6), "weights_index": rows_of(*range(6))},
        {"key_weights": torch.zeros(MIXTURE)},
        {"key_weights_index": rows_of(0, 1, 2)},
        {"key_weights": torch.zeros(MIXTURE), "key_weights_index": rows_of(0, 2, 1)},
        {"extra": torch.zeros(1)},
    ],
    ids=lambda tensors: " ".join(f"{name} {tuple(t.shape)} {t.flatten()[0]}" for name, t in tensors.items()),
)
def test_tensors_with_a_checksum_that_fits_are_still_checked(saved, tensors):
    forge(saved, **tensors)
    assert NAMED.search(refusal(saved))


@pytest.mark.parametrize("name", ["keys", "values", "positions", "active", "weights", "weights_index"])
def test_a_missing_tensor_is_named(saved, name):
    forge(saved, drop=(name,))
    assert name in refusal(saved)


def test_nothing_forged_is_nothing_refused(saved):
    """The forger itself writes valid files: what the tests above see refused is what they changed."""
    written = KVPrefix.load(saved)
    forge(saved)
    assert_same(KVPrefix.load(saved), written)


def test_a_header_that_is_no_object_is_refused(saved):
    with safe_open(saved, framework="pt") as file:
        contents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    for text in ("[]", "3", "null", "{}", "", "{", "[" * 100_000):
        save_file(contents, saved, {"format": "cedkv-state", "header": text, "sha256": ""})
        assert "'header' cannot be read" in refusal(saved)


def weighted() -> KVPrefix:
    draw = torch.Generator().manual_seed(1)
    numbers = torch.randn(len(PER_SLOT), LAYERS, HEADS, SLOTS, generator=draw)
    prefix = make()
    return replace(prefix, mixture=replace(prefix.mixture, **dict(zip(PER_SLOT, numbers, strict=True))))


def test_weights_and_gains_come_back(path):
    prefix = weighted()
    prefix.save(path)
    again = KVPrefix.load(path).mixture
    for name in PER_SLOT:
        assert torch.equal(getattr(again, name), getattr(prefix.mixture, name))


def test_a_file_without_them_is_one_of_slots_that_count_as_one(saved):
    again = KVPrefix.load(saved)
    assert all(getattr(again.mixture, name) is None for name in PER_SLOT)


@pytest.mark.parametrize("name", PER_SLOT)
def test_weights_that_cannot_be_are_refused(path, name):
    weighted().save(path)
    forge(path, **{name: torch.zeros(LAYERS, HEADS, SLOTS + 1)})
    assert name in refusal(path)
    weighted().save(path)
    forge(path, **{name: torch.full((LAYERS, HEADS, SLOTS), torch.nan)})
    assert name in refusal(path)


def test_padding_leaves_null_slots_without_a_weight():
    padded = pad_with_null_slots(weighted(), SLOTS + 2).mixture
    assert padded.log_bias.shape == padded.value_gain.shape == (LAYERS, HEADS, SLOTS + 2)
    assert padded.log_bias[..., SLOTS:].count_nonzero() == 0


def test_a_block_of_another_kind_has_roles_of_its_own(path):
    prefix = make()
    roles = ("delimiter", "text", "text", "page_title", "output")
    tokens = replace(prefix.mixture.tokens, roles=roles)
    replace(prefix, mixture=replace(prefix.mixture, tokens=tokens)).save(path)
    state = KVPrefix.load(path)
    assert state.mixture.tokens.roles == roles
    mean = describe_roles(state)["mean"]
    assert list(mean) == ["input", "output", "delimiter", "text", "page_title"]
    assert sum(mean.values()) == pytest.approx(1) and mean["input"] == 0 < mean["text"]


def test_a_file_has_no_more_roles_than_can_be_shown(path):
    prefix = make()
    many = replace(
        prefix.mixture.tokens,
        ids=tuple(range(20)),
        texts=("a",) * 20,
        roles=tuple("abcdefghijklmnopqrst"),
        demo=(0,) * 20,
    )
    weights = torch.nn.functional.pad(prefix.mixture.weights, (0, 15))
    with pytest.raises(StateError, match="has 23 roles, and a file may have 16"):
        replace(prefix, mixture=Mixture(weights, many)).save(path)
    assert not path.exists()
