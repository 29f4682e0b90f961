"""A changed state kept: as a run of its own, with a file that can be saved, opened and judged like any other."""

from dataclasses import replace
from pathlib import Path

from cedkv.config import dump_config
from cedkv.files import dump_json
from cedkv.lm import LanguageModel
from cedkv.report import RunFolder, new_run_id
from cedkv.session.reports import report_of_state
from cedkv.session.runs import Run
from cedkv.session.slots import Mix


def keep_mixed(lm: LanguageModel, run: Run, mix: Mix, root: Path) -> Run:
    """Write a run's state with its slots mixed below `root`. Its notes and its report say what was done to which.

    Raises
    ------
    CedKVError
        There is not one usable factor for each slot.
    """
    method = mix.method or run.student
    state = mix.apply(run.prefix(method))
    state = replace(state, meta={**state.meta, "slot_factors": list(mix.factors)})
    folder = RunFolder(root, new_run_id(run.report["episode"]["task"], 0, state.slots).replace("phase0", "mixed"))
    report = report_of_state(state, method, lm, run.config)
    report["run_id"], report["episode"] = folder.path.name, run.report["episode"]
    report["slot_factors"] = list(mix.factors)
    folder.write("config.yaml", dump_config(run.config))
    folder.write("report_extract.json", dump_json(report))
    state.save(folder.path / "artifacts" / f"{method}.safetensors")
    return Run(folder.path, note=f"slots mixed: {mix.told()}")
