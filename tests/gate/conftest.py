"""Finished gates on a tiny random model, shared by the tests that read what they left."""

import pytest

from cedkv.config import Config, load_config
from cedkv.gate import GateReport, run_gate
from tests.gate.reports import SMALL
from tests.tiny import tiny_lm


@pytest.fixture(scope="session")
def small_config() -> Config:
    return load_config(None, SMALL)


@pytest.fixture(scope="session")
def two_reports(small_config, tmp_path_factory) -> tuple[GateReport, GateReport]:
    """Two runs of one config."""
    out = tmp_path_factory.mktemp("runs")
    return tuple(run_gate(small_config, lm=tiny_lm("llama"), out=out) for _ in range(2))


@pytest.fixture(scope="session")
def report(two_reports) -> GateReport:
    return two_reports[0]
