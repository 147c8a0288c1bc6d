# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""The trusted process: forks the test processes before it knows any secret, then gives each its work in turn.

Runs inside the sandbox (Python 3.8 or later) as its user, root where it can. ``supervisor.py FOLDER ROOT COUNT``: the
folder holds the runner and ``job.json``, which is read and removed after the forks. The report, sealed with the job's
key, is written into the folder when every test process is dead.
"""

import ast
import gc
import hashlib
import hmac
import importlib.util
import json
import os
import random
import resource
import select
import shutil
import signal
import stat
import sys
import time
import traceback

if __package__:  # the host's tests
    from .processes import Waiting, kill_tree, sweep, traces
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from processes import Waiting, kill_tree, sweep, traces

FIRST_USER = 40000
TOOLKIT = "/opt/pivotgym/pytest"
_DEEP = 10000
"""Recursion limit while test files are read and planted: a tree's walkers go deeper than the compiler does."""
_TAIL = 16 << 10
_MESSAGES, _LINES = 16 << 20, 100_000
"""Most bytes and lines of one test process."""
_PRELOAD = (
    "_pytest.assertion.rewrite", "_pytest._argcomplete", "unittest.mock", "inspect", "logging", "traceback", "warnings",
    "linecache", "collections", "dataclasses", "typing", "asyncio", "decimal", "fractions", "random", "tempfile",
    "subprocess", "importlib.metadata", "pdb", "readline", "email.parser", "glob", "difflib", "pprint", "statistics",
)  # fmt: skip
_SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/var/lock", "/dev/mqueue")
_SAFE = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "CONDA_PREFIX", "CONDA_DEFAULT_ENV",
         "VIRTUAL_ENV", "DISPLAY", "JAVA_HOME")  # fmt: skip


def again():
    """The same program in a clean environment: no Python variable, no user's site folder."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST_", "COVERAGE_"))}
    env["PYTHONNOUSERSITE"] = "1"
    os.chdir("/")
    os.execve(sys.executable, [sys.executable, "-B", os.path.abspath(__file__), *sys.argv[1:], "go"], env)


def prepared(root):
    """Imports what the test processes need, none of it from the repository. Returns the import path for them."""
    inside = os.path.realpath(root) + os.sep
    full = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [own] + [entry for entry in full if not (os.path.realpath(entry) + os.sep).startswith(inside)]
    if importlib.util.find_spec("pytest") is None:
        sys.path.append(TOOLKIT)
        full.append(TOOLKIT)
        if importlib.util.find_spec("pytest") is None:
            sys.exit(41)
    import _pytest.config

    plugins = ["_pytest." + name for name in getattr(_pytest.config, "default_plugins", ())]
    for name in ("pytest", *_PRELOAD, *plugins):
        try:
            __import__(name)
        except Exception:  # pytest will say so, where it matters
            pass
    for name in sorted(os.listdir(own)):
        if name.endswith(".py") and name != os.path.basename(__file__):
            __import__(name[:-3])
    return [root] + [entry for entry in full if entry != root]


def reachable(root):
    """Whether another user can read the repository and the interpreter's library."""
    if os.getuid() != 0:
        return False
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(FIRST_USER)
            os.setuid(FIRST_USER)
            places = [root, sys.executable, os.__file__, sys.modules["pytest"].__file__]
            os._exit(0 if all(os.access(place, os.R_OK) for place in places) else 1)
        except OSError:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def undumpable():
    """Nobody may look into this process's memory, nor into that of what it forks. Says whether that worked."""
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True).prctl(4, 0, 0, 0, 0) == 0
    except (ImportError, OSError, AttributeError):
        return False


def adopt():
    """Descendants whose parents die become this process's children: none is lost."""
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


class Worker:
    """A forked test process that waits for its work.

    Args:
        number: which one.
        user: its user id, None to stay.
        root: the repository.
        import_path: what becomes ``sys.path``.
        folder: its home and its folder for temporary files are made there.
    """

    def __init__(self, number, user, root, import_path, folder):
        self.user = user
        self.home = os.path.join(folder, "w%d" % number)
        os.mkdir(self.home, 0o700)
        os.mkdir(os.path.join(self.home, "tmp"), 0o700)
        if user is not None:
            for path in (self.home, os.path.join(self.home, "tmp")):
                os.chown(path, user, user)
        work, self.work = os.pipe()
        self.results, results = os.pipe()
        self.output, output = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                # The ends of other workers' pipes too.
                kept = sorted({work, results, output})
                for low, high in zip([2] + kept, kept + [4096]):
                    os.closerange(low + 1, high)
                self.serve(work, results, output, root, import_path)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(98)
        for other in (work, results, output):
            os.close(other)

    def serve(self, work, results, output, root, import_path):
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, {signal.SIGINT: signal.default_int_handler}.get(number, signal.SIG_DFL
                          if number == signal.SIGTERM else signal.SIG_IGN))  # fmt: skip
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        self.limit()
        if self.user is not None:
            os.setgroups([])
            os.setgid(self.user)
            os.setuid(self.user)
        os.umask(0o022)
        os.environ.update(
            HOME=self.home, TMPDIR=os.path.join(self.home, "tmp"), USER="tester", LOGNAME="tester",
            PYTHONDONTWRITEBYTECODE="1", PYTHONNOUSERSITE="1", PWD=root,
        )  # fmt: skip
        for name in ("OLDPWD", "_", "SUDO_USER", "MAIL", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            os.environ.pop(name, None)
        os.chdir(root)
        # A number that says nothing about who writes there.
        channel = random.SystemRandom().randrange(40, 200)
        os.dup2(results, channel)
        for number in (null, output, results):
            if number not in (0, 1, 2, channel):
                os.close(number)
        data = b""
        while True:
            piece = os.read(work, 1 << 16)
            if not piece:
                break
            data += piece
        os.close(work)
        if not data:
            os._exit(0)
        job = json.loads(data.decode())
        del data, piece
        import child

        child.compiled = deeper(child.compiled)
        sys.modules.pop("processes", None)
        child.run(job, channel, root, import_path)

    def limit(self):
        hard = resource.RLIM_INFINITY
        for kind, share in ((resource.RLIMIT_DATA, 0.75), (resource.RLIMIT_NPROC, 0.5)):
            soft = resource.getrlimit(kind)[0]
            if soft != hard and soft > 0:
                resource.setrlimit(kind, (int(soft * share), int(soft * share)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = 256 << 20
        soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if soft == hard or soft > most:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    def perform(self, job, seconds):
        """Gives it the job and collects what it says until it ends or the time is over. All of it is dead then."""
        begun = time.monotonic()
        data = json.dumps(job).encode()
        lines, pending, tail, ended, total, foreign = [], b"", b"", "exit", 0, ""
        poll = select.poll()
        poll.register(self.work, select.POLLOUT)
        poll.register(self.results, select.POLLIN)
        poll.register(self.output, select.POLLIN)
        os.set_blocking(self.work, False)
        until, status, grace, used = begun + seconds, None, None, None
        while True:
            left = min(until, grace or until) - time.monotonic()
            if left <= 0:
                ended = "timeout" if grace is None and not foreign else ended
                break
            for descriptor, _ in poll.poll(min(left, 0.02 if status is None else 0.005) * 1000):
                if descriptor == self.work:
                    try:
                        data = data[os.write(self.work, data) :]
                    except BlockingIOError:
                        pass
                    except OSError:
                        data = b""
                    if not data:
                        poll.unregister(self.work)
                        os.close(self.work)
                        self.work = -1
                    continue
                piece = os.read(descriptor, 1 << 16)
                if not piece:
                    poll.unregister(descriptor)
                elif descriptor == self.results:
                    total += len(piece)
                    *whole, pending = (pending + piece).split(b"\n")
                    for line in whole:
                        foreign = foreign or wrong_line(line, len(lines), job["key"])
                        if foreign:
                            break
                        lines.append(line)
                    if total > _MESSAGES or len(lines) > _LINES:
                        foreign = foreign or "a report without end"
                    if foreign:
                        # Nothing it says from here on counts.
                        pending, until, grace = b"", 0, None
                        break
                else:
                    tail = (tail + piece)[-_TAIL:]
            if status is None:
                try:
                    done, code, used = os.wait4(self.pid, os.WNOHANG)
                except ChildProcessError:
                    done, code = self.pid, signal.SIGKILL
                if done:
                    status = code
                    # What is in the pipes still counts; processes that it left behind may hold them open for ever.
                    grace = time.monotonic() + 0.05
                    if os.WIFSIGNALED(code):
                        ended = "signal %d" % os.WTERMSIG(code)
                    else:
                        ended = "exit %d" % os.WEXITSTATUS(code)
            elif not poll.poll(0):
                break
        self.end()
        return {
            "lines": [line.decode("utf-8", "replace") for line in lines],
            "rest": len(pending),
            "foreign": foreign,
            "cpu": 0.0 if used is None else used.ru_utime + used.ru_stime,
            "ended": ended,
            "seconds": time.monotonic() - begun,
            "tail": tail.decode("utf-8", "replace"),
            "left": traces() if self.user is not None else [],
        }

    def end(self):
        """Kills all of its processes and removes what it left where others can write."""
        if self.user is not None:
            pid = os.fork()
            if pid == 0:
                try:
                    os.setgid(self.user)
                    os.setuid(self.user)
                    for _ in range(3):
                        os.kill(-1, signal.SIGKILL)
                except OSError:
                    pass
                os._exit(0)
        kill_tree(self.pid)
        for descriptor in (self.work, self.results, self.output):
            if descriptor >= 0:
                os.close(descriptor)
        self.work = self.results = self.output = -1
        shutil.rmtree(self.home, ignore_errors=True)
        if self.user is not None:
            for place in _SHARED:
                sweep(place, self.user)


def wrong_line(line, number, key):
    """What is wrong with a line of the report where it is not the runner's next one; else empty."""
    seal, _, text = line.partition(b" ")
    right = hmac.new(key.encode(), text, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(seal, right.encode()):
        return "a report that is not the runner's"
    return "" if text.startswith(b"[%d, " % number) else "a report out of order"


def deeper(function):
    """The function with a recursion limit for deep syntax trees, where no code under test runs yet."""

    def wrapped(*arguments):
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(max(before, _DEEP))
        try:
            return function(*arguments)
        finally:
            sys.setrecursionlimit(before)

    return wrapped


def unreadable(work):
    """Why files of tests that were asked for cannot be tests here, by path."""
    found = {}
    for path in sorted({name.split("::")[0] for name in work["names"]} & set(work["sources"])):
        try:
            compile(ast.parse(work["sources"][path], path), path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            found[path] = "%s: %s" % (type(error).__name__, error)
    return found


def own_failure(work, root, done):
    """What the runner itself could not do with the tests' files, where a process ended before it said anything."""
    if done["ended"] != "exit 98" or done["lines"]:
        return ""
    import child

    try:
        deeper(child.compiled)(work, root)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)
    return ""


def time_for(number, timeout, genuine):
    """Seconds that a run may take.

    The genuine run and the twin with all assertions wrong have the tests' own time, whichever comes first; what the
    others may take beyond that is measured by the genuine run, since a twin may well end early.

    Args:
        number: of the run, 0 for the genuine one.
        timeout: of the tests.
        genuine: what the genuine run took, None before it.
    """
    return timeout if number < 2 or genuine is None else min(timeout, max(10.0, 4 * genuine))


def tables(work):
    """Where the marks of a run stand, by file and test; computed here, where no test process has a say."""
    import planting

    found = {}
    for path, source in work["sources"].items():
        if os.path.basename(path) == "conftest.py":
            continue
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            found[path] = {}
            continue
        found[path] = planting.Planter(work["key"], path, work["twin"], work["twins"]).module(tree)
    return found


def main():
    """Runs the job in the folder and writes the report."""
    folder, root, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    begun = time.monotonic()
    import_path = prepared(root)
    imported = time.monotonic()
    adopt()
    safe = undumpable()
    drop = reachable(root)
    # Below the runner's own folder, which nobody else can enter: a folder next to it.
    base = "/tmp/t" + os.urandom(6).hex()
    os.mkdir(base, 0o711)
    chooser = random.SystemRandom()
    users = chooser.sample(range(FIRST_USER, FIRST_USER + 20000), count)
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()
    workers = [Worker(number, users[number] if drop else None, root, import_path, base) for number in range(count)]
    Waiting.update(worker.pid for worker in workers)
    forked = time.monotonic()
    path = os.path.join(folder, "job.json")
    with open(path) as stream:
        job = json.load(stream)
    until = forked + job["timeout"]
    order = list(range(count))
    chooser.shuffle(order)
    runs, longest, genuine, late = [], 0.0, None, False
    wrong = deeper(unreadable)(job["work"])
    # Who asks takes a supervisor that ends before here for one that did not start.
    os.unlink(path)
    for place, number in enumerate(() if wrong else order):
        # Number 0 is the genuine run, 1 the first twin; others are left out where the time would not do.
        if number > 1 and (late or longest * (count - place + 1) > until - time.monotonic()):
            continue
        worker = workers[number]
        work = dict(job["work"], key=job["keys"][number], twin=None if number == 0 else number - 1, twins=count - 1)
        Waiting.discard(worker.pid)
        done = worker.perform(work, time_for(number, job["timeout"], genuine))
        done["number"] = number
        done["failure"] = own_failure(work, root, done)
        done["tables"] = {} if done["failure"] else deeper(tables)(work)
        longest = max(longest, done["seconds"])
        genuine = done["seconds"] if number == 0 else genuine
        late = late or done["ended"] == "timeout"
        runs.append(done)
    Waiting.clear()
    for worker in workers:
        if worker.work >= 0:
            worker.end()
    shutil.rmtree(base, ignore_errors=True)
    report = json.dumps({
        "runs": runs,
        "unreadable": wrong,
        "undumpable": safe,
        "user": drop,
        "audit": hasattr(sys, "addaudithook"),
        "python": sys.version.split()[0],
        "parts": {"import": imported - begun, "fork": forked - imported, "tests": time.monotonic() - forked},
    })  # fmt: skip
    seal = hmac.new(job["seal"].encode(), report.encode(), hashlib.sha256).hexdigest()
    target = os.path.join(folder, "report.json")
    with open(target + ".new", "w") as stream:
        stream.write(seal + "\n" + report)
    os.chmod(target + ".new", stat.S_IRUSR | stat.S_IWUSR)
    os.rename(target + ".new", target)


if __name__ == "__main__":
    if sys.argv[-1] != "go":
        again()
    main()
