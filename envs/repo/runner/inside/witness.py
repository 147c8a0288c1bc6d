# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""What sees the tests run: their marks, in order, and who called them.

Runs inside the sandbox (Python 3.8 or later). What the tests' code calls (:func:`witness`) is among its constants, so
that no name leads to it. What pytest calls (:func:`desk`) is a suspended generator, which takes nothing from anybody
but the runner's plug-in.
"""

import os
import sys


class Eyes:
    """Who is on the stack.

    Args:
        changed: real paths of the agent's files.
        hidden: of the tests'.
    """

    def __init__(self, changed, hidden):
        real, starts, lookup, known = os.path.realpath, str.startswith, dict.get, {}
        isfile, own, hidden = os.path.isfile, os.path.dirname(os.path.abspath(__file__)) + os.sep, frozenset(hidden)
        frame = sys._getframe(0)
        while frame.f_back is not None:
            frame = frame.f_back
        bottom = frame.f_code
        del frame

        def theirs(name):
            found = lookup(known, name)
            if found is None:
                if starts(name, "<"):
                    found = not starts(name, "<frozen ")
                else:
                    # A name of no file was given to `compile` by somebody. Nobody may look into the runner's folder.
                    path = real(name)
                    found = path in changed or not (path in hidden or starts(path, own) or isfile(path))
                known[name] = found
            return found

        def foreign(frame):
            """Whether code of the agent's, or of no file, is on the stack from this frame on."""
            while frame is not None:
                if theirs(frame.f_code.co_filename):
                    return True
                frame = frame.f_back
            return False

        def below(frame):
            """Whether the stack begins where the runner began, and not in a thread."""
            while frame.f_back is not None:
                frame = frame.f_back
            return frame.f_code is bottom

        self.theirs, self.foreign, self.below = theirs, foreign, below


def witness(tables, eyes, violation, make_judge):
    """The functions that the tests' own code calls, and those that the desk calls.

    A forked copy of the process says nothing of its own. If code of the agent's made it, or is on its stack, then a
    test that runs there is a way to find out which run this is: that ends all.

    Args:
        tables: rows of the marks by path and test.
        eyes: of this run.
        violation: called with what happened; does not come back.
        make_judge: called with what is to be called where an equality is odd; :func:`equality.judging` does the rest.

    Returns:
        ``mark(token)``, ``pair(token, first, second)``, ``compare(first, second)``, ``holds(first, second)``,
        ``announce(nodeid)``, ``call()``, ``collected(nodeids)``, ``taken(last)``.
    """
    starts = {row["start"]: (path, name, row) for path, table in tables.items() for name, row in table.items()}
    getframe, getpid, pid = sys._getframe, os.getpid, os.getpid()
    foreign = eyes.foreign
    opens = {before: after for *_, row in starts.values() for before, after in row["pairs"]}
    closes = {after: before for before, after in opens.items()}
    order, seen, names, last, pending = [], set(), [None], [None], {}
    state = {"item": None, "own": None, "started": None, "calling": False, "copied": False}

    def copied():
        state["copied"] = state["copied"] or foreign(getframe(1))

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=copied)

    def mark(token):
        if token in opens:
            pending[token] = True
            return
        if getpid() != pid:
            if state["copied"] or foreign(getframe(1)):
                violation("a test in a copy of its process")
            elif token in starts:
                begun(token, getframe(1).f_back)
            return
        if token in starts:
            begun(token, getframe(1).f_back)
            order.append(token)
            for before in starts[token][2]["before"]:
                # It may run again and do better.
                pending.pop(before, None)
        elif token not in seen:
            order.append(token)
        seen.add(token)
        if token in closes:
            pending.pop(closes[token], None)
        held, last[0] = last[0], None
        if held is not None and held[0] == token:
            if held[3]:
                odd()
            judge(True, held[1], held[2])

    def odd():
        row = starts[state["started"] or state["own"] or next(iter(starts))][2]
        if getpid() == pid and row["odd"][0] not in seen:
            order.append(row["odd"][0])
            seen.add(row["odd"][0])

    judge, probed, compare, holds = make_judge(odd)

    def begun(token, caller):
        name, row = starts[token][1:]
        if state["calling"] and state["started"] is None and state["own"] in (None, token):
            if state["own"] is None and foreign(caller):
                violation("a call of the test %s" % name)
            state["started"] = token
            return
        bare = name.rsplit(".", 1)[-1]
        if names[0] is not None and bare not in names[0]:
            return
        if (row["called"] or (row["repeats"] and token == state["started"])) and not foreign(caller):
            return
        violation("a call of the test %s, which nothing announced" % name)

    def pair(token, first, second):
        first, second, strange = probed(first, second)
        if token:
            last[0] = token, first, second, strange
        elif strange and (first == second) is True:
            # In a helper of the tests, which has no marks.
            odd()
        return first, second

    def announce(nodeid):
        path, *parts = nodeid.split("::")
        if parts:
            parts[-1] = parts[-1].split("[")[0]
        row = tables.get(path, {}).get(".".join(parts))
        del order[:]
        seen.clear()
        pending.clear()
        last[0] = None
        state.update(item=nodeid, own=row and row["start"], started=None, calling=False)

    def call():
        state["calling"] = True

    def collected(nodeids):
        names[0] = {nodeid.split("[")[0].rsplit("::", 1)[-1] for nodeid in nodeids}

    def taken(last=False):
        found = order + list(pending) if last else order[:]
        del order[:]
        return found

    return mark, pair, compare, holds, announce, call, collected, taken


def desk(send, eyes, violation, announce, call, collected, taken, check, forget):
    """Takes down what pytest's hooks say: ``send((kind, thing))`` of the generator that it returns."""
    getframe = sys._getframe

    def loop():
        forget_last = sys.__dict__.pop
        kind, thing = yield
        while True:
            caller = getframe(0).f_back
            clean = caller.f_code.co_filename == child and eyes.below(caller) and not eyes.foreign(caller)
            del caller
            if kind == "phase":
                # Of a subtest, within a test that a decorator of the agent's calls: only its failure counts.
                if clean or thing.failed:
                    send({
                        "kind": "phase",
                        "name": thing.nodeid,
                        "when": thing.when,
                        "outcome": thing.outcome,
                        "xfail": getattr(thing, "wasxfail", None) is not None,
                        "detail": "" if thing.passed else short(thing),
                        "marks": taken(),
                    })  # fmt: skip
                for name in ("last_type", "last_value", "last_traceback", "last_exc"):
                    forget_last(name, None)
            elif not clean:
                violation("a call of the runner's own functions")
            elif kind == "start":
                announce(thing)
                send({"kind": "start", "name": thing})
            elif kind == "call":
                call()
            elif kind == "finish":
                send({"kind": "finished", "name": thing, "marks": taken(True)})
                for line in check():
                    send({"kind": "violation", "detail": line})
            elif kind == "collected":
                kept, every = thing
                collected(every)
                send({"kind": "collected", "names": [item.nodeid for item in kept]})
                forget(kept)
            elif kind == "broken":
                send({"kind": "broken", "name": thing.nodeid, "detail": short(thing)})
            elif kind == "session":
                send({"kind": "session", "status": int(thing)})
            thing = None
            kind, thing = yield

    child = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")
    made = loop()
    next(made)
    return made.send


def short(report):
    """The failure's own lines."""
    text = report.longreprtext if hasattr(report, "longreprtext") else str(report.longrepr)
    lines = [line for line in text.splitlines() if line.startswith("E ")] or text.splitlines()[-3:]
    return "\n".join(lines)[:500]


def closed(function):
    """The same function of three arguments, whose own variables cannot be seen from outside."""

    def loop():
        answer = None
        while True:
            arguments = yield answer
            try:
                answer = function(*arguments)
            except Exception:
                answer = None
            arguments = None

    made = loop()
    next(made)
    give = made.send
    return lambda first, second, third: give((first, second, third))
