"""Theme questions: what a whole document is about, which no single sentence of it says."""

import random
from collections.abc import Callable

from cedkv.episodes.documents.question import Question

THEMES = {
    "cooking": ("the dough", "a warm oven", "fresh butter", "the soup", "a sharp knife", "salt and pepper"),
    "music": ("the violin", "a slow melody", "the choir", "an old piano", "the rhythm", "a quiet song"),
    "sailing": ("the mast", "a torn sail", "the harbour", "a strong wind", "the anchor", "the crew"),
    "gardening": ("the roses", "a wet lawn", "the seeds", "an apple tree", "the hedge", "rich soil"),
    "medicine": ("the patient", "a high fever", "the nurse", "a clean bandage", "the ward", "the pulse"),
    "astronomy": ("the telescope", "a bright comet", "the moon", "a distant galaxy", "the orbit", "a dim star"),
}
_FRAMES = (
    "They spoke about {} for a long time.",
    "Nobody had thought of {} before that day.",
    "She wrote a page on {} and put it away.",
    "In the end it was {} that mattered most.",
    "He could describe {} better than anyone else.",
    "Every morning began with {}.",
    "There was much to say about {}.",
)


def make_themes(tokens: int, count: int, seed: int, encode: Callable[[str], list[int]]) -> list[Question]:
    """Documents of about so many tokens that speak of one theme in sentences that fit any, and a choice of themes."""
    return [_theme(tokens, random.Random(f"themes {seed} {number}"), encode) for number in range(count)]


def _theme(tokens: int, draw: random.Random, encode: Callable[[str], list[int]]) -> Question:
    theme = draw.choice(list(THEMES))
    said: list[str] = []
    while True:
        sentence = draw.choice(_FRAMES).format(draw.choice(THEMES[theme]))
        if said and len(encode(" ".join([*said, sentence]))) > tokens:
            break
        said.append(sentence)
    choices = draw.sample(list(THEMES), len(THEMES))
    return Question(
        " ".join(said),
        question=f"\n\nIs the text above about {', '.join(choices[:-1])} or {choices[-1]}?",
        answer_prefix=" It is about",
        answers=(theme,),
        max_new_tokens=4,
        note=f"The text is about {theme}.",
        about={"kind": "theme", "tokens": tokens},
    )
