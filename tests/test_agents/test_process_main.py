"""Agents whose classes belong to the program's main file, in whole programs without a main guard."""

from __future__ import annotations

from pathlib import Path

import pytest
from orchestree_testing.scripts import run_program, write

pytestmark = pytest.mark.portable

AGENT = """
import sys
from dataclasses import dataclass
from orchestree.agents.agent import Agent
from orchestree.agents.loading import refuse_if_copy
from orchestree_testing.process_harness import Harness

with open("executed", "a") as file:
    file.write(__name__ + "\\n")

FACTOR = 3

@dataclass
class Order:
    amount: int

class Worker(Agent):
    class Config(Agent.Config):
        amount: int = 1

    def execute(self):
        assert isinstance(self, Worker)
        assert isinstance(self.config, Worker.Config)
        assert type(self) is Worker
        assert sys.modules["__main__"].Worker is Worker
        assert isinstance(self.params["order"], Order)
        return Order(self.config.amount * self.params["order"].amount * FACTOR)
"""

ACT = """
refuse_if_copy("start()")  # what every acting method of the orchestrator does first
with Harness() as harness:
    for number in range(3):
        ended = harness.run(Worker, f"worker-{number}", amount=2, params={"order": Order(7), **EXTRA})
        assert ended.report is None, ended
        assert isinstance(ended.result, Order), ended
        print(ended.result.amount)
"""


@pytest.mark.parametrize("extra", ["{}", "{'function': lambda: None}"])
def test_a_script_is_loaded_once_for_all_agents_and_its_classes_stay_themselves(tmp_path: Path, extra: str) -> None:
    write(tmp_path / "script.py", AGENT + f"EXTRA = {extra}\n" + ACT)
    assert run_program("script.py", cwd=tmp_path) == "42\n42\n42\n"
    assert (tmp_path / "executed").read_text().split() == ["__main__", "__orchestree_main__"]


PATIENT = """
import socket
from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree_testing.process_harness import Harness

socket.setdefaulttimeout(0.05)

class Patient(Agent):
    def execute(self):
        return "was stopped" if self.sleep(0.3) else "had its time"

class Peaceful(AsyncAgent):
    async def execute(self):
        return "was stopped" if await self.sleep(0.3) else "had its time"

if __name__ == "__main__":
    with Harness() as harness:
        for agent in (Patient, Peaceful, Patient):
            print(harness.run(agent, agent.__name__).result)
"""


@pytest.mark.slow
def test_a_timeout_that_a_script_sets_for_all_sockets_stops_no_agent(tmp_path: Path) -> None:
    write(tmp_path / "script.py", PATIENT)
    assert run_program("script.py", cwd=tmp_path) == "had its time\n" * 3


@pytest.mark.parametrize(("target", "file"), [("app.run", "run.py"), ("app", "__main__.py")])
def test_a_module_that_is_run_with_dash_m_is_loaded_under_its_own_name(tmp_path: Path, target: str, file: str) -> None:
    write(tmp_path / "app" / "__init__.py", "")
    write(tmp_path / "app" / file, AGENT + "EXTRA = {}\n" + ACT)
    assert run_program("-m", target, cwd=tmp_path) == "42\n42\n42\n"
    assert (tmp_path / "executed").read_text().split() == ["__main__", f"app.{file.removesuffix('.py')}"]


def test_a_directory_that_is_run_is_loaded_like_a_script(tmp_path: Path) -> None:
    write(tmp_path / "app" / "__main__.py", AGENT + "EXTRA = {}\n" + ACT)
    assert run_program("app", cwd=tmp_path) == "42\n42\n42\n"
    assert (tmp_path / "executed").read_text().split() == ["__main__", "__orchestree_main__"]


def test_what_a_command_line_defines_travels_by_value(tmp_path: Path) -> None:
    program = "class Order:\n    def __init__(self, amount): self.amount = amount\n" + AGENT + "EXTRA = {}\n" + ACT
    program = program.replace("@dataclass\nclass Order:\n    amount: int\n", "")
    program = program.replace('        assert sys.modules["__main__"].Worker is Worker\n', "")
    program = program.replace("        assert isinstance(ended.result, Order), ended\n", "")
    assert run_program("-c", program, cwd=tmp_path) == "42\n42\n42\n"
    assert (tmp_path / "executed").read_text().split() == ["__main__"]


def test_a_file_that_the_command_line_tool_has_loaded_is_known_by_its_fixed_name(tmp_path: Path) -> None:
    write(tmp_path / "file.py", AGENT)
    write(
        tmp_path / "tool.py",
        """
        from orchestree.agents.loading import load_file
        from orchestree_testing.process_harness import Harness

        if __name__ == "__main__":
            target = load_file("file.py")
            with Harness() as harness:
                ended = harness.run(target.Worker, amount=2, params={"order": target.Order(7)})
                print(isinstance(ended.result, target.Order), ended.result.amount)
        """,
    )
    assert run_program("tool.py", cwd=tmp_path) == "True 42\n"
    assert (tmp_path / "executed").read_text().split() == ["__orchestree_main__"] * 2


def test_a_class_under_a_main_guard_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        """
        from orchestree.agents.agent import Agent
        from orchestree.strategies.errors import SpecError
        from orchestree_testing.process_harness import Harness

        if __name__ == "__main__":
            class Worker(Agent):
                def execute(self):
                    return 1

            with Harness() as harness:
                try:
                    harness.prepare(harness.launch(Worker, "worker"))
                except SpecError as error:
                    print(error)
        """,
    )
    output = run_program("script.py", cwd=tmp_path)
    assert output.startswith(f"worker: {tmp_path / 'script.py'} has no 'Worker' when it is loaded")
    assert output.count("\n") == 1


def test_a_copy_of_the_orchestrator_in_an_agents_process_refuses_to_act(tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        """
        from orchestree_testing import process_agents as agents
        from orchestree_testing.process_harness import Harness

        if __name__ == "__main__":
            with Harness() as harness:
                print(harness.run(agents.Caller, params={"call": agents.act_as_an_orchestrator}).result)
        """,
    )
    assert "a copy of the orchestrator" in run_program("script.py", cwd=tmp_path)
