"""Multiple choice on facts of the search corpus, and plain text of it.

The world of the corpus is invented, so no model can know its facts: each question comes with the document that states
the answer, and the wrong options are other values of the same relation that the document does not mention. A question
is answered by the option the model finds most likely, as lm-eval does it.
"""

from __future__ import annotations

import random
import re

from pivotgym.harness.forgetting.items import Item, Metric, user

OPTIONS = 4


class Facts:
    """Questions with four options each."""

    name = "facts"
    metrics = (
        Metric("facts", "Multiple choice on corpus facts", over="right"),
        Metric("facts_by_byte", "Multiple choice on corpus facts (by byte)", over="right_by_byte"),
    )

    def items(self, count: int, seed: int) -> list[Item]:
        """Questions on different facts; those on one document form a group.

        ``data`` has the options, and the place of the right one among them.
        """
        from pivotgym.envs.search.bundled.asking import LAST
        from pivotgym.envs.search.bundled.world import build
        from pivotgym.envs.search.bundled.writing import write

        rng = random.Random(f"facts {seed}")
        world = build(0)
        library = write(world, 0)
        asked = {(kind, relation): text for kind, last in LAST.items() for relation, text in last}
        facts = [fact for fact in world.all_facts() if (world.entities[fact.subject].kind, fact.relation) in asked]
        found: list[Item] = []
        for fact in rng.sample(facts, len(facts)):
            if len(found) == count:
                break
            kind = world.entities[fact.subject].kind
            document = library.written[rng.choice(library.holders(fact))].document
            answer = world.said(fact.value)
            others = {world.said(other.value) for other in facts if other.relation == fact.relation}
            wrong = sorted(other for other in others - {answer} if not _mentions(document.text, other))
            if not _mentions(document.text, answer) or len(wrong) < OPTIONS - 1:
                continue
            options = [answer, *rng.sample(wrong, OPTIONS - 1)]
            rng.shuffle(options)
            question = asked[kind, fact.relation].format(x=world.said(fact.subject))
            text = f"{document.title}\n\n{document.text}\n\nQuestion: {question}\nAnswer:"
            data = {"options": options, "right": options.index(answer)}
            found.append(Item(f"{self.name}-{len(found):03d}", document.id, kind, user(text), data=data))
        return found


def _mentions(text: str, value: str) -> bool:
    bare = re.sub(r"^the ", "", value)
    return re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", text, re.IGNORECASE) is not None


class PlainText:
    """Perplexity of the corpus's documents: lower is better."""

    name = "text"
    metrics = (
        Metric("nats_per_byte", "Plain text, nats a byte", "ratio", "nats", "bytes", higher_is_better=False),
        Metric("nats_per_token", "Plain text, nats a token", "ratio", "nats", "tokens", higher_is_better=False),
    )

    def items(self, count: int, seed: int) -> list[Item]:
        """Different documents, whole; ``data`` has nothing: the text is all there is."""
        from pivotgym.envs.search.bundled import corpus

        documents = list(corpus().documents.values())
        chosen = random.Random(f"text {seed}").sample(documents, min(count, len(documents)))
        return [
            Item(f"{self.name}-{one.id}", one.id, "document", user(f"{one.title}\n\n{one.text}\n")) for one in chosen
        ]
