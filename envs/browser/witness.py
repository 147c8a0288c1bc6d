"""Whether a page that did not answer in time had the time to: another page of the same browser is asked."""

from __future__ import annotations

import asyncio
import contextlib
import time

from pivotgym.envs.browser.engine import Engine

LATE_SECONDS = 0.5
"""A page that does nothing answers within this, on a machine that has time for it."""
WITNESS_SECONDS = 60.0
"""How long to wait for a machine that gives no time."""
_QUESTIONS = 4
_PAUSE_SECONDS = 0.1


async def starved(engine: Engine, image: str = "") -> bool:
    """Whether an empty page of the browser is slow to answer too; comes back once it answers. In the engine's thread.

    False also where the browser is gone: whoever uses it next finds that out.
    """
    late = False
    with contextlib.suppress(Exception):
        browser = await engine.browser(image)
        began = time.monotonic()
        context = await browser.new_context()
        try:
            page = await context.new_page()
            # A context and a page take several processes' work.
            late = time.monotonic() - began > 4 * LATE_SECONDS
            for _ in range(_QUESTIONS):
                asked = time.monotonic()
                await page.evaluate("1")
                late = late or time.monotonic() - asked > LATE_SECONDS
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(context.close(), 5.0)
    return late
