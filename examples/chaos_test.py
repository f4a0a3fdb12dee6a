"""A restart policy is put to the test before it runs, and Hypothesis finds what nobody thought of.

A web shop has a policy that reads well: whoever crashes comes back, and if that happens more than three times a minute
something must be really wrong, so the program ends. The test runs the real tree under virtual time, with random faults,
against three things that must always hold. In seconds Hypothesis finds that a single agent that flaps takes the whole
shop with it, and shows that with as few faults as possible. In the mended policy an agent that keeps failing waits
longer and longer, and the window has room for all of them at once.

    python examples/chaos_test.py

It is also a test file: `pytest examples/chaos_test.py`.

Prints:
    first draft: Hypothesis has found a weakness
    mended: 500 random schedules, and everybody came back
Shows, among others:
    faults that are enough: #
Exit code: 0
"""

from hypothesis import given, settings
from loguru import logger
from tenacity import wait_exponential

from orchestree import Agent, AsyncAgent, Backoff, Orchestrator, RunMode
from orchestree.supervisor.testing import (
    CheckFailed,
    Schedule,
    fault_schedules,
    never_two_live,
    recovers_within,
    stays_within,
    supervised,
)


class Api(AsyncAgent):
    async def execute(self) -> None:
        await self.sleep(3600)  # takes orders


class Payments(Agent):
    def execute(self) -> None:
        self.sleep(3600)  # charges cards


class Mailer(Agent):
    def execute(self) -> None:
        self.sleep(3600)  # sends confirmations


def shop(policy: Orchestrator.Config) -> Orchestrator:
    orchestrator = Orchestrator(policy)
    orchestrator.register_agent(Payments, "payments", executor="process", watchdog=10)
    orchestrator.register_agent(Mailer, "mailer", watchdog=10)
    orchestrator.register_agent(Api, "api", depends_on=["payments"])
    return orchestrator


FIRST_DRAFT = shop(
    Orchestrator.Config(
        run_mode=RunMode.DAEMON,
        max_restarts=3,
        max_seconds=60,
    )
)
MENDED = shop(
    Orchestrator.Config(
        run_mode=RunMode.DAEMON,
        backoff=Backoff(wait=wait_exponential(multiplier=1, max=15)),  # 1 s, 2 s, 4 s, 8 s, 15 s, 15 s ...
        max_restarts=30,  # ten a minute for each of the three, which is more than this backoff allows
        max_seconds=60,
    )
)


def check(tree: Orchestrator, schedule: Schedule) -> None:
    with supervised(tree) as t:
        t.run(schedule)
        t.check(never_two_live, recovers_within(60), stays_within(max_starts_per_minute=10))


@settings(max_examples=500, database=None, deadline=None)
@given(fault_schedules(FIRST_DRAFT))
def first_draft_survives(schedule: Schedule) -> None:
    check(FIRST_DRAFT, schedule)


@settings(max_examples=500, database=None, deadline=None)
@given(fault_schedules(MENDED))
def test_the_mended_policy_survives(schedule: Schedule) -> None:
    check(MENDED, schedule)


def test_hypothesis_finds_the_weakness_of_the_first_draft() -> None:
    found = weakness_of_the_first_draft()
    assert found is not None, "Hypothesis has found nothing"
    assert "the root supervisor gave up" in str(found)


def weakness_of_the_first_draft() -> CheckFailed | None:
    try:
        first_draft_survives()
    except CheckFailed as found:
        return found
    return None


if __name__ == "__main__":
    found = weakness_of_the_first_draft()
    if found is None:
        raise SystemExit("Hypothesis has found nothing")
    print("first draft: Hypothesis has found a weakness")
    logger.info("faults that are enough: {}\n{}", len(found.faults), found)
    test_the_mended_policy_survives()
    print("mended: 500 random schedules, and everybody came back")
