"""What holds if nobody says otherwise."""

DEFAULTS = {
    "server": {"host": "localhost", "port": 8000, "headers": {"Server": "app"}},
    "plugins": ["core"],
    "log": {"level": "info", "targets": ["stderr"]},
}
