"""A tree of agents inside an aiohttp application, on its event loop and with its ClientSession.

The prober fetches `/weather` from the application every 0.1 seconds with the session that it shares with it. The
first answer is an error: the prober crashes and comes back, and the application serves on meanwhile. `/health`
shows how the agents are. After the prober is back, the program asks for `/health` itself, and ends.

    pip install aiohttp
    python examples/web_app.py

Prints:
    GET /health: {"prober": {"state": "ready", "restarts": 1}}
Events, in this order:
    orchestrator_started
    supervisor_started
    agent_starting prober
    agent_ready prober
    supervisor_ready
    agent_crashed prober
    agent_restarting prober
    agent_starting prober
    agent_ready prober
    orchestrator_stopping
    agent_stopping prober
    agent_terminated prober
    supervisor_terminated
    orchestrator_stopped
Exit code: 0
"""

import asyncio
import socket
from collections.abc import AsyncIterator

from aiohttp import ClientSession, web

from orchestree import EventType, Orchestrator, PeriodicAsyncAgent, RunMode

SESSION = web.AppKey("SESSION", ClientSession)
TREE = web.AppKey("TREE", Orchestrator)
ANSWERS = iter([503])


class Prober(PeriodicAsyncAgent):
    class Config(PeriodicAsyncAgent.Config):
        url: str
        interval = 0.1

    config: Config

    async def runner(self) -> None:
        session: ClientSession = self.params["session"]
        async with session.get(self.config.url) as answer:
            answer.raise_for_status()
            self.logger.info("the weather is {}", await answer.text())


async def weather(request: web.Request) -> web.Response:
    return web.Response(text="fine", status=next(ANSWERS, 200))


async def health(request: web.Request) -> web.Response:
    agents = request.app[TREE].which_children()
    return web.json_response({one.name: {"state": one.state, "restarts": one.restarts_total} for one in agents})


async def run_agents(app: web.Application) -> AsyncIterator[None]:
    """Start the tree with the application, and stop it when the application ends."""
    async with app[TREE]:
        yield


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    site_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with ClientSession() as session:
        app = web.Application()
        app[SESSION] = session
        app[TREE] = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, agents_loop="caller"))
        app[TREE].register_agent(Prober, "prober", url=f"{site_url}/weather", params={"session": session})
        app.add_routes([web.get("/weather", weather), web.get("/health", health)])
        app.cleanup_ctx.append(run_agents)

        back = app[TREE].events.stream(type=EventType.AGENT_READY, path="prober")
        runner = web.AppRunner(app)
        await runner.setup()
        await web.SockSite(runner, listener).start()

        async for event in back:
            if event.incarnation == 2:
                break
        async with session.get(f"{site_url}/health") as answer:
            print("GET /health:", await answer.text())
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
