"""A relation state in other engines: what is written for them, and vLLM's connector."""

from cedkv.serve.export import EXPORTS, REFUSED, check_engine, export_state

__all__ = ["EXPORTS", "REFUSED", "check_engine", "export_state"]
