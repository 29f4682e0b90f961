"""A relation state behind a plain transformers model: no part of cedkv runs the model.

    python -m cedkv extract --task present-past --method ced --out state.safetensors
    python examples/plain_transformers.py state.safetensors MODEL "Q: jump
    A:"

MODEL is the folder or hub id of the weights that the state was made with; any others are refused. The embedded
model's folder is in `~/.cache/cedkv/models`, the Hub's weights are others. `generate` is transformers' own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transformers import AutoModelForCausalLM, AutoTokenizer

from cedkv.lm.export import generate_inputs
from cedkv.state import KVPrefix


def main(state_file: str, model_id: str, *texts: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_id)
    model = AutoModelForCausalLM.from_pretrained(model_id).eval()
    state = KVPrefix.load(state_file)
    # A beginning-of-text token is part of the state already.
    queries = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    inputs = generate_inputs(state, model, queries)
    new = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    for text, row in zip(texts, new[:, inputs["input_ids"].shape[1] :], strict=True):
        print(repr(text), "->", repr(tokenizer.decode(row, skip_special_tokens=True)))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
