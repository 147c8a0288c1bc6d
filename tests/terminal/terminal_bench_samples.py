"""Small Terminal-Bench tasks of both generations, written into a folder."""

from __future__ import annotations

from pathlib import Path

_CHECK = """import os, subprocess, sys

results = []


def test(name, passed):
    results.append((name, passed))


exec(open(os.environ["TEST_DIR"] + "/cases.py").read())
print("=========================== short test summary info ============================")
for name, passed in results:
    print(f"PASSED tests/cases.py::{name}" if passed else f"FAILED tests/cases.py::{name} - AssertionError: no - no")
sys.exit(not all(passed for _, passed in results))
"""
_T_BENCH = "FROM ghcr.io/laude-institute/t-bench/ubuntu-24-04:20250624\n"
_READ = "read = lambda path: open(path).read() if os.path.exists(path) else ''\n"


def _first(cases: str, **files: str) -> dict[str, str]:
    return {
        "run-tests.sh": "#!/bin/bash\npython3 $TEST_DIR/check.py\n",
        "tests/check.py": _CHECK,
        "tests/cases.py": _READ + cases,
        **files,
    }


def _yaml(instruction: str, extra: str = "") -> str:
    return f"instruction: |-\n  {instruction}\ndifficulty: easy\nparser_name: pytest\nmax_test_timeout_sec: 30\n{extra}"


FIRST = {
    "count-lines": _first(
        "test('count', read('/app/count.txt').strip() == '3')\ntest('kept', read('/app/data.txt') == 'a\\nb\\nc\\n')\n",
        **{
            "task.yaml": _yaml("Write the number of lines of data.txt to count.txt.", "max_agent_timeout_sec: 90\n"),
            "Dockerfile": _T_BENCH + "WORKDIR /app\nCOPY data.txt ./\n",
            "data.txt": "a\nb\nc\n",
            "solution.sh": "#!/bin/bash\nwc -l < data.txt > count.txt\n",
        },
    ),
    "fix-script": _first(
        "out = subprocess.run(['/srv/bin/greet'], capture_output=True, text=True)\n"
        "test('runs', out.stdout == 'hello ann\\n' and out.returncode == 0)\n",
        **{
            "task.yaml": _yaml("Make /srv/bin/greet print its greeting."),
            "Dockerfile": (
                "# a comment\nARG WHO=ann\nFROM debian:bookworm-slim AS base\nARG WHO=ann\nENV GREETED=$WHO \\\n"
                '  # another comment\n  HOME_OF="the ${WHO}"\nFROM base\nCOPY src /srv/bin/\n'
                'RUN chmod 755 /srv/bin/greet && \\\n    echo "$HOME_OF" > /srv/home\nWORKDIR /srv\nWORKDIR bin\n'
            ),
            "src/greet": "#!/bin/sh\necho hello $(cat /srv/nme)\n",
            "src/nme": "unused\n",
            "solution.sh": "sed -i 's/nme/name/' greet && echo \"$GREETED\" > /srv/name\n",
        },
    ),
    "compose-database": _first(
        "test('answer', read('/app/answer') == '42\\n')\n",
        **{
            "task.yaml": _yaml("Write the sum of column n of table t in $DATABASE to /app/answer."),
            "docker-compose.yaml": (
                "services:\n  client:\n    build:\n      context: .\n      dockerfile: image/Dockerfile\n"
                "      args:\n        ROWS: 3\n    command: ['sleep', 'infinity']\n    environment:\n"
                "      - TEST_DIR=${T_BENCH_TEST_DIR}\n      - DATABASE=/app/x.db\n"
            ),
            "image/Dockerfile": (
                "FROM python:3.11-slim\nARG ROWS=1\nWORKDIR /app\nRUN python3 <<EOF\nimport os, sqlite3\n"
                "db = sqlite3.connect('/app/x.db')\ndb.execute('create table t (n)')\n"
                "db.executemany('insert into t values (?)', [(14,)] * int(os.environ['ROWS']))\ndb.commit()\nEOF\n"
            ),
            "solution.sh": (
                "python3 -c \"import os, sqlite3; print(sqlite3.connect(os.environ['DATABASE'])"
                ".execute('select sum(n) from t').fetchone()[0])\" > answer\n"
            ),
        },
    ),
    "typed": _first(
        "test('typed', read('/work/note') == 'one\\ntwo\\n')\n",
        **{
            "task.yaml": _yaml("Write one and two, a line each, to note, with cat."),
            "Dockerfile": "FROM ubuntu\nWORKDIR /work\n",
            "solution.yaml": (
                "- command: cat > note\n  append_enter: true\n  min_timeout_sec: 0.3\n"
                "- command: one\n  append_enter: true\n"
                "- command: two\n  append_enter: true\n- command: C-d\n  append_enter: false\n  min_timeout_sec: 0.3\n"
            ),
        },
    ),
}

_REWARD = "mkdir -p /logs/verifier\nif {}; then echo 1; else echo 0; fi > /logs/verifier/reward.txt\n"
SECOND = {
    "hello-world": {
        "task.toml": 'version = "1.0"\n[metadata]\ndifficulty = "easy"\n[verifier]\ntimeout_sec = 30.0\n',
        "instruction.md": "Create /app/hello.txt with the line Hello, world!\n",
        "environment/Dockerfile": "FROM ubuntu:24.04\nWORKDIR /app\n",
        "tests/test.sh": "#!/bin/bash\n" + _REWARD.format('[ "$(cat hello.txt 2>&1)" = "Hello, world!" ]'),
        "solution/solve.sh": "#!/bin/bash\necho 'Hello, world!' > /app/hello.txt\n",
    },
    "two-files": {
        "task.toml": (
            "[agent]\ntimeout_sec = 60.0\n[verifier]\ntimeout_sec = 30\n"
            '[verifier.env]\nWANTED = "${NOT_SET_HERE:-7}"\n'
            '[solution.env]\nSEVEN = "7"\n'
            '[environment]\nmemory = "512M"\nstorage_mb = 64\n[environment.env]\nMODE = "fast"\n'
        ),
        "instruction.md": "Write 7 to a, and $MODE to b.",
        "environment/Dockerfile": "FROM debian\nWORKDIR /data\nCOPY <<EOF notes.txt\nmode is told by MODE\nEOF\n",
        "tests/test.sh": (
            "#!/bin/bash\npython3 - <<'EOF'\nimport json, os\n"
            "def read(name):\n    return open(name).read().strip() if os.path.exists(name) else ''\n"
            "found = {'a': float(read('a') == os.environ['WANTED']), 'b': float(read('b') == 'fast')}\n"
            "json.dump(found, open('/logs/verifier/reward.json', 'w'))\nEOF\n"
        ),
        "solution/solve.sh": "#!/bin/bash\necho $SEVEN > a; . /solution/part.sh\n",
        "solution/part.sh": "echo $MODE > b\n",
    },
    "not-root": {
        "task.toml": "[verifier]\ntimeout_sec = 30\n",
        "instruction.md": "Make done.txt in your home folder, readable by you alone.",
        "environment/Dockerfile": (
            "FROM debian:12\nRUN mkdir -p /home/dev && chown 1000:1000 /home/dev\nUSER 1000\nWORKDIR /home/dev\n"
        ),
        "tests/test.sh": (
            "#!/bin/bash\n"
            + _REWARD.format("[ \"$(stat -c '%u %a' done.txt 2>&1)\" = '1000 600' ] && [ \"$(id -u)\" = 0 ]")
        ),
        "solution/solve.sh": "#!/bin/bash\numask 077; touch ~+/done.txt\n",
    },
    "git-tidy": {
        "task.toml": "[metadata]\ncreated = 2026-01-02\n[verifier]\ntimeout_sec = 30\n",
        "instruction.md": "Remove all *.tmp files below /repo.",
        "environment/Dockerfile": (
            'FROM ubuntu:22.04\nSHELL ["/bin/bash", "-c"]\nADD tree.tar /repo/\nRUN ["touch", "/repo/a b.tmp"]\n'
            "RUN shopt -s globstar && touch /repo/{x,y}.tmp && chmod 700 /repo\nWORKDIR /repo\n"
        ),
        "environment/.dockerignore": "*.md\n",
        "tests/test.sh": (
            "#!/bin/bash\n"
            + _REWARD.format('[ -z "$(find /repo -name \'*.tmp\')" ] && [ "$(cat /repo/keep/k)" = kept ]')
        ),
        "solution/solve.sh": "#!/bin/bash\nfind /repo -name '*.tmp' -delete\n",
    },
}


def write_samples(root: Path, samples: dict[str, dict[str, str]]) -> Path:
    """Writes task folders below ``root``."""
    import io
    import tarfile

    for name, files in samples.items():
        for path, text in files.items():
            target = root / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        if name == "git-tidy":
            with tarfile.open(root / name / "environment" / "tree.tar", "w") as archive:
                for member, data in (("keep/k", b"kept\n"), ("keep/old.tmp", b"")):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return root
