"""The gate: is the plumbing sound (A), and does the state work without harm (B)? One code for app and CLI."""

from cedkv.gate.run import GateReport, iter_gate, run_gate

__all__ = ["GateReport", "iter_gate", "run_gate"]
