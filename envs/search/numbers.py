"""English number words: ``two hundred and forty-one``, ``twenty-third``."""

from __future__ import annotations

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_SMALL = {word: value for value, word in enumerate(_ONES.split())}
_TENS = {
    word: 10 * value
    for value, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)
}  # fmt: skip
_POWERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_ORDINALS = {
    "first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine",
    "twelfth": "twelve",
}  # fmt: skip


def number_of(text: str, *, ordinals: bool = False) -> int | None:
    """The value of an English numeral in words, or None for anything else.

    Args:
        text: lower case; hyphens, ``and`` and ``a hundred`` are understood.
        ordinals: whether ``third`` is 3 too.
    """
    words = [word for word in text.replace("-", " ").split() if word != "and"]
    if ordinals and words:
        words[-1] = _cardinal(words[-1])
    if words[:1] == ["a"] and words[1:2] and words[1] in _POWERS:
        words[0] = "one"
    if not words or text.strip().startswith("and ") or text.strip().endswith(" and"):
        return None
    total, group, last = 0, 0, ""
    for word in words:
        if word in _SMALL:
            if last in _SMALL or (last in _TENS and not 0 < _SMALL[word] < 10):
                return None
            group += _SMALL[word]
        elif word in _TENS:
            if last in _SMALL or last in _TENS:
                return None
            group += _TENS[word]
        elif word == "hundred":
            if not 0 < group < 100:
                return None
            group *= 100
        elif word in _POWERS:
            if group == 0:
                return None
            total, group = total + group * _POWERS[word], 0
        else:
            return None
        last = word
    return total + group


def _cardinal(word: str) -> str:
    if word in _ORDINALS:
        return _ORDINALS[word]
    if word.endswith("ieth"):
        return word[:-4] + "y"
    return word[:-2] if word.endswith("th") and len(word) > 4 else word
