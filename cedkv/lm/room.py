"""What fits into a model's context."""

from cedkv.errors import DemoError
from cedkv.lm.load import LanguageModel


def check_room(lm: LanguageModel, tokens: int, what: str, new_tokens: int) -> None:
    """Refuse what would run past the end of the model's context, which nothing else would notice.

    Raises
    ------
    DemoError
        The tokens and those that follow are more than the context. `what` names the text in it.
    """
    if tokens + new_tokens > lm.context:
        raise DemoError(
            f"{what} with {tokens} tokens and {new_tokens} new ones do not fit into the {lm.context} that {lm.id} "
            "takes; use a shorter text or fewer demonstrations"
        )
