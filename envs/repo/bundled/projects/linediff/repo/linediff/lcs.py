"""The shortest list of edits, by way of a longest common subsequence."""

from typing import NamedTuple

KEEP, DROP, ADD = " ", "-", "+"


class Edit(NamedTuple):
    """What happens to one line.

    mark: KEEP, DROP or ADD.
    old: index (from 0) of the line in the old text, or where it would be inserted.
    new: the same in the new text.
    line: the line itself.
    """

    mark: str
    old: int
    new: int
    line: str


def common_prefix(old, new):
    """How many lines at the top are equal."""
    count = 0
    for one, two in zip(old, new):
        if one != two:
            break
        count += 1
    return count


def common_suffix(old, new, prefix):
    """How many lines at the bottom are equal, those of the common prefix aside."""
    most = min(len(old), len(new)) - prefix
    count = 0
    while count < most and old[-1 - count] == new[-1 - count]:
        count += 1
    return count


def lengths(old, new):
    """table[i][j]: length of a longest common subsequence of old[i:] and new[j:]."""
    table = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i in range(len(old) - 1, -1, -1):
        for j in range(len(new) - 1, -1, -1):
            if old[i] == new[j]:
                table[i][j] = table[i + 1][j + 1] + 1
            else:
                table[i][j] = max(table[i + 1][j], table[i][j + 1])
    return table


def edits(old, new):
    """Edits that lead from one text to the other, in order; where both are possible, lines go before others come."""
    top = common_prefix(old, new)
    bottom = common_suffix(old, new, top)
    result = [Edit(KEEP, i, i, old[i]) for i in range(top)]
    middle_old, middle_new = old[top : len(old) - bottom], new[top : len(new) - bottom]
    table = lengths(middle_old, middle_new)
    i = j = 0
    while i < len(middle_old) or j < len(middle_new):
        if i < len(middle_old) and j < len(middle_new) and middle_old[i] == middle_new[j]:
            result.append(Edit(KEEP, top + i, top + j, middle_old[i]))
            i, j = i + 1, j + 1
        elif i < len(middle_old) and (j == len(middle_new) or table[i + 1][j] >= table[i][j + 1]):
            result.append(Edit(DROP, top + i, top + j, middle_old[i]))
            i += 1
        else:
            result.append(Edit(ADD, top + i, top + j, middle_new[j]))
            j += 1
    for k in range(bottom):
        result.append(Edit(KEEP, top + i + k, top + j + k, old[top + i + k]))
    return result
