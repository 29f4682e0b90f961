"""The endpoints as tools of a real MCP client: `pytest tests/app/check_mcp.py`, where the extra `mcp` is installed.

It is not collected with the other tests, whose environment has no MCP.
"""

import ast
import asyncio

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from benchmarks.running_app import running_app


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app")) as address:
        yield address


def asked(address: str, *calls: tuple[str, dict]) -> tuple[list, list]:
    """The tools that a client is offered, and the last value of each call; `RUN` stands for the first call's run."""

    async def talk():
        transport = streamablehttp_client(f"{address}/gradio_api/mcp/")
        async with transport as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
            answers = []
            for name, arguments in calls:
                run_id = answers[0]["run_id"] if answers else ""
                given = {key: run_id if value == "RUN" else value for key, value in arguments.items()}
                result = await session.call_tool(name, given)
                assert not result.isError, result.content
                answers.append(ast.literal_eval(result.content[-1].text))
            return tools, answers

    return asyncio.run(talk())


def test_an_assistant_is_told_what_each_tool_does_and_takes(address):
    tools, _ = asked(address)
    named = {tool.name: tool for tool in tools}
    assert named.keys() >= _NAMES
    for name in _NAMES:
        assert len(named[name].description) > 40
        assert all(told.get("description") for told in named[name].inputSchema["properties"].values())


def test_an_assistant_extracts_compares_and_judges(address):
    settings = "episode: {on_train: 4}\nphase2: {eval: {on_samples: 3, off_samples: 9, n_random_trials: 1}}\n"
    made, compared, judged = asked(
        address,
        ("run", {"task": "present-past", "demos": "", "method": "chunked", "settings": settings}),
        ("compare", {"run_id": "RUN", "query": "jump", "views": [], "plain": False}),
        ("judge", {"run_id": "RUN"}),
    )[1]
    assert made["state"] == judged["state"] == "done"
    assert [view["name"] for view in compared["views"]] == ["base", "teacher", "chunked"]
    assert judged["report"]["gate_b"] and "passed" in judged["report"]


_NAMES = {"run", "gate", "judge", "compare", "why", "ablate", "swap", "slots", "collapse", "off", "report", "reproduce"}
