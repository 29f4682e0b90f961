"""What is measured without a run uses the model in its turns alone, from the first reading on."""

import json
from types import SimpleNamespace
from typing import cast

from cedkv.config import load_config
from cedkv.session.looks import Looks
from cedkv.session.models import ModelShelf
from cedkv.session.turns import Turns
from tests.optim.trainings import SMALL
from tests.tiny import PAIRS, tiny_lm


def test_what_the_model_makes_up_for_a_diagnosis_is_made_in_its_turn(tmp_path):
    """Of pasted demonstrations alone there are no queries, so that the model is used before anything is measured."""
    demos = tmp_path / "demos.jsonl"
    demos.write_text("".join(json.dumps({"input": x, "output": y}) + "\n" for x, y in PAIRS[:4]))
    config = load_config(None, [*SMALL, f"episode.demos_file={demos}"])
    lm, turns, inside = tiny_lm("llama"), Turns(), []
    watched = lm.model.register_forward_pre_hook(lambda *_: inside.append(turns._taken))
    try:
        events = Looks(cast(ModelShelf, SimpleNamespace(get=lambda config: lm)), turns).diagnose(config)
        next(events)
        events.close()
    finally:
        watched.remove()
    assert inside and all(inside)
