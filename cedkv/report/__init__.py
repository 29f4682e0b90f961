"""What a run leaves behind: its report, and the folder that the report and all other files lie in."""

from cedkv.report.blocks import (
    CollapseBlock,
    CriterionRow,
    DemosBlock,
    EpisodeBlock,
    FirstToken,
    ModelBlock,
    OffScores,
    OffSize,
    OnScores,
    Report,
    RoleMass,
    SlotBlocks,
    SlotRow,
    StateFile,
    Tail,
    TrainingBlock,
)
from cedkv.report.folder import RunFolder, new_run_id

__all__ = [
    "CollapseBlock",
    "CriterionRow",
    "DemosBlock",
    "EpisodeBlock",
    "FirstToken",
    "ModelBlock",
    "OffScores",
    "OffSize",
    "OnScores",
    "Report",
    "RoleMass",
    "RunFolder",
    "SlotBlocks",
    "SlotRow",
    "StateFile",
    "Tail",
    "TrainingBlock",
    "new_run_id",
]
