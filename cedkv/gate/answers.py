"""What an episode's answers let its gate see: is the first token an answer at all, and can whole answers be judged?"""

from collections import Counter
from collections.abc import Iterator

from cedkv.evaluation import Judge
from cedkv.report import FirstToken

# From this share of the queries on, what holds for them counts as decided for all.
_DECIDED = 0.9


def describe_first_token(judge: Judge) -> FirstToken:
    """The report's `episode.first_token`: whether it tells views apart.

    `blank` is the share of answers in front of which the tokenizer makes a token of nothing but white space, which is
    never what is judged. `by_format` says that the first token is the same in nearly all answers, such as a bracket, or
    that the base has it right without having seen a demonstration.
    """
    queries = judge.episode.on_eval
    (token, count), *_ = Counter(query.first_id for query in queries).most_common(1)
    opened = bool(judge.episode.opening)
    base = judge.base_on.accuracy
    return {
        "blank": sum(opened or query.blanks > 0 for query in queries) / len(queries),
        "commonest": judge.lm.decode([token]),
        "commonest_share": count / len(queries),
        "by_format": len(queries) > 1 and max(count / len(queries), base) >= _DECIDED,
    }


def judging_warnings(judge: Judge) -> Iterator[str]:
    """What a reader of the numbers should know before them."""
    first, episode = describe_first_token(judge), judge.episode
    if first["by_format"]:
        yield (
            f"the first token of the answers is decided by format: {first['commonest']!r} begins "
            f"{first['commonest_share']:.0%} of them and the base is right on {judge.base_on.accuracy:.0%}; "
            "whole answers are judged in its place"
        )
    if episode.cut_outputs:
        yield (
            f"{episode.cut_outputs} answers go on after {episode.stop!r}, which ends an answer in this template; they "
            "are judged up to there. Use a template that ends demonstrations with something they do not hold"
        )
