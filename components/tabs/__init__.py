"""The tabs, in the order in which they stand: a new one is a file here and a line in `TABS`."""

from components.tabs import (
    collapse,
    compare,
    diagnosis,
    documents,
    frontier,
    gate,
    off_effect,
    runs,
    slots,
    training,
    weights,
)
from components.tabs.frame import Tab

TABS: tuple[Tab, ...] = (
    compare.TAB,
    slots.TAB,
    collapse.TAB,
    off_effect.TAB,
    training.TAB,
    gate.TAB,
    diagnosis.TAB,
    documents.TAB,
    weights.TAB,
    frontier.TAB,
    runs.TAB,
)
