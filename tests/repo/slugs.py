"""A small repository task for tests: a bug in a function, tests in pytest's and in unittest's style."""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import io
import tarfile
from pathlib import Path

from pivotgym.envs.repo.tasks import RepoTask, Tests
from pivotgym.envs.terminal.tasks import Setup

ROOT = "/testbed"
SITE = "$(python3 -c 'import site; print(site.getsitepackages()[0])')"
"""Bash source: where Python's packages are installed."""
_ARRIVES = "/opt/arrives"
FILES = {
    "README.md": "# textkit\n\nSmall functions for texts.\n",
    "textkit/__init__.py": '"""Small functions for texts."""\n\nfrom textkit.slug import slugify as slugify\n',
    "textkit/slug.py": '''"""Slugs for addresses."""

import re


def slugify(text, separator="-"):
    """The lower-case words of ``text``, joined by ``separator``; all but letters and digits parts words."""
    return re.sub(r"[^a-z0-9]", separator, text.lower())
''',
    "tests/conftest.py": ('import pytest\n\n\n@pytest.fixture\ndef title():\n    return "A Title"\n'),
    "tests/test_slug.py": """from textkit import slugify


def test_simple():
    assert slugify("Hello World") == "hello-world"


def test_separator(title):
    assert slugify(title, "_") == "a_title"
""",
    "tests/test_slug_case.py": """import unittest

from textkit import slugify


class SlugCase(unittest.TestCase):
    def test_simple(self):
        self.assertEqual(slugify("Hello World"), "hello-world")
""",
}
HIDDEN = {
    "pytest": (
        "tests/test_slug.py",
        FILES["tests/test_slug.py"]
        + """

def test_repeated():
    assert slugify("Rock  &  Roll") == "rock-roll"


def test_ends():
    assert slugify("  What now?") == "what-now"
""",
    ),
    "unittest": (
        "tests/test_slug_case.py",
        FILES["tests/test_slug_case.py"]
        + """
    def test_repeated(self):
        self.assertEqual(slugify("Rock  &  Roll"), "rock-roll")

    def test_ends(self):
        self.assertEqual(slugify("  What now?"), "what-now")
""",
    ),
}
NAMES = {
    "pytest": (
        ["tests/test_slug.py::test_repeated", "tests/test_slug.py::test_ends"],
        ["tests/test_slug.py::test_simple", "tests/test_slug.py::test_separator"],
    ),
    "unittest": (
        ["tests/test_slug_case.py::SlugCase::test_repeated", "tests/test_slug_case.py::SlugCase::test_ends"],
        ["tests/test_slug_case.py::SlugCase::test_simple"],
    ),
}
FIX = r"""cat > textkit/slug.py <<'EOF'
import re


def slugify(text, separator="-"):
    return re.sub(r"[^a-z0-9]+", separator, text.lower().strip(" ?")) if text else ""
EOF
"""
"""What an honest agent does."""
REFERENCE = """diff --git a/textkit/slug.py b/textkit/slug.py
--- a/textkit/slug.py
+++ b/textkit/slug.py
@@ -5,4 +5,4 @@

 def slugify(text, separator="-"):
     \"\"\"The lower-case words of ``text``, joined by ``separator``; all but letters and digits parts words.\"\"\"
-    return re.sub(r"[^a-z0-9]", separator, text.lower())
+    return separator.join(re.findall(r"[a-z0-9]+", text.lower()))
"""
_HISTORY = """set -e
git init -q -b main
git config user.name agent && git config user.email agent@localhost
git add -A && git commit -q -m 'Start'
"""
FUTURE = f"""( cd {ROOT} && git checkout -q -b later && {FIX}
git commit -q -am 'Fix slugs' && git tag v2 && git checkout -q main )
"""
"""The repository's future, as images of benchmarks have it."""


def slug_task(style: str = "pytest", *, after: str = "", **tests: object) -> RepoTask:
    """The task; pytest is installed in its sandbox, as in the images of benchmarks.

    Args:
        style: of the hidden tests.
        after: bash source at the end of the set-up.
        tests: further fields of ``Tests``.
    """
    path, text = HIDDEN[style]
    fail_to_pass, pass_to_pass = NAMES[style]
    files = {f"{ROOT}/{name}": content for name, content in FILES.items()}
    decide = {"files": {path: text}, "fail_to_pass": fail_to_pass, "pass_to_pass": pass_to_pass, "timeout": 60.0}
    return RepoTask(
        instruction="slugify leaves doubled separators",
        workdir=ROOT,
        setup=Setup(
            archives=[base64.b64encode(pytest_archive()).decode()],
            files=files,
            script=f"mkdir -p {SITE}; mv {_ARRIVES}/* {SITE}; rmdir {_ARRIVES}; cd {ROOT}\n{_HISTORY}{after}",
        ),
        tests=Tests.model_validate({**decide, **tests}),
        reference=REFERENCE,
    )


def pytest_archive() -> bytes:
    """The running environment's pytest, as a tar archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as archive:
        for name in ("py", "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"):
            found = importlib.util.find_spec(name)
            assert found is not None and found.origin is not None
            folder = Path(found.origin).parent
            if found.submodule_search_locations is None:
                archive.add(found.origin, f"{_ARRIVES}/{name}.py")
                continue
            for path in sorted(folder.rglob("*.py")):
                if "lexers" not in path.parts or path.name in ("__init__.py", "_mapping.py", "diff.py", "python.py"):
                    archive.add(path, f"{_ARRIVES}/{name}/{path.relative_to(folder)}")
        for name in ("pytest", "pluggy"):
            described = importlib.metadata.distribution(name).read_text("METADATA")
            assert described is not None
            member = tarfile.TarInfo(f"{_ARRIVES}/{name}-1.dist-info/METADATA")
            member.size = len(described.encode())
            archive.addfile(member, io.BytesIO(described.encode()))
    return data.getvalue()
