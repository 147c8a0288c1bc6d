"""python3 -m textadventure STORY.json"""

import json
import sys

from .game import Game


def main(path):
    with open(path, encoding="utf-8") as file:
        game = Game(json.load(file))
    print(game.play("look"))
    for line in sys.stdin:
        print(game.play(line))
        if game.won():
            print("You have done it.")
            break


if __name__ == "__main__":
    main(sys.argv[1])
