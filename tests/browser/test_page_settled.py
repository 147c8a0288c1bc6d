"""What is shown does not depend on when it is looked at, and leaves out no text."""

from __future__ import annotations

import re

import pytest
from web_pages import Agent

PAGE = """<title>Page</title><button {}>Go</button>"""


@pytest.mark.parametrize(
    "action",
    [
        pytest.param("onclick='this.hidden = true'", marks=pytest.mark.slow),
        pytest.param("onclick='this.style.visibility = \"hidden\"'", marks=pytest.mark.slow),
        pytest.param("onclick='this.disabled = true'", marks=pytest.mark.slow),
        # The last thing that happens before the page is looked at: without care every third time it is too late.
        "onclick='setTimeout(() => { document.body.style.display = \"none\"; }, 499)'",
    ],
)
def test_what_is_hidden_has_lost_the_focus(agent: Agent, action: str) -> None:
    seen = set()
    for _ in range(8):
        agent.open(PAGE.format(action))
        first = agent.click("button 'Go'")
        assert "[4]" not in first.partition("\n\n")[0], "the focus is still on the button"
        seen.add(first)
    assert len(seen) == 1


def test_a_focused_field_keeps_the_focus(agent: Agent) -> None:
    agent.open("<title>Page</title><input aria-label='Name'><button disabled>Go</button>")
    agent.do("fill", bid=agent.id_of("textbox"), value="x")
    assert f"Focused: [{agent.id_of('textbox')}]" in agent.do("noop", wait_ms=1000)


def test_texts_that_a_name_happens_to_hold_are_shown(agent: Agent) -> None:
    seen = agent.open(
        "<title>Delete the draft</title><p>Delete</p><div role=dialog aria-label='Delete the draft'><span>draft</span>"
        "<button><b>Delete</b> it</button></div>"
    )
    shown = [line.strip() for line in seen.splitlines()]
    assert "StaticText 'Delete'" in shown and "StaticText 'draft'" in shown
    assert any("button 'Delete it'" in line for line in shown)
    assert shown.count("StaticText 'Delete'") == 1  # the button says it already


def test_the_tree_as_browsergym_writes_it(agent: Agent) -> None:
    """A text is left out where the node right above it says it, shown or not; numbers are written as numbers."""
    page = "<title>Page</title><a href=/x><span onclick=0>Go</span></a><a href=/y>Stay</a><input type=number value=3>"
    shown = [line.strip() for line in agent.open(page, tree="browsergym").splitlines()]
    assert "StaticText 'Go'" in shown and "StaticText 'Stay'" not in shown
    assert any("spinbutton '' value=3," in line for line in shown)
    shown = [line.strip() for line in agent.open(page).splitlines()]
    assert any("spinbutton '' value='3'," in line for line in shown)


def test_drawings_are_told_however_early_the_page_was_looked_at(agent: Agent) -> None:
    # Chromium keeps what it took an empty drawing for: a page seen before it was drawn would differ ever after.
    page = "<svg width=50 height=50>{}</svg><button onclick='draw()'>Draw</button><script>{}</script>"
    parts = "<circle cx=9 cy=9 r=5></circle>"
    late = agent.open(page.format("", f"draw = () => {{ document.querySelector('svg').innerHTML = '{parts}' }}"))
    late = agent.click("button 'Draw'")
    early = agent.open(page.format(parts, "draw = () => {}"))
    early = agent.click("button 'Draw'")
    assert without_ids(late) == without_ids(early) and "image" not in early
    named = agent.open(page.format(parts, "").replace("<svg", "<svg aria-label=Chart"))
    assert "image 'Chart', visible" in named
    control = agent.open(
        "<svg role=button tabindex=0><path d='M0 0L9 9'></path></svg><svg tabindex=0></svg><button>x</button>"
    )
    assert "button ''" in control
    focused = agent.do("press", bid=agent.id_of("button 'x'"), key_comb="Shift+Tab")
    assert without_ids(focused).replace(", focused", "") == without_ids(control).replace(", focused", "")
    assert "image '', clickable" in agent.open(page.format(parts, "").replace("<svg", "<svg onclick='0'"))


def without_ids(seen: str) -> str:
    return re.sub(r"\[\w+\] ", "", seen.partition("RootWebArea")[2])
