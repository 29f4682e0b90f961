"""OFF texts: an endless, deterministic supply whose three splits never meet."""

import random
from collections import Counter
from itertools import islice

import pytest

from cedkv.config import load_config
from cedkv.episodes.off import BUCKETS, SPLITS, Maker, NearFormat, off_stream, sample_off, split_of
from cedkv.episodes.off.grammar import LEXICON, expand, read_lines
from cedkv.episodes.off.length import LENGTHS, count_pieces, cut, length_class
from cedkv.errors import ConfigError
from cedkv.gate import run_gate
from tests.gate.reports import SMALL
from tests.growth import grows_with_its_size
from tests.tiny import tiny_lm

QA = NearFormat("Q: {input}\nA: {output}\n\n")
ARROW = NearFormat("{input} -> {output}\n")
INPUT_OUTPUT = NearFormat("Input: {input}\nOutput: {output}\n\n")
FROZEN_STRESS_SHA256 = "4f0398216f798a3cdbd265f7d4765f981b2b5c3a64e833dc210ed39a4ea14e22"
BUCKETS_OF_SPLITS = [(split, bucket) for split, buckets in SPLITS.items() for bucket in buckets]


def stream_texts(split: str, seed: int, count: int, bucket: str, near: NearFormat = QA) -> list[str]:
    return [text.text for text in islice(off_stream(split, seed, near, [bucket]), count)]


def test_same_seed_gives_the_same_set():
    assert sample_off("stress", 300, 4, QA) == sample_off("stress", 300, 4, QA)


def test_frozen_stress_set_is_the_same_on_every_machine():
    """Changed frames, word lists or sampling need a new DEFINITION_VERSION, and then a new value here."""
    assert sample_off("stress", 512, 0, QA).sha256 == FROZEN_STRESS_SHA256


def test_another_bucket_is_a_line_in_the_registry_and_is_judged_and_trained_on(monkeypatch, tmp_path):
    before = {split: sample_off(split, 40, 1, QA).texts for split in SPLITS}
    frames = tuple(f"{count} grey herons stand in the evening river and wait" for count in range(2, 40))
    monkeypatch.setitem(BUCKETS, "herons", Maker(frames, whole=0.5))
    for split in ("stress", "pool"):
        texts = sample_off(split, 5 * len(BUCKETS), 1, QA).texts
        assert Counter(text.bucket for text in texts)["herons"] == 5
        assert [text for text in texts if text.bucket != "herons"][:40] == list(before[split])
    assert sample_off("typical", 40, 1, QA).texts == before["typical"]

    report = run_gate(load_config(None, SMALL), lm=tiny_lm("llama"), out=tmp_path).data
    assert report["off"]["select"]["stress"]["buckets"]["herons"]["count"] == 1


def test_another_seed_gives_other_texts():
    first, second = (sample_off("pool", 300, seed, QA) for seed in (1, 2))
    shared = {text.text for text in first.texts} & {text.text for text in second.texts}
    assert first.sha256 != second.sha256
    assert len(shared) < 60


def test_hash_covers_size_seed_split_and_template():
    sets = [
        sample_off("stress", 200, 0, QA),
        sample_off("stress", 201, 0, QA),
        sample_off("stress", 200, 1, QA),
        sample_off("typical", 200, 0, QA),
        sample_off("stress", 200, 0, ARROW),
    ]
    assert len({off_set.sha256 for off_set in sets}) == len(sets)


def test_smaller_set_is_the_beginning_of_the_larger_one():
    assert sample_off("stress", 100, 3, QA).texts == sample_off("stress", 250, 3, QA).texts[:100]


def test_choice_of_buckets_leaves_the_texts_of_a_bucket_alone():
    alone = stream_texts("stress", 5, 40, "code")
    among_all = sample_off("stress", 40 * len(BUCKETS), 5, QA).texts
    assert alone == [text.text for text in among_all if text.bucket == "code"]


def test_splits_are_disjoint_for_different_seeds():
    texts = {
        split: {text.text for seed in (0, 1, 2) for text in sample_off(split, 2000, seed, QA).texts} for split in SPLITS
    }
    assert not texts["typical"] & texts["stress"]
    assert not texts["typical"] & texts["pool"]
    assert not texts["stress"] & texts["pool"]


def test_every_text_hashes_to_its_split():
    for split in SPLITS:
        assert {split_of(text.text) for text in sample_off(split, 900, 8, QA).texts} == {split}


@pytest.mark.parametrize("bucket", BUCKETS)
def test_splits_share_no_source_sentence(bucket: str):
    frames = {
        split: set(BUCKETS[bucket].restricted(lambda frame, split=split: split_of(frame) == split).frames)
        for split in SPLITS
    }
    assert sum(map(len, frames.values())) == len(set(BUCKETS[bucket].frames))
    assert set.union(*frames.values()) == set(BUCKETS[bucket].frames)
    assert min(len(frames[split]) for split, buckets in SPLITS.items() if bucket in buckets) >= 15


@pytest.mark.parametrize(("split", "bucket"), BUCKETS_OF_SPLITS)
def test_every_bucket_supplies_thousands_of_distinct_texts(split: str, bucket: str):
    needed = 4000 if split == "pool" else 3000
    assert len(set(stream_texts(split, 11, needed, bucket))) == needed


def test_round_robin_over_the_buckets_in_their_order():
    texts = sample_off("stress", 9 * 30 + 4, 2, QA).texts
    assert [text.bucket for text in texts[:9]] == list(BUCKETS)
    assert sorted(Counter(text.bucket for text in texts).values()) == [30] * 5 + [31] * 4


def test_typical_draws_only_everyday_buckets():
    buckets = {text.bucket for text in sample_off("typical", 50, 0, QA).texts}
    assert buckets == {"prose", "dialogue", "question", "instruction", "numbers"}


@pytest.mark.parametrize("near", [QA, ARROW, INPUT_OUTPUT], ids=["qa", "arrow", "input_output"])
def test_near_format_shows_a_delimiter_of_the_episode(near: NearFormat):
    for split in ("stress", "pool"):
        texts = stream_texts(split, 6, 400, "near_format", near)
        assert all(any(mark in text for mark in near.marks) for text in texts)


@pytest.mark.parametrize("near", [QA, ARROW, INPUT_OUTPUT], ids=["qa", "arrow", "input_output"])
def test_near_format_is_never_a_bare_query(near: NearFormat):
    """A relation query is a bare word between the delimiters; near-format contents are phrases."""
    before, between, _ = near.pieces
    for text in stream_texts("stress", 7, 400, "near_format", near):
        content = text.removeprefix(before.lstrip()).removesuffix(between.rstrip()).strip()
        assert len(content.split()) > 1 or not content.isalpha(), text


def test_template_pieces_and_marks():
    assert QA.pieces == ("Q: ", "\nA:", "\n\n")
    assert QA.marks == ("Q:", "A:")
    assert ARROW.pieces == ("", " ->", "\n")
    assert ARROW.marks == ("->",)


@pytest.mark.parametrize("template", ["Q: {input}\nA:", "{output}", "{input} {input} {output}", ""])
def test_template_without_both_fields_is_refused(template: str):
    with pytest.raises(ConfigError, match="exactly once"):
        NearFormat(template)


@pytest.mark.parametrize(("split", "bucket"), BUCKETS_OF_SPLITS)
def test_texts_are_clean_and_of_their_length_class(split: str, bucket: str):
    texts = list(islice(off_stream(split, 9, INPUT_OUTPUT, [bucket]), 600))
    for text in texts:
        assert text.text == text.text.strip()
        assert "«" not in text.text
        assert "»" not in text.text
        assert 3 <= count_pieces(text.text) <= 60
        assert text.length == length_class(text.text)
    assert set(LENGTHS) >= {text.length for text in texts} >= {"short", "medium"}
    assert 8 < sum(count_pieces(text.text) for text in texts) / len(texts) < 25


def test_length_classes_count_rough_tokens():
    assert count_pieces("Why does it rain?") == 5
    assert count_pieces("f(x) = 1024") == 7  # f ( x ) = 10 24
    assert count_pieces("дом 明天") == 5
    assert [length_class("word " * count) for count in (3, 8, 9, 18, 19, 40)] == [
        "short",
        "short",
        "medium",
        "medium",
        "long",
        "long",
    ]


def test_cut_text_is_a_beginning_that_ends_with_a_word():
    sentence = "The old miller walked home through the snow and thought about the price of flour"
    rng = random.Random(0)
    beginnings = {cut(sentence, rng) for _ in range(300)}
    words = sentence.split()
    assert beginnings == {" ".join(words[:count]) for count in range(4, len(words) + 1)}


def test_cut_text_without_blanks_ends_at_any_character():
    text = "明天北京的气温大约"
    rng = random.Random(0)
    assert {cut(text, rng) for _ in range(200)} == {text[:count] for count in range(4, len(text) + 1)}


def test_labelled_slots_repeat_and_others_do_not():
    rng = random.Random(3)
    slots = {"x": ("a", "b", "c")}
    for _ in range(50):
        first, again, other, third = expand("«x:1» «x:1» «x» «x»", rng, slots).split()
        assert first == again
        assert {first, other, third} == {"a", "b", "c"}


def test_number_slots_stay_in_range_and_keep_zeros():
    rng = random.Random(1)
    drawn = {expand("«08-11»", rng, {}) for _ in range(200)}
    assert drawn == {"08", "09", "10", "11"}


@pytest.mark.parametrize("bucket", BUCKETS)
def test_every_slot_of_every_frame_has_its_list(bucket: str):
    rng = random.Random(0)
    for frame in BUCKETS[bucket].frames:
        filled = expand(frame, rng, QA.slots).strip()
        assert "«" not in filled
        assert 4 <= count_pieces(filled) <= 60


def test_word_lists_hold_no_duplicates():
    for name, words in LEXICON.items():
        assert len(set(words)) == len(words) > 1, name


def test_data_lines_lose_comments_and_gain_breaks():
    lines = read_lines("list_table")
    assert not any(line.startswith(";;") or "\\n" in line for line in lines)
    assert any("\n" in line for line in lines)


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_maker_is_callable_by_itself(bucket: str):
    maker = BUCKETS[bucket]
    assert isinstance(maker, Maker)
    assert maker(random.Random(5), QA) == maker(random.Random(5), QA) != ""


def test_unknown_split_is_named_with_the_valid_ones():
    with pytest.raises(ConfigError, match="'weird'.*typical, stress, pool"):
        off_stream("weird", 0, QA)


@pytest.mark.parametrize(("split", "bucket"), [("stress", "poetry"), ("typical", "code")])
def test_unknown_bucket_is_named_with_the_valid_ones(split: str, bucket: str):
    with pytest.raises(ConfigError, match=f"'{split}'.*'{bucket}'.*prose, dialogue"):
        sample_off(split, 10, 0, QA, ["prose", bucket])


def test_empty_choice_of_buckets_is_refused():
    with pytest.raises(ConfigError, match="got none"):
        off_stream("pool", 0, QA, [])


def test_size_below_one_is_refused():
    with pytest.raises(ConfigError, match="size 0"):
        sample_off("pool", 0, 0, QA)


@pytest.mark.parametrize("split", SPLITS)
def test_a_sample_costs_no_more_than_its_size(split: str):
    assert grows_with_its_size(lambda size: sample_off(split, size, 0, QA), 128)
