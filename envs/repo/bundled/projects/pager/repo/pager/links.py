"""The row of page numbers below a list."""


def page_links(number: int, last: int, around: int = 1) -> list[int | None]:
    """Return the numbers to link to: the first, the last, and ``around`` of them on each side of ``number``.

    None stands for a gap of two pages or more; a gap of one page is filled with its number.
    """
    shown = {1, last} | {n for n in range(number - around, number + around + 1) if 1 <= n <= last}
    links: list[int | None] = []
    before = 0
    for n in sorted(shown):
        if n - before == 2:
            links.append(n - 1)
        elif n - before > 2:
            links.append(None)
        links.append(n)
        before = n
    return links
