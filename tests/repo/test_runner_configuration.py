"""What of a project's own configuration of pytest the test runner keeps."""

from __future__ import annotations

import shlex

import pytest

from pivotgym.envs.repo.runner.configuration import arguments, configuration, kept


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("-v -ra --strict-markers -W error", "-v -ra --strict-markers -W error"),
        ("-vx", "-v"),
        ("-xvs", "-v"),
        ("-xvsk name", "-vk name"),
        ("-qrfE -x", "-qrfE"),
        ("-n 4 -q", "-q"),
        ("-n4 -q", "-q"),
        ("-vn auto tests", "-v tests"),
        ("-nauto --dist loadfile -p no:warnings", "-p no:warnings"),
        ("-c other.ini -m 'not slow'", "-m 'not slow'"),
        ("--cov pkg --cov-report term --doctest-modules", "--doctest-modules"),
        ("--cov --cov-report=term -q", "-q"),
        ("--failed-first --new-first --cache-clear -q", "-q"),
        ("--last-failed-no-failures none --lfnf=all -q", "-q"),
        ("--lf --ff --nf --sw --sw-skip --exitfirst --pdb --trace", ""),
        ("--color=yes --collect-only --import-mode=importlib", "--color=yes --import-mode=importlib"),
        ("--maxfail 1 --maxprocesses=2 --reruns 3 --reruns-delay 1 --durations 5", "--durations 5"),
        ("--junitxml report.xml --log-file out.log --basetemp=tmp --strict-config -l", "-l"),
        ("-q 'unbalanced", ""),
    ],
)
def test_options_that_stay(options: str, left: str) -> None:
    assert kept(options) == shlex.split(left)


@pytest.mark.parametrize(
    ("files", "chosen", "addopts"),
    [
        ({}, None, ""),
        ({"setup.cfg": "[tool:pytest]\naddopts = -q\n"}, "setup.cfg", "-q"),
        ({"setup.cfg": "[metadata]\nname = x\n", "tox.ini": "[tox]\n"}, None, ""),
        ({"pytest.ini": "", "setup.cfg": "[tool:pytest]\naddopts = -q\n"}, "pytest.ini", ""),
        ({"pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-q -x'\n"}, "pyproject.toml", "-q -x"),
        ({"pyproject.toml": "[tool.pytest]\naddopts = ['-q', '-k a b']\n"}, "pyproject.toml", "-q '-k a b'"),
        ({"pyproject.toml": "[tool.black]\n", "tox.ini": "[pytest]\naddopts = -v\n"}, "tox.ini", "-v"),
        ({"pytest.toml": "[pytest]\naddopts = ['-q']\n", "pytest.ini": "[pytest]\n"}, "pytest.toml", "-q"),
        ({"pyproject.toml": "not [ toml"}, None, ""),
    ],
)
def test_which_file_configures(files: dict[str, str], chosen: str | None, addopts: str) -> None:
    found = configuration(files.get, ())
    assert (found and found.path) == chosen and (found is None or found.addopts == addopts)
    # What the agent changed configures nothing.
    assert configuration(files.get, files) is None


def test_what_is_ours_comes_last() -> None:
    files = {"pytest.ini": "[pytest]\naddopts = -x -v\nmarkers =\n    db: needs one\n    net: needs the net\n"}
    made = arguments(files.get, "/r", (), ["def test_a(): pass"])
    assert made[made.index("-c") + 1] == "/r/pytest.ini" and "addopts=-v" in made
    assert made[-1] == "--maxfail=0" and not any(word.startswith("markers=") for word in made)
    made = arguments(files.get, "/r", (), ["@pytest.mark.flaky(reruns=2)\ndef test_a(): pass"])
    (markers,) = [word for word in made if word.startswith("markers=")]
    assert markers.splitlines()[:2] == ["markers=db: needs one", "net: needs the net"] and "flaky" in markers
    assert "/dev/null" in arguments(files.get, "/r", files, [])
