"""What a client sends: placeholders, salt and the state's name together, for the OpenAI client and for offline `LLM`.

Needs nothing but Python. A handle is the small JSON file that `serve export` writes beside each state.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PARAMETER = "cedkv_state"


@dataclass(frozen=True)
class Handle:
    """A state as a client knows it.

    Attributes
    ----------
    name : the server's name for it.
    slots : how many tokens it takes at the start of a prompt.
    placeholder : the token id that stands for each of them.
    salt : what keeps its blocks apart in the server's prefix cache.
    """

    name: str
    slots: int
    placeholder: int
    salt: str

    @classmethod
    def load(cls, path: str | Path) -> "Handle":
        """Read the file that `serve export` wrote. Raises `ValueError` where it is no handle."""
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except TypeError as error:
            raise ValueError(f"{str(path)!r} is no handle of a state; write it with serve export") from error

    def save(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def prompt(self, query: Sequence[int]) -> list[int]:
        """The token ids of a prompt: placeholders, then the query without a beginning-of-text token.

        Raises
        ------
        ValueError
            There is no query, or it starts with the placeholder.
        """
        if not query or query[0] == self.placeholder:
            raise ValueError(f"the query {list(query)[:5]} must have tokens and not start with {self.placeholder}")
        return [self.placeholder] * self.slots + list(query)

    def completion(self, query: Sequence[int]) -> dict[str, Any]:
        """Arguments for `OpenAI().completions.create(model=..., **handle.completion(ids), max_tokens=...)`."""
        extra = {"cache_salt": self.salt, "kv_transfer_params": {PARAMETER: self.name}}
        return {"prompt": self.prompt(query), "extra_body": extra}

    def offline(self, query: Sequence[int]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A prompt for `LLM.generate`, and the `extra_args` of its `SamplingParams`."""
        prompt = {"prompt_token_ids": self.prompt(query), "cache_salt": self.salt}
        return prompt, {"kv_transfer_params": {PARAMETER: self.name}}
