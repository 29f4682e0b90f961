"""What scorers read besides the training's own losses: a reference's losses and a critic's values, read once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.config import TrainSettings
from cedkv.errors import ConfigError
from cedkv.lm import LanguageModel, View, iter_log_probs, load_model, read_demo_kv
from cedkv.state import DemoTokens
from cedkv.wmtp.data import Text, Tokens, encode_text

DEMONSTRATIONS = "demonstrations"


def reference_losses(
    lm: LanguageModel, settings: TrainSettings, texts: Sequence[Tokens], shown: Sequence[Text]
) -> list[Float[Tensor, " _tokens"]]:
    """The reference's loss on every token of each text, nats; 0 on those nothing predicts.

    shown : the worked examples that `demonstrations` puts in front of the same model.

    Raises
    ------
    ConfigError
        The reference is a model that cuts texts into other tokens.
    """
    name = settings.weights.reference
    if name == DEMONSTRATIONS:
        return token_losses(lm, texts, read_demo_kv(lm, _block(lm, shown)).as_prefix())
    reference = load_model(name, device=lm.device.type)
    if reference.tokenizer_fingerprint != lm.tokenizer_fingerprint:
        raise ConfigError(f"train.weights.reference {name!r} has another vocabulary than {lm.id!r}; choose one alike")
    return token_losses(reference, texts, None)


def token_losses(lm: LanguageModel, texts: Sequence[Tokens], view: View) -> list[Float[Tensor, " _tokens"]]:
    """Minus the log-probability of every token behind a view, nats; 0 up to the first that comes with the text."""
    own = [list(text.ids[len(lm.bos) :]) for text in texts]
    reads = [len(ids) - 1 for ids in own]
    found: list[Tensor] = []
    for part, rows in iter_log_probs(lm, [ids[:-1] for ids in own], view, reads):
        target = torch.tensor([token for ids in own[part] for token in ids[1:]], device=rows.device)
        losses = -rows.gather(1, target[:, None])[:, 0]
        start = torch.zeros(len(lm.bos) + 1, device=rows.device)
        found += [torch.cat([start, each]) for each in losses.split(reads[part])]
    return found


def _block(lm: LanguageModel, shown: Sequence[Text]) -> DemoTokens:
    """Worked examples as a block of demonstrations."""
    demos = [encode_text(lm.encode, (), text) for text in shown]
    roles = ["input"] * len(lm.bos)
    for demo in demos:
        roles += ["input"] * demo.solution + ["output"] * (len(demo.ids) - demo.solution)
    ids = [*lm.bos, *(token for demo in demos for token in demo.ids)]
    numbers = [-1] * len(lm.bos) + [number for number, demo in enumerate(demos) for _ in demo.ids]
    return DemoTokens(tuple(ids), tuple(lm.decode([token]) for token in ids), tuple(roles), tuple(numbers))
