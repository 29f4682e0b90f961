"""What of the harm a state does is measured beside the frozen OFF sets, and how much of it a gate allows."""

from pydantic import Field, StrictInt

from cedkv.config.base import Settings


class HarmSettings(Settings):
    """How much is read; 0 leaves a measure out."""

    real_pieces: StrictInt = Field(
        0, ge=0, le=93, description="Pieces of real text that are read at every position; 0 leaves them out."
    )
    real_tokens: StrictInt = Field(96, ge=16, le=512, description="Tokens that are read of each of them.")
    foreign_texts: StrictInt = Field(
        0, ge=0, le=512, description="Queries of other relations, in the same and in another format; 0: none."
    )
    continuations: StrictInt = Field(
        0, ge=0, le=93, description="Beginnings of real texts that are continued with and without the slots; 0: none."
    )
    continued_tokens: StrictInt = Field(16, ge=8, le=64, description="Tokens by which each of them is continued.")
    questions: StrictInt = Field(
        0, ge=0, le=512, description="Multiple-choice questions that the model can answer without slots; 0: none."
    )


class HarmThresholds(Settings):
    """What a gate asks besides; a bound that is not set is not asked."""

    paragraph_share_max: float | None = Field(
        None, gt=0, description="Largest stress p99 of Delta, as a share of what an ordinary paragraph does; optional."
    )
    real_delta_mean_max: float | None = Field(
        None, gt=0, description="Largest mean Delta per token of real text after the eighth, nats; optional."
    )
    real_delta_p99_max: float | None = Field(
        None, gt=0, description="Largest p99 of Delta per token of real text after the eighth, nats; optional."
    )
    perplexity_ratio_max: float | None = Field(
        None, gt=0, description="Largest perplexity of real text after the eighth token over the base's; optional."
    )
    foreign_delta_p99_max: float | None = Field(
        None, gt=0, description="Largest p99 of Delta on other relations' queries, nats; optional."
    )
    same_continuations_min: float | None = Field(
        None, ge=0, le=1, description="Least share of continuations whose first eight tokens are the base's; optional."
    )
    choice_loss_max: float | None = Field(
        None, ge=0, le=1, description="Most accuracy that may be lost on multiple-choice questions; optional."
    )


# The setting without which a bound has nothing to hold.
MEASURED_BY = {
    "real_delta_mean_max": "real_pieces",
    "real_delta_p99_max": "real_pieces",
    "perplexity_ratio_max": "real_pieces",
    "foreign_delta_p99_max": "foreign_texts",
    "same_continuations_min": "continuations",
    "choice_loss_max": "questions",
}
