"""Chromium in a container, with the machine's own Docker daemon and the image that containers/ builds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import needs
import pytest
from web_pages import Agent

from pivotgym.containers.build import BROWSER_IMAGE
from pivotgym.envs.browser.apps.taskset import bundled_trajectories
from pivotgym.envs.browser.container import ContainerError
from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.browser.miniwob import miniwob_task
from pivotgym.envs.sandbox.docker_api import is_orphan

pytestmark = pytest.mark.slow
MakeEnv = Callable[..., BrowserEnv]


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    """The image, built where it is missing."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        needs.missing("no Docker daemon can be reached: apt-get install docker.io")
    if subprocess.run(["docker", "image", "inspect", BROWSER_IMAGE], capture_output=True).returncode:
        from pivotgym.containers.build import BROWSER, BuildError, _client, build

        try:
            build(_client(), name=BROWSER_IMAGE, recipe=BROWSER)
        except BuildError as error:
            needs.missing(str(error))


def containers() -> list[str]:
    """Running ones with a browser."""
    command = ["docker", "ps", "--filter", "name=pivotgym-browser-", "--format", "{{.Names}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_an_episode_in_a_container_is_like_any_other(make_env: MakeEnv) -> None:
    before = set(containers())
    env = make_env(backend="docker")
    agent = Agent(env)
    env.reset(options={"task": miniwob_task("click-checkboxes", 3)})
    agent.click("checkbox")
    fork = Agent(env.fork())
    assert len(set(containers()) - before) == 1
    assert fork.env.browser.view is not None and env.browser.view is not None
    assert fork.env.browser.view.state == env.browser.view.state
    fork.env.close()
    row = next(row for row in bundled_trajectories(None) if row.id == "bundled-shop.cancel_order-1")
    last = len(row.turns) - 1
    report = env.reset(options={"trajectory": row, "turn": last})[1]["restore"]
    _, reward, terminated, _, _ = env.step(row.action(last))
    assert terminated and reward == 1.0, report.diverged


def test_a_container_has_no_network_and_no_privileges(make_env: MakeEnv) -> None:
    before = set(containers())
    Agent(make_env(backend="docker")).open("<p>page</p>")
    (name,) = set(containers()) - before or set(containers())
    marks = subprocess.run(["docker", "inspect", "--format", "{{json .Config.Labels}}", name], capture_output=True)
    assert is_orphan(json.loads(marks.stdout)) is False, "`pivotgym clean` must know whose it is"
    found = subprocess.run(
        ["docker", "exec", name, "sh", "-c", "id -u; cat /proc/net/dev; grep CapEff /proc/1/status"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert found.startswith("1000\n") and "lo:" in found and "eth" not in found
    assert found.split("CapEff:")[1].strip() == "0000000000000000"


def test_a_killed_container_is_replaced_and_the_episode_goes_on(make_env: MakeEnv) -> None:
    agent = Agent(make_env(backend="docker"))
    agent.open("<input type=checkbox aria-label=one><input type=checkbox aria-label=two>")
    agent.click("'one'")
    for name in containers():
        subprocess.run(["docker", "kill", name], capture_output=True, check=True)
    after = agent.click("'two'")
    assert after.count("checked='true'") == 2 and agent.env.browser.revivals >= 1


def test_a_missing_image_is_said_so(make_env: MakeEnv) -> None:
    with pytest.raises(ContainerError, match=r"the image pivotgym-nothing is missing: docker pull"):
        Agent(make_env(backend="docker", image="pivotgym-nothing")).open("<p>page</p>")


def test_a_container_ends_with_the_process_that_started_it() -> None:
    before = set(containers())
    script = """if True:
        import sys
        from pivotgym.envs.browser.env import BrowserEnv
        from pivotgym.envs.browser.miniwob import miniwob_task
        env = BrowserEnv(backend="docker")
        env.reset(options={"task": miniwob_task("click-test", 1)})
        print("up", flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        started = set(containers()) - before
        assert len(started) == 1
        child.kill()
    deadline = time.monotonic() + 120
    while started & set(containers()):
        assert time.monotonic() < deadline, "the container outlived its process"
        time.sleep(0.2)
