"""Files that a training goes on from: parameters, optimiser, random states and whatever the objective remembers.

One safetensors container, written whole or not at all, with the plain values as JSON inside; nothing is unpickled.
A training that is taken up again takes the same steps as one that was never cut short, bit for bit.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cedkv.errors import CheckpointError, StateError
from cedkv.files import dump_json
from cedkv.state.container import as_bytes, open_container, write_container

FORMAT = "cedkv-checkpoint-1"
# What a training's checkpoint is called in its folder.
FILE_NAME = "checkpoint.safetensors"
_PLAIN = "plain"


@dataclass(frozen=True)
class Memory:
    """Tensors by name, and values that JSON can hold."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of_parts(parts: Mapping[str, "Memory"]) -> "Memory":
        """Several memories as one; `part` gives them back."""
        tensors = {f"{name}/{key}": value for name, part in parts.items() for key, value in part.tensors.items()}
        return Memory(tensors, {name: dict(part.plain) for name, part in parts.items()})

    def part(self, name: str) -> "Memory":
        start = f"{name}/"
        own = {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}
        return Memory(own, self.plain[name])


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept, and how often.

    key : names all that the training depends on (settings, data, model), so that no other one goes on from the file.
    every : steps between two writes; it is written at the end too.
    """

    path: Path
    key: str
    every: int = 50

    def due(self, done: int, over: bool) -> bool:
        """Whether to write after so many steps."""
        return over or done % self.every == 0

    def write(self, memory: Memory) -> None:
        """Put a memory in the place of the one before.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        text = torch.frombuffer(bytearray(dump_json(memory.plain).encode()), dtype=torch.uint8)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in memory.tensors.items()}
        tensors[_PLAIN] = text
        sums = {name: hashlib.sha256(as_bytes(tensor)).hexdigest() for name, tensor in tensors.items()}
        write_container(self.path, tensors, {"format": FORMAT, "key": self.key, "checksums": json.dumps(sums)})

    def read(self) -> Memory | None:
        """What the file holds; None where there is no file yet.

        Raises
        ------
        CheckpointError
            The file is damaged, is no checkpoint, or belongs to another training.
        """
        try:
            with self.path.open("rb") as file:
                container = open_container(self.path, file)
                container.check_seal()
                if container.metadata.get("format") != FORMAT:
                    raise CheckpointError(f"checkpoint {str(self.path)!r} is none of {FORMAT!r}; choose another file")
                if container.metadata["key"] != self.key:
                    raise CheckpointError(
                        f"checkpoint {str(self.path)!r} is of a training with other settings, data or model; "
                        "remove it to begin anew, or use the settings it was made with"
                    )
                sums = json.loads(container.metadata["checksums"])
                tensors = {name: container.read(name, sums[name]) for name in container.entries}
        except FileNotFoundError:
            return None
        except (StateError, OSError) as error:
            raise CheckpointError(
                f"checkpoint {str(self.path)!r} cannot be read ({error}); remove it to begin anew"
            ) from error
        return Memory(tensors, json.loads(bytes(as_bytes(tensors.pop(_PLAIN)))))


def training_memory(parameters: Sequence[Tensor], optimiser: torch.optim.Optimizer) -> dict[str, Memory]:
    """What any training must know to go on: its parameters, its optimiser and the random states."""
    return {
        "parameters": Memory({str(index): parameter for index, parameter in enumerate(parameters)}),
        "optimiser": optimiser_memory(optimiser),
        "random": random_memory(),
    }


def recall_training(parameters: Sequence[Tensor], optimiser: torch.optim.Optimizer, memory: Memory) -> None:
    """Take back parameters and optimiser; when the random states are is for the training to say (`recall_random`)."""
    for index, parameter in enumerate(parameters):
        parameter.data.copy_(memory.part("parameters").tensors[str(index)])
    recall_optimiser(optimiser, memory.part("optimiser"))


def optimiser_memory(optimiser: torch.optim.Optimizer) -> Memory:
    """The state that an optimiser keeps of each parameter. What its groups are set to comes from the settings."""
    state = optimiser.state_dict()["state"]
    return Memory({f"{index}/{name}": value for index, kept in state.items() for name, value in kept.items()})


def recall_optimiser(optimiser: torch.optim.Optimizer, memory: Memory) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in memory.tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def random_memory() -> Memory:
    """The states of torch's own generators, on the processor and on every accelerator that is in use."""
    states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return Memory({"cpu": torch.get_rng_state(), **{f"cuda{index}": state for index, state in enumerate(states)}})


def recall_random(memory: Memory) -> None:
    torch.set_rng_state(memory.tensors["cpu"])
    if len(memory.tensors) > 1:
        torch.cuda.set_rng_state_all([memory.tensors[f"cuda{index}"] for index in range(len(memory.tensors) - 1)])
