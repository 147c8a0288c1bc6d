"""The system call filter on Docker decides as bubblewrap's, on the same calls, for the same reasons."""

from __future__ import annotations

import errno
import json
import platform
import shlex

from needs import require
from test_seccomp import ABSENT_PROBES, ALLOWED, PROBES, RUNNER, UNSUPPORTED, numbers

from pivotgym.envs.sandbox import Sandbox, SandboxConfig
from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE, DockerBackend
from pivotgym.envs.sandbox.docker_container import Abilities, Container, Shape

require("docker", "docker")


def probe(box: Sandbox) -> dict[str, int]:
    """Error number by call; 0 for one that came through."""
    known = numbers(platform.machine())
    everything = PROBES | ABSENT_PROBES | UNSUPPORTED | {f"allowed {name}": args for name, args in ALLOWED.items()}
    names = {name: name.removeprefix("allowed ").split()[0].rstrip(",") for name in everything}
    calls = [(name, known[call], everything[name]) for name, call in names.items() if call in known]
    box.write_file("/tmp/runner.py", RUNNER.encode())
    result = box.run(f"python3 /tmp/runner.py <<< {shlex.quote(json.dumps(calls))}", timeout=60)
    assert result.status == 0, result
    found: dict[str, int] = json.loads(result.output)
    return found


def test_each_denied_call_is_refused(docker: DockerBackend) -> None:
    box = docker.start(SandboxConfig(image=DEFAULT_IMAGE))
    try:
        results = probe(box)
    finally:
        box.stop()
    assert len(results) > 70
    # Calls that libseccomp is too old to know give ENOSYS, and so does its kernel's.
    refused = {errno.EPERM, errno.ENOSYS}
    assert {name: results[name] for name in PROBES if name in results and results[name] not in refused} == {}
    denied = [name for name in PROBES if results.get(name) == errno.EPERM]
    assert len(denied) > 0.8 * len(PROBES)
    assert {results[name] for name in ABSENT_PROBES} == {errno.ENOSYS}
    assert {results[name] for name in UNSUPPORTED} == {errno.EOPNOTSUPP}
    assert {name: code for name, code in results.items() if name.startswith("allowed ") and code} == {}


def test_without_the_profile_one_of_them_comes_through(docker: DockerBackend) -> None:
    """With the daemon's own profile: what refuses the call above is ours."""
    docker.start(SandboxConfig(image=DEFAULT_IMAGE)).stop()  # the image is there
    shape = Shape(docker.client.inspect_image(DEFAULT_IMAGE)["Id"], "plain", SandboxConfig().limits)
    container = Container(docker.client, shape, Abilities(seccomp=False))
    try:
        code = "import os; os.close(os.memfd_create('name')); print('came through')"
        made = docker.client.exec_create(container.id, ["python3", "-c", code])
        assert docker.client.exec_start(made) == b"came through\n"
    finally:
        container.remove()
