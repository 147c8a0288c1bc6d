"""What ``playwright codegen`` writes, in each of its languages, for the applications and for a page with everything."""

from __future__ import annotations

SHOP_PYTHON = """\
import re
from playwright.sync_api import Playwright, sync_playwright, expect


def run(playwright: Playwright) -> None:
    browser = playwright.chromium.launch(headless=False)
    context = browser.new_context(viewport={"width":1024,"height":768})
    page = context.new_page()
    page.goto("http://localhost:5000/")
    page.get_by_role("searchbox", name="Search products").click()
    page.get_by_role("searchbox", name="Search products").fill("Tundra candle holder")
    page.get_by_role("searchbox", name="Search products").press("Enter")
    page.get_by_role("link", name="Tundra candle holder").click()
    expect(page.get_by_role("heading", name="Tundra candle holder")).to_be_visible()
    page.get_by_label("Colour").select_option("Grey")
    page.get_by_label("Size").select_option(label="One size")
    page.get_by_role("spinbutton", name="Quantity").fill("2")
    page.get_by_role("button", name="Add to cart").click()
    page.get_by_role("navigation").get_by_role("listitem").filter(has_text="Cart").get_by_role("link").click()
    page.get_by_role("link", name="Go to checkout").click()
    page.get_by_role("checkbox", name="I accept the terms of sale").check()
    page.get_by_role("button", name=re.compile(r"^place", re.IGNORECASE)).click()

    # ---------------------
    context.close()
    browser.close()


with sync_playwright() as playwright:
    run(playwright)
"""

SHOP_ASYNC = """\
import asyncio
import re
from playwright.async_api import Playwright, async_playwright, expect


async def run(playwright: Playwright) -> None:
    browser = await playwright.chromium.launch(headless=False)
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto("http://shop.test/")
    await page.get_by_placeholder("").nth(0).click()
    await expect(page).to_have_title(re.compile("Northgate"))
    await page.get_by_role("link", name="Kitchen").first.click()
    await page.wait_for_timeout(250)
    await page.go_back()

    # ---------------------
    await context.close()
    await browser.close()


async def main() -> None:
    async with async_playwright() as playwright:
        await run(playwright)


asyncio.run(main())
"""

TRACKER_JAVASCRIPT = """\
import { test, expect } from '@playwright/test';

test.use({
  viewport: { width: 1024, height: 768 }
});

test('test', async ({ page }) => {
  await page.goto('http://tracker.test/');
  await page.getByRole('searchbox', { name: 'Search tickets' }).click();
  await page.getByRole('searchbox', { name: 'Search tickets' }).fill('E1331');
  await page.getByRole('button', { name: 'Search' }).click();
  await expect(page.getByRole('main')).toMatchAriaSnapshot(`
    - heading "Tickets"
    - link "it's; one }"
  `);
  await page.getByRole('link', { name: 'ATL-169' }).click();
  page.once('dialog', dialog => {
    console.log(`Dialog message: ${dialog.message()}`);
    dialog.dismiss().catch(() => {});
  });
  await page.getByLabel('Duplicate of').fill('ATL-168');
  await page.getByRole('button', { name: /^close as/i }).click();
});
"""

LIBRARY_JAVASCRIPT = """\
const { chromium, devices } = require('playwright');

(async () => {
  const browser = await chromium.launch({
    headless: false
  });
  const context = await browser.newContext({ viewport: { width: 800, height: 600 } });
  const page = await context.newPage();
  await page.goto('http://pages.test/');
  await page.getByTestId('first').dblclick();
  await page.locator('#list > li').nth(1).click({ button: 'right', modifiers: ['Shift'] });
  const page1Promise = page.waitForEvent('popup');
  await page.getByText('Open the other', { exact: true }).click();
  const page1 = await page1Promise;
  await page1.getByRole('button', { name: 'Count' }).click();
  await page1.close();
  await page.getByLabel('Name').pressSequentially("it's \\u00e9 \\"x\\"");

  // ---------------------
  await context.close();
  await browser.close();
})();
"""

EVERYTHING_PYTHON = '''\
import re
from playwright.sync_api import Page, expect


def test_example(page: Page) -> None:
    """Everything there is."""
    page.goto("http://pages.test/")
    page.get_by_test_id("first").dblclick()
    page.locator("#list").get_by_role("listitem").filter(has_text=re.compile("two", re.I)).click()
    page.locator("li").filter(has=page.get_by_text("three")).hover()
    page.locator("li").last.click(modifiers=["Shift"], timeout=500)
    page.get_by_label("Name").press_sequentially("Ada")
    page.get_by_label("Name").press("End")
    page.get_by_placeholder("Say it").fill("Hello")
    page.get_by_title("A box").check()
    page.get_by_title("A box").check()
    page.get_by_label("Other box").uncheck()
    page.get_by_label("Other box").set_checked(False)
    page.get_by_label("Size").select_option(["m", "L"])
    page.get_by_label("Colour").select_option(index=1)
    page.get_by_label("File").set_input_files("notes.txt")
    page.get_by_alt_text("A picture").drag_to(page.locator("#target"))
    page.frame_locator("iframe").get_by_role("button", name="Inside").click()
    page.locator("iframe").content_frame.get_by_label("Deep").fill("water")
    page.locator("x-card").get_by_role("button", name="In the shadow").click()
    page.get_by_role("button", name="Clear").or_(page.get_by_role("button", name="Reset")).click()
    page.keyboard.press("Tab")
    page.mouse.wheel(0, 10)
    with page.expect_popup() as page1_info:
        page.get_by_text("Open the other", exact=True).click()
    page1 = page1_info.value
    expect(page1.get_by_text("Other")).to_be_visible()
    page1.get_by_role("button", name="Count").click()
    page.get_by_label("Name").fill("Grace")
    page1.reload()
    page1.close()
    page.wait_for_load_state("networkidle")
'''

EVERYTHING_PAGE = """<!doctype html><title>Everything</title>
<button data-testid="first" ondblclick="note('first')">First</button>
<ul id="list"><li onclick="note('two')" oncontextmenu="note('menu')">Two</li>
<li onmouseover="note('over three')"><b>three</b></li><li onclick="note(event.shiftKey ? 'shift' : '')">Four</li></ul>
<label>Name <input id="name" oninput="note(this.value)"></label><input placeholder="Say it" oninput="note(this.value)">
<input type="checkbox" title="A box" onchange="note('box ' + this.checked)">
<label><input type="checkbox" checked onchange="note('other ' + this.checked)"> Other box</label>
<label>Size <select multiple onchange="note([...this.selectedOptions].map((one) => one.value).join())">
<option value="s">S<option value="m">M<option value="l">L</select></label>
<label>Colour <select onchange="note(this.value)"><option>red<option>blue</select></label>
<label>File <input type="file" onchange="note(this.files[0].name)"></label>
<img alt="A picture" width="20" height="20" draggable="false"
  src="data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7">
<div id="target" style="width: 50px; height: 20px" onmouseup="note('dropped')">here</div>
<iframe srcdoc="<button onclick=&quot;parent.note('inside')&quot;>Inside</button><label>Deep
<input oninput='parent.note(this.value)'></label>"></iframe>
<x-card></x-card><button onclick="note('reset')">Reset</button>
<a href="/other" target="_blank">Open the other</a>
<p id="notes"></p>
<script>
  window.note = (text) => { document.getElementById("notes").textContent += text + "; "; };
  const root = document.querySelector("x-card").attachShadow({ mode: "open" });
  root.innerHTML = "<button>In the shadow</button>";
  root.querySelector("button").onclick = () => note("shadow");
</script>"""

OTHER_PAGE = """<!doctype html><title>Other</title><p>Other</p><button onclick="document.title += '+'">Count</button>"""
