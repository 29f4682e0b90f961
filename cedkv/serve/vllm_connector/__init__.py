"""Relation states served by stock vLLM: a KV connector for the server, and what a client sends.

This folder is a package of its own, `cedkv_vllm`: it imports nothing else of cedkv, because vLLM needs other versions
of the libraries. `python -m cedkv serve export --to vllm` writes the folder of states that it serves.
"""
