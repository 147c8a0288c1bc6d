"""What set-ups are filled with: names, addresses, dates, prose; everything drawn from the given generator."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

PEOPLE = ("alba", "bruno", "chiara", "dario", "elena", "fabio", "greta", "henri", "ines", "jonas", "karla", "leon")
SERVICES = (
    "billing",
    "catalog",
    "gateway",
    "indexer",
    "mailer",
    "payments",
    "scheduler",
    "search",
    "shipping",
    "users",
)
CITIES = ("Aarhus", "Bergen", "Cork", "Dresden", "Evora", "Faro", "Ghent", "Helsinki", "Izola", "Jena")
PRODUCTS = ("adapter", "backpack", "compass", "drill", "easel", "flask", "gloves", "hammock", "inkwell", "jigsaw")
WORDS = [
    "account",
    "amber",
    "anchor",
    "branch",
    "bridge",
    "candle",
    "carbon",
    "cedar",
    "copper",
    "daily",
    "delta",
    "engine",
    "fabric",
    "falcon",
    "figure",
    "garden",
    "harbor",
    "island",
    "journal",
    "kernel",
    "ladder",
    "letter",
    "marble",
    "meadow",
    "motor",
    "needle",
    "oasis",
    "orchid",
    "parcel",
    "pepper",
    "quartz",
    "ribbon",
    "signal",
    "silver",
    "timber",
    "tunnel",
    "valley",
    "velvet",
    "violet",
    "walnut",
    "window",
    "winter",
    "yellow",
    "zenith",
]


def prose(rng: random.Random, lines: int) -> str:
    """Some lines of words."""
    return "".join(" ".join(rng.choices(WORDS, k=rng.randrange(4, 9))).capitalize() + ".\n" for _ in range(lines))


def address(rng: random.Random) -> str:
    """An IPv4 address of a documentation network."""
    return f"{rng.choice(('192.0.2', '198.51.100', '203.0.113'))}.{rng.randrange(1, 255)}"


def moments(rng: random.Random, count: int, start: str, seconds: int) -> list[datetime]:
    """Growing points in time after ``start``, up to ``seconds`` from one to the next."""
    at, found = datetime.fromisoformat(start), []
    for _ in range(count):
        at += timedelta(seconds=rng.randrange(1, seconds))
        found.append(at)
    return found


def ask(rng: random.Random, *parts: str) -> str:
    """An instruction: its parts as paragraphs, sometimes with a greeting."""
    opening = rng.choice(("", "", "Hi! ", "Hello! "))
    return opening + "\n\n".join(parts)
