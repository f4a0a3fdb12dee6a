"""Embedded in a real aiohttp application that shares its client session with an agent of the tree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from orchestree_testing.trees import PATIENCE, a_tree, add

from orchestree.agents import PeriodicAsyncAgent
from orchestree.supervisor import AgentState, EventType, Orchestrator

pytestmark = pytest.mark.slow

E = EventType
TREE = web.AppKey("tree", Orchestrator)
SESSION = web.AppKey("session", ClientSession)


class Prober(PeriodicAsyncAgent):
    """Asks the application that it runs in, through the application's own session; crashes at the third answer."""

    class Config(PeriodicAsyncAgent.Config):
        interval: float = 0.01

    asked: int = 0

    async def runner(self) -> None:
        session: ClientSession = self.params["session"]
        async with session.get(self.params["url"]()) as answer:
            self.emit("answered", status=answer.status, text=await answer.text())
        self.asked += 1
        if self.asked == 3 and self.incarnation == 1:
            raise ConnectionResetError("the third answer")


async def status(request: web.Request) -> web.Response:
    tree = request.app[TREE]
    return web.json_response({child.path: child.state for child in tree.which_children()})


async def restart(request: web.Request) -> web.Response:
    await request.app[TREE].aio.restart_agent(request.match_info["path"], PATIENCE)
    return web.Response(text="done")


def application(port: list[int]) -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/status", status), web.post("/restart/{path}", restart)])

    async def supervised(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession() as session:
            tree = a_tree(agents_loop="caller")
            params = {"session": session, "url": lambda: f"http://127.0.0.1:{port[0]}/status"}
            tree.register_agent(Prober, "prober", params=params)
            add(tree, "worker")
            app[TREE], app[SESSION] = tree, session
            yield
            await tree.aio.stop()

    app.cleanup_ctx.append(supervised)
    return app


def test_a_web_application_and_its_tree_share_one_loop_and_one_session() -> None:
    async def program() -> Orchestrator:
        port: list[int] = []
        app = application(port)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(runner.addresses[0][1])
        tree, session = app[TREE], app[SESSION]
        await tree.aio.start()
        async for event in tree.events.stream(since=0, type=E.AGENT_READY, path="prober"):
            if event.incarnation == 2:
                break
        async with session.post(f"http://127.0.0.1:{port[0]}/restart/prober") as answer:
            assert await answer.text() == "done"
        async with session.get(f"http://127.0.0.1:{port[0]}/status") as answer:
            assert await answer.json() == {"prober": "ready", "worker": "ready"}
        assert tree.status("prober").incarnation == 3
        await runner.cleanup()
        return tree

    tree = asyncio.run(asyncio.wait_for(program(), 2 * PATIENCE))
    assert tree.exit_code == 0
    assert tree.status("prober").state is AgentState.STOPPED
    answered = [event for event in tree.history("prober", E.AGENT_MESSAGE) if event.incarnation == 1]
    assert len(answered) == 3
