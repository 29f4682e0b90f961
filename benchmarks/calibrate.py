"""Fit the weight directions of the embedded model and put them where they ship, so that nobody waits for that.

    python benchmarks/calibrate.py

To be run again when the model, the calibration texts or the fit change; `tests/lm/test_shipped_directions.py` says so.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cedkv.episodes.off import calibration_texts
from cedkv.lm import load_model
from cedkv.lm.weighing import SHIPPED, directions_name, fit_directions, keep_directions

if __name__ == "__main__":
    lm, texts = load_model(), calibration_texts()
    for old in SHIPPED.glob("*.safetensors"):
        old.unlink()
    keep_directions(fit_directions(lm, texts), SHIPPED / directions_name(lm, texts))
    print(SHIPPED / directions_name(lm, texts))
