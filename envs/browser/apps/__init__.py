"""Two small web applications with tasks: a shop (``shop``) and a ticket tracker (``tracker``)."""

from importlib.util import find_spec

from pivotgym.envs.errors import MissingExtra

if find_spec("werkzeug") is None:
    raise MissingExtra("werkzeug", "browser")
