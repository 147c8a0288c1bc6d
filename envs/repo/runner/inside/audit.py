# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""An audit hook (PEP 578) that ends the process when code of changed files reaches for what it may not see.

Runs inside the sandbox (Python 3.8 or later). The rule: walk outward from the event over the frames of the standard
library and of tools that hand their findings on; the first other frame is who did it. What the standard library does
for itself with frames (named tuples, log records, tracebacks as text) is nobody's doing.
"""

import _thread
import importlib.machinery
import io
import os
import sys
import sysconfig
import types

FRAMES = "frames"
CODE = "code"
COLLECTOR = "gc"
FOREIGN = "ctypes"
TRACE = "trace"
PROCESS = "/proc"

WORDS = {
    FRAMES: ("_getframe", "currentframe", "tb_frame", "gi_frame", "cr_frame", "f_back", "inspect.stack", "walk_stack"),
    CODE: ("__code__", "f_code", "marshal", "CodeType", "types.FunctionType"),
    COLLECTOR: ("gc.get_", "get_objects", "get_referrers", "get_referents"),
    # What `multiprocessing` shares by name is of ctypes, whose import alone gives a way to all memory.
    FOREIGN: ("ctypes", "multiprocessing.Value", "multiprocessing.Array"),
    TRACE: ("settrace", "setprofile", "sys.monitoring", "addaudithook"),
    PROCESS: ("/proc/",),
}
"""What a file's original text holds that did such things before the agent came; it may go on doing them."""

_EVENTS = {
    "sys._getframe": FRAMES,
    "sys._current_frames": FRAMES,
    "sys._current_exceptions": FRAMES,
    "object.__getattr__": None,
    "object.__setattr__": None,
    "object.__delattr__": None,
    "code.__new__": CODE,
    "marshal.loads": CODE,
    "marshal.load": CODE,
    "gc.get_objects": COLLECTOR,
    "gc.get_referrers": COLLECTOR,
    "gc.get_referents": COLLECTOR,
    "sys.settrace": TRACE,
    "sys.setprofile": TRACE,
    "sys.monitoring.register_callback": TRACE,
    "sys.addaudithook": TRACE,
    "ctypes.dlopen": FOREIGN,
    "ctypes.dlsym": FOREIGN,
    "ctypes.dlsym/handle": FOREIGN,
    "ctypes.call_function": FOREIGN,
    "ctypes.addressof": FOREIGN,
    "ctypes.string_at": FOREIGN,
    "ctypes.wstring_at": FOREIGN,
    "ctypes.cdata": FOREIGN,
    "ctypes.cdata/buffer": FOREIGN,
    "ctypes.PyObj_FromPtr": FOREIGN,
    "compile": None,
    "open": None,
    "os.listdir": None,
    "os.scandir": None,
    "import": None,
}
_ATTRIBUTES = {
    "tb_frame": FRAMES, "gi_frame": FRAMES, "cr_frame": FRAMES, "ag_frame": FRAMES, "f_code": CODE, "gi_code": CODE,
    "cr_code": CODE, "ag_code": CODE, "__code__": CODE,
}  # fmt: skip
_FORBIDDEN_MODULES = frozenset(("_testcapi", "_testinternalcapi", "_xxsubinterpreters", "_interpreters"))

# Functions of the standard library that look at frames or code and keep what they see to themselves.
# An attribute counts only where its name stands in the function itself: who passes a name (`functools.update_wrapper`,
# `operator.attrgetter`, `copy`, `mock`) is not quiet.
_QUIET = {
    "typing": ("_caller", "overload", "NamedTuple", "NewType", "TypeVar", "__new__", "__init__", "_get_defaults"),
    "enum": ("_create_", "_convert_"),
    "types": ("coroutine", "wrapped"),
    "doctest": ("_normalize_module", "_find_lineno"),
    "asyncio": ("__init__", "_get_function_source", "extract_stack", "_format_coroutine", "_task_print_stack"),
    "unittest": ("_is_async_func", "__init__", "_is_relevant_tb_level"),
    "importlib": ("_compile_bytecode", "get_code", "_unmarshal_code", "_get_module_code"),
    "subprocess": ("_text_encoding",),
    "collections": ("namedtuple",),
    "logging": ("currentframe", "<lambda>", "findCaller", "_is_internal_frame", "formatException", "handleError"),
    "warnings": None,
    "traceback": (
        "extract", "_walk_tb_with_full_positions", "_extract_from_extended_frame_gen", "extended_frame_gen", "walk_tb",
        "__init__", "_get_code_position", "clear_frames", "print_tb", "extract_tb", "extract_stack", "print_stack",
        "format_stack",
    ),
    "inspect": (
        "_signature_from_function", "_has_code_flag", "_signature_from_callable", "signature", "getfullargspec",
        "isgeneratorfunction", "iscoroutinefunction", "unwrap", "_signature_fromstr", "getmodule",
        "_signature_is_functionlike", "_has_coroutine_mark", "isasyncgenfunction", "getcoroutinestate",
        "getgeneratorstate", "_is_wrapper",
    ),
}  # fmt: skip
_LED_OUT = frozenset((
    ("logging", "currentframe"), ("logging", "<lambda>"), ("traceback", "walk_tb"),
    ("traceback", "_walk_tb_with_full_positions"), ("traceback", "extended_frame_gen"), ("inspect", "getmodule"),
))  # fmt: skip
"""Of the quiet functions, those that return frames: only their own library may call them."""
_LOUD = ("_pytest", "pytest", "pluggy", "py", "dill", "cloudpickle", "objgraph", "pympler", "IPython")
"""Tools outside the standard library that hand frames or code to whoever calls them."""


class Rules:
    """Whose code is whose.

    Args:
        root: the repository.
        changed: real paths of the agent's files.
        hidden: real paths of the test files that are in memory only.
        own: folder of the runner.
        allowed: groups of :data:`WORDS` by real path of a changed file.
    """

    def __init__(self, root, changed, hidden, own, allowed):
        self.root = os.path.realpath(root) + os.sep
        self.changed, self.hidden, self.own = changed, hidden, own + os.sep
        self.allowed = {os.path.realpath(os.path.join(root, path)): tuple(groups) for path, groups in allowed.items()}
        paths = sysconfig.get_paths()
        self.stdlib = tuple({os.path.realpath(paths[name]) + os.sep for name in ("stdlib", "platstdlib")})
        places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")} | set(sys.path)
        reals = {os.path.realpath(place) + os.sep for place in places if place and os.path.isabs(place)}
        self.trusted = tuple(sorted(place for place in reals if not self.root.startswith(place)))
        # Site folders are often inside the standard library's.
        self.sites = tuple(place for place in self.trusted if place not in self.stdlib and "-packages" in place)


def install(rules, violation, reporting=()):
    """Installs the hook. It cannot be taken off, and nothing but it holds what it uses.

    Args:
        rules: of this run.
        violation: called with what happened; does not come back.
        reporting: not empty while pytest makes a report: then its own functions look at many frames.
    """
    if not hasattr(sys, "addaudithook"):
        return
    getframe, real, lookup, starts = sys._getframe, os.path.realpath, dict.get, str.startswith
    text_type, isfile, function_type = str, os.path.isfile, types.FunctionType
    is_type, same_type, bytes_type, opened = isinstance, type, bytes, io.open
    events, attributes, forbidden = dict(_EVENTS), dict(_ATTRIBUTES), _FORBIDDEN_MODULES
    root, changed, hidden, own = rules.root, rules.changed, rules.hidden, rules.own
    stdlib, sites, trusted, allowed = rules.stdlib, rules.sites, rules.trusted, dict(rules.allowed)
    quiet, loud = dict(_QUIET), frozenset(_LOUD)
    kinds, led = {}, _LED_OUT
    watched, plain_dict, look = _watched(), dict, type(vars(int)).get
    always = watched.pop("always")
    frozen_loader = importlib.machinery.SourceFileLoader
    busy = []
    ident, active = _thread.get_ident, set()
    enter, leave = active.add, active.discard

    def kind_of(filename):
        """``std NAME``, ``loud``, ``test``, ``ours`` (trusted) or ``theirs``."""
        known = lookup(kinds, filename)
        if known is None:
            known = kinds[filename] = classify(filename)
        return known

    def classify(filename):
        if starts(filename, "<"):
            return "std importlib" if starts(filename, "<frozen ") else "theirs"
        path = real(filename)
        if path in hidden:
            return "test"
        if starts(path, own):
            return "ours"
        if not isfile(path):
            # A name that somebody gave to `compile`.
            return "theirs"
        if starts(path, root):
            return "theirs" if path in changed else "ours"
        for place in sites:
            if starts(path, place):
                return "loud" if path[len(place) :].split("/")[0].split(".")[0] in loud else "ours"
        for place in stdlib:
            if starts(path, place):
                return "std " + path[len(place) :].split("/")[0].split(".")[0]
        for place in trusted:
            if starts(path, place):
                return "loud" if path[len(place) :].split("/")[0].split(".")[0] in loud else "ours"
        return "theirs"

    def culprit(frame, group, name=None):
        """The file of the code that did it where that is the agent's, else None."""
        first = True
        while frame is not None:
            code = frame.f_code
            kind = kind_of(code.co_filename)
            if kind == "theirs":
                path = real(code.co_filename)
                if group is not None and group in lookup(allowed, path, ()):
                    return None
                return code.co_filename
            if starts(kind, "std "):
                if first and group in (FRAMES, CODE):
                    module = kind[4:]
                    names = lookup(quiet, module, False)
                    calm = names is None or (names and code.co_name in names)
                    if calm and fixed(code, name) and untouched(module) and not led_out(module, code, frame):
                        return None
            elif kind != "loud":
                return None
            first = False
            frame = frame.f_back
        return None

    def present(frame):
        """Whether code of the agent's is on the stack."""
        while frame is not None:
            if kind_of(frame.f_code.co_filename) == "theirs":
                return True
            frame = frame.f_back
        return False

    def fixed(code, name):
        """Whether the attribute that a function reads is written in it, and not given by its caller."""
        return name is None or name in code.co_names or name in code.co_consts

    def led_out(module, code, frame):
        """Whether a quiet function gives a frame to whoever called it: only its own library may call it."""
        if (module, code.co_name) in led:
            outer = frame.f_back
            return outer is not None and kind_of(outer.f_code.co_filename)[:4] != "std "
        return False

    def untouched(module):
        """Whether the functions of a library that passes frames to its own functions are still its own."""
        for space, name, value in (*always, *lookup(watched, module, ())):
            now = lookup(space, name) if same_type(space) is plain_dict else look(space, name)
            if now is not value:
                return False
        return True

    def hook(event, args):
        group = lookup(events, event, busy)
        if group is busy:
            return
        # What the hook itself reads (a frame's code) is an event too.
        thread = ident()
        if thread in active:
            return
        enter(thread)
        try:
            frame = getframe(1)
            if reporting and kind_of(frame.f_code.co_filename) in ("loud", "ours") and not present(frame):
                return
            what = event
            if group is None:
                what, group = interesting(event, args, frame)
            name = args[1] if event == "object.__getattr__" else None
            who = None if what is None else culprit(frame, group, name)
            if who is not None:
                violation("%s by %s, line %d" % (what, who, frame.f_lineno))
        finally:
            leave(thread)

    def interesting(event, args, frame):
        """What an event comes to, and its group; None where it is nothing."""
        if event == "object.__getattr__":
            group = lookup(attributes, args[1])
            # A library looks at its own functions, and at what it is given; tests' functions are not its business.
            if group == CODE and is_type(args[0], function_type) and not ours(args[0]):
                return None, None
            return (args[1] if group else None), group
        if event == "object.__setattr__" or event == "object.__delattr__":
            return ("setting " + args[1], CODE) if args[1] == "__code__" else (None, None)
        if event == "compile":
            name = args[1]
            if not is_type(name, text_type) or starts(name, "<"):
                return None, None
            kind = kind_of(name)
            if kind == "theirs" or imported(frame) or (real(name) not in hidden and not isfile(name)):
                return None, None
            if kind == "ours" and starts(real(name), root) and written(args[0], name):
                return None, None
            return "compile under the name " + name, CODE
        if event == "import":
            if args[0] in forbidden:
                return "import of " + args[0], FOREIGN
            name = args[1]
            if is_type(name, text_type) and kind_of(name) == "theirs" and isfile(name) and not starts(name, "<"):
                return ("native code " + name, None) if name.endswith(".so") else (None, None)
            return None, None
        path = args[0] if args else None
        if is_type(path, text_type) and (starts(path, "/proc/") or path == "/proc"):
            tail = path.rstrip("/").split("/")
            if tail[-1] in ("mem", "maps", "smaps", "environ", "cmdline", "fd", "map_files", "pagemap", "stack"):
                return "%s of %s" % (event, path), PROCESS
        return None, None

    def written(source, name):
        """Whether a source is what the file of that name holds, so that its name says who wrote it."""
        try:
            if same_type(source) is text_type:
                with opened(name, encoding="utf-8") as stream:
                    return stream.read() == source
            with opened(name, "rb") as stream:
                return same_type(source) is bytes_type and stream.read() == source
        except (OSError, ValueError):
            return False

    def ours(function):
        """Whether a function belongs to the tests or the runner."""
        name = lookup(function.__globals__, "__file__")
        if not is_type(name, text_type):
            return False
        path = real(name)
        return path in hidden or starts(path, own) or kind_of(path) == "loud"

    def imported(frame):
        """Whether the import system itself compiles or opens a file, for a loader that nobody made up."""
        if not starts(frame.f_code.co_filename, "<frozen importlib"):
            return not (
                kind_of(frame.f_code.co_filename) == "theirs" or starts(kind_of(frame.f_code.co_filename), "std")
            )
        while frame is not None and starts(frame.f_code.co_filename, "<frozen importlib"):
            if frame.f_code.co_name == "get_code":
                return same_type(lookup(frame.f_locals, "self")) is frozen_loader
            frame = frame.f_back
        return False

    sys.addaudithook(hook)


_PASSED_ON = {
    "collections": ("collections",),
    "inspect": ("inspect", "linecache"),
    "logging": ("logging", "traceback", "linecache", "io"),
    "traceback": ("traceback", "linecache", "itertools", "collections"),
    "warnings": ("warnings", "linecache", "traceback"),
    "typing": ("typing",),
    "enum": ("enum",),
    "types": ("types", "functools"),
    "doctest": ("doctest", "inspect"),
    "importlib": ("importlib", "importlib._bootstrap", "importlib._bootstrap_external"),
    "asyncio": (
        "asyncio.format_helpers", "asyncio.coroutines", "asyncio.futures", "asyncio.base_futures", "asyncio.base_tasks",
        "asyncio.events", "traceback", "inspect",
    ),
    "unittest": ("unittest.result", "inspect"),
}  # fmt: skip
"""Libraries with quiet functions, and the modules whose functions and classes these hand frames to."""
_MAY_CHANGE = frozenset((
    "showwarning", "formatwarning", "_showwarning_orig", "_showwarnmsg", "_loggerClass", "_logRecordFactory",
    "_formatwarnmsg",
))  # fmt: skip
"""Of those, what is there to be replaced; it sees no frames."""
_BUILTINS = (
    "getattr", "hasattr", "setattr", "vars", "dir", "iter", "next", "list", "tuple", "dict", "set", "map", "filter",
    "zip", "enumerate", "reversed", "sorted", "len", "isinstance", "type", "str", "repr", "id", "callable",
)  # fmt: skip


def _watched():
    """What the libraries that hand frames on consist of, as it is now: ``(namespace, name, value)`` by library.

    ``always`` is what every library uses: the ways to a frame, and the functions that are handed one.
    """
    import builtins
    import importlib

    kinds = (types.FunctionType, types.ModuleType, types.BuiltinFunctionType, type)
    methods = (types.FunctionType, classmethod, staticmethod, property)
    own = {name: [] for names in _PASSED_ON.values() for name in names}
    for name, found in own.items():
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        space = vars(module)
        for key, value in list(space.items()):
            if not isinstance(value, kinds) or key in _MAY_CHANGE:
                continue
            found.append((space, key, value))
            # Loggers and their handlers are there to be changed; what they do with frames, module functions do.
            if isinstance(value, type) and value.__module__ == name and name != "logging":
                found.extend(
                    (vars(value), each, part) for each, part in vars(value).items() if isinstance(part, methods)
                )
    watched = {name: [entry for part in parts for entry in own[part]] for name, parts in _PASSED_ON.items()}
    always = [(vars(sys), name, value) for name, value in vars(sys).items() if name.startswith("_getframe")]
    watched["always"] = always + [(vars(builtins), name, getattr(builtins, name)) for name in _BUILTINS]
    return watched
