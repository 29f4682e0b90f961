"""A relation state in other engines: what is written for them, vLLM's connector and llama.cpp's client."""

from cedkv.serve.export import EXPORTS, export_state
from cedkv.serve.llama_client import load_sequence

__all__ = ["EXPORTS", "export_state", "load_sequence"]
