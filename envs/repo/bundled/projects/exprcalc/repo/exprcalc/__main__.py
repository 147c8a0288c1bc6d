"""Command line of exprcalc."""

import argparse
import sys

from . import evaluate, parse, render


def main(argv=None):
    """Print the value of an expression; return the exit status."""
    options = argparse.ArgumentParser(prog="exprcalc", description="Calculate an expression.")
    options.add_argument("expression")
    options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="set a variable")
    options.add_argument("--show", action="store_true", help="print the expression, not its value")
    args = options.parse_args(argv)
    variables = {}
    for item in args.set:
        name, _, number = item.partition("=")
        variables[name] = float(number)
    try:
        tree = parse(args.expression)
        print(render(tree) if args.show else f"{evaluate(tree, variables):g}")
    except (ValueError, NameError, ZeroDivisionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
