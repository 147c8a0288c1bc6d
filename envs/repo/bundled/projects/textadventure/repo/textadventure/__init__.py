"""An engine for text adventures."""

from .game import Game
from .words import Command, UnknownCommand, understand
from .world import Room, World, build_world

__all__ = ["Command", "Game", "Room", "UnknownCommand", "World", "build_world", "understand"]
