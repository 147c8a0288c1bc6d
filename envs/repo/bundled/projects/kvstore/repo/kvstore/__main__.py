"""The command line."""

import argparse
import json
import sys

from kvstore.store import KVStore


def main(argv: list[str] | None = None) -> int:
    """0, or 1 for a key that is not there."""
    parser = argparse.ArgumentParser(prog="kvstore")
    parser.add_argument("file")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, arguments in {"set": ("key", "value"), "get": ("key",), "del": ("key",), "list": (), "compact": ()}.items():
        command = commands.add_parser(name)
        for argument in arguments:
            command.add_argument(argument)
    args = parser.parse_args(argv)
    with KVStore(args.file) as store:
        if args.command == "set":
            store[args.key] = json.loads(args.value)
        elif args.command == "list":
            for key, value in store.items():
                print(f"{key} = {json.dumps(value)}")
        elif args.command == "compact":
            store.compact()
        elif args.key not in store:
            print(f"kvstore: no key {args.key}", file=sys.stderr)
            return 1
        elif args.command == "get":
            print(json.dumps(store[args.key]))
        else:
            del store[args.key]
    return 0


if __name__ == "__main__":
    sys.exit(main())
