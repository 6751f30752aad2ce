import pytest, threading, json, os
import aider
from model import Say, Wait
from stage import worlds
pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

@pytest.fixture
def world():
    yield from worlds(aider)

def test_x(world):
    world.model.on("How to work:", aider.edit("work.txt", "", "broken\n"))
    world.model.on("CI failed", aider.edit("work.txt", "broken\n", "fixed\n"))
    id = world.spawn("--task", "Do some work")
    world.until(id, lambda one: (one["pr"] or {}).get("ci_status") == "passing", "the mended check")
    print(world.record(id))
