"""What a page looks like, and every action on it, in a real Chromium."""

from __future__ import annotations

import io

import pytest
from web_pages import Agent

FORM = """<title>Form</title>
<h1>Order</h1>
<form action="/echo"><label for=n>Name</label><input id=n name=n value="old">
<label><input type=checkbox name=gift> Gift</label>
<select name=size><option value=s>Small</option><option value=l>Large</option></select>
<textarea name=note></textarea><input type=date name=day aria-label=Day>
<button>Send</button></form>"""


def test_observation_shows_address_title_focus_and_tree(agent: Agent) -> None:
    seen = agent.open(FORM)
    assert "URL: http://pages.test/" in seen and "Title: Form" in seen
    assert "heading 'Order', visible" in seen and "checkbox 'Gift', clickable, visible, checked='false'" in seen
    assert "textbox 'Name' value='old'" in seen
    agent.do("focus", bid=agent.id_of("textbox 'Name'"))
    assert f"Focused: [{agent.id_of('Name')}]" in agent.seen


def test_form_fields(agent: Agent) -> None:
    agent.open(FORM)
    agent.do("fill", bid=agent.id_of("textbox 'Name'"), value="Ada Lovelace")
    agent.click("checkbox 'Gift'")
    agent.do("select_option", bid=agent.id_of("combobox"), options="Large")
    agent.do("fill", bid=agent.id_of("'Day'"), value="2024-05-20")
    seen = agent.do("press", bid=agent.id_of("textbox 'Name'"), key_comb="Enter")
    assert "n=Ada+Lovelace&gift=on&size=l&note=&day=2024-05-20" in seen


def test_label_click_equals_box_click(agent: Agent) -> None:
    agent.open(FORM)
    labels = [line.partition("[")[2].partition("]")[0] for line in agent.seen.splitlines() if "LabelText" in line]
    assert "checked='true'" in agent.do("click", bid=labels[1])
    assert "checked='false'" in agent.click("checkbox 'Gift'")


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("click", {"bid": "999"}, "there is no element with id"),
        ("fill", {"bid": "BUTTON", "value": "x"}, "is no text field"),
        ("select_option", {"bid": "SELECT", "options": "Huge"}, "has no option"),
        ("upload_file", {"bid": "BUTTON", "file": "x.txt"}, "there is no file"),
        ("goto", {"url": "file:///etc/passwd"}, "only http and https"),
        ("goto", {"url": "javascript:alert(1)"}, "only http and https"),
        ("goto", {"url": "chrome://version"}, "only http and https"),
        ("go_back", {}, "there is no page to go back to"),
        ("tab_focus", {"index": 4}, "there is no tab 4"),
        ("press", {"bid": "BUTTON", "key_comb": "NoSuchKey"}, "Unknown key"),
        ("click", {}, "'bid' is a required property"),
        ("fly", {}, "unknown tool"),
    ],
)
def test_errors_are_told_and_the_page_stays(agent: Agent, name: str, arguments: dict[str, str], error: str) -> None:
    agent.open(FORM)
    ids = {"BUTTON": agent.id_of("button 'Send'"), "SELECT": agent.id_of("combobox")}
    before = agent.seen.partition("RootWebArea")[2]
    seen = agent.do(name, **{key: ids.get(str(value), value) for key, value in arguments.items()})
    assert error in seen, seen
    if name != "press":
        assert seen.partition("RootWebArea")[2].replace(", focused", "") == before.replace(", focused", "")


def test_covered_disabled_and_invisible_elements(agent: Agent) -> None:
    agent.open(
        "<button id=a>Under</button><button disabled>Off</button><button style='visibility:hidden'>Gone</button>"
        "<div style='position:fixed;inset:0;background:white' onclick='0'>Cover</div>"
    )
    assert "is covered by <div>" in agent.click("button 'Under'")
    assert "is disabled" in agent.click("button 'Off'")


def test_mouse_and_keyboard(agent: Agent) -> None:
    agent.open(
        """<body style="margin:0"><div id=d style="width:200px;height:100px">area</div><input id=i><p id=log></p>
        <script>
        const log = (text) => { document.getElementById("log").textContent += text + " "; };
        for (const kind of ["mousedown", "mouseup", "click", "dblclick", "contextmenu", "mouseover"])
          document.getElementById("d").addEventListener(kind, (e) => log(kind + e.button + (e.shiftKey ? "S" : "")));
        document.getElementById("i").addEventListener("keydown", (e) => log("key" + e.key));
        </script>"""
    )
    assert "mouseover0 mousedown0 mouseup0 click0" in agent.do("mouse_click", x=20, y=20)
    assert "mousedown2 contextmenu2" in agent.do("mouse_click", x=20, y=20, button="right")
    assert "dblclick0" in agent.do("mouse_dblclick", x=20, y=20)
    agent.do("focus", bid=agent.id_of("textbox"))
    assert "keyH keyi" in agent.do("keyboard_type", text="Hi")
    agent.do("keyboard_press", key="Control+a")
    agent.do("keyboard_insert_text", text="new")
    assert "value='new'" in agent.seen
    agent.do("mouse_move", x=300, y=300)
    agent.do("mouse_down", x=20, y=20)
    assert agent.do("mouse_up", x=30, y=30).count("mouseup0") >= 3


def test_hover_scroll_and_drag(agent: Agent) -> None:
    agent.open(
        """<style>#t{display:none; position:absolute; top:300px} #h:hover + #t{display:block}</style>
        <button id=h>Menu</button><p id=t>Shown on hover</p>
        <div id=from draggable=true style="width:60px;height:30px" role=group aria-label=card>card</div>
        <div id=to style="width:100px;height:60px" role=region aria-label=target>here</div>
        <div style="height:3000px"></div><button id=end onclick="this.textContent='reached'">End</button>
        <script>
        const to = document.getElementById("to");
        document.getElementById("from").ondragstart = (e) => e.dataTransfer.setData("text", "card");
        to.ondragover = (e) => e.preventDefault();
        to.ondrop = (e) => { e.preventDefault(); to.textContent = "dropped " + e.dataTransfer.getData("text"); };
        </script>"""
    )
    assert "Shown on hover" in agent.do("hover", bid=agent.id_of("button 'Menu'"))
    seen = agent.do("drag_and_drop", from_bid=agent.id_of("'card'"), to_bid=agent.id_of("'target'"))
    assert "dropped card" in seen
    assert "button 'End', clickable, visible" not in agent.seen
    assert "button 'End', clickable, visible" in agent.do("scroll", delta_x=0, delta_y=5000)
    assert "reached" in agent.click("button 'End'")


def test_tabs_and_history(agent: Agent) -> None:
    second = "<title>Second</title><a href='/third'>Third</a>"
    agent.open(
        "<title>First</title><a href='/second'>Second</a><a href='/second' target=_blank>Beside</a>",
        more={"/second": second, "/third": "<title>Third</title>"},
    )
    assert "Title: Second" in agent.click("link 'Second'")
    assert "Title: Third" in agent.click("link 'Third'")
    assert "Title: Second" in agent.do("go_back")
    assert "Title: Third" in agent.do("go_forward")
    agent.do("go_back")
    assert "Title: First" in agent.do("go_back")
    seen = agent.click("link 'Beside'")
    assert "Title: Second" in seen and "0: 'First' http://pages.test/\n  1: 'Second'" in seen
    assert "Title: First" in agent.do("tab_focus", index=0)
    assert "2: '' about:blank (active)" in agent.do("new_tab")
    assert "Count 1" in agent.do("goto", url="pages.test/count")
    assert "Tabs" in agent.do("tab_close")
    agent.do("tab_close")
    assert "Tabs" not in agent.seen


def test_ids_stay_with_their_elements(agent: Agent) -> None:
    agent.open(
        "<button id=a>First</button><div id=new></div><button>Last</button><script>let n = 0;"
        "document.getElementById('a').onclick = () => { document.getElementById('new').innerHTML = "
        "`<button>New ${++n}</button>`; };</script>"
    )
    first, last = agent.id_of("button 'First'"), agent.id_of("button 'Last'")
    agent.click("button 'First'")
    new = agent.id_of("button 'New 1'")
    assert (agent.id_of("button 'First'"), agent.id_of("button 'Last'")) == (first, last)
    assert int(new) > int(last)
    agent.click("button 'First'")
    assert int(agent.id_of("button 'New 2'")) > int(new)
    assert f'there is no element with id "{new}"' in agent.do("click", bid=new)


def test_frames_and_shadow_trees(agent: Agent) -> None:
    agent.open(
        """<h1>Outside</h1><iframe src="/inner" title=frame></iframe><div id=host></div><template><b>no</b></template>
        <script>document.getElementById("host").attachShadow({mode: "open"}).innerHTML =
          "<button onclick=\\"this.textContent='pressed'\\">Shadow</button>";</script><button>After</button>""",
        more={"/inner": "<button onclick=\"this.textContent='inside'\">Inner</button>"},
    )
    inner = agent.id_of("button 'Inner'")
    assert inner.startswith("a")
    assert "button 'inside'" in agent.do("click", bid=inner)
    assert "button 'pressed'" in agent.click("button 'Shadow'")
    assert "focused" in agent.click("button 'After'")


def test_dialogs_answer_themselves_and_are_told(agent: Agent) -> None:
    agent.open(
        "<button onclick=\"alert('Hello'); document.title = confirm('Sure?') + prompt('Name?', 'Ada')\">Ask</button>"
    )
    seen = agent.click("button 'Ask'")
    assert "Dialog: alert 'Hello' (accepted)" in seen and "Title: trueAda" in seen
    assert "Dialog" not in agent.do("noop")


def test_dialogs_of_pages_that_are_left_and_of_frames_are_told(agent: Agent) -> None:
    form = """<form action=/second onsubmit="return confirm('Really?')"><button>Send</button></form>
    <a href=/second onclick="alert('one')">Leave</a><iframe srcdoc="<button onclick='alert(7)'>In</button>"></iframe>"""
    second = "<title>Second</title><script>alert('there')</script><p>Here</p>"
    agent.open(form, more={"/second": second})
    seen = agent.click("button 'Send'")
    assert (
        "Title: Second" in seen and "Dialog: confirm 'Really?' (accepted)\nDialog: alert 'there' (accepted)\n" in seen
    )
    assert "Dialog" not in agent.do("go_back")
    assert "Dialog: alert '7' (accepted)" in agent.click("button 'In'")
    assert "Dialog: alert 'one' (accepted)\nDialog: alert 'there'" in agent.click("link 'Leave'")
    click = {"bid": agent.do("go_back").partition("] button 'Send'")[0].rpartition("[")[2]}
    both = [{"id": str(number), "name": name, "arguments": click if name == "click" else {}} for number, name in
            enumerate(["click", "noop"])]  # fmt: skip
    agent.env.step({"role": "assistant", "tool_calls": both})
    assert "Dialog: confirm 'Really?'" in agent.seen  # of the turn's first call, and kept through the second
    recording = agent.recording()
    for turn in range(len(recording.turns)):
        _, info = agent.env.reset(options={"trajectory": recording, "turn": turn, "strict": True})
        assert info["restore"].fidelity == 1.0


def test_dialogs_are_counted_however_many_and_wherever(agent: Agent) -> None:
    inner = "<button onclick='for (let i = 0; i < n.value; i++) alert(i)'>In</button><input id=n value=1>"
    link = "<a target=_blank href=/second onclick='alert(9)'>New</a>"
    agent.open(f'<iframe srcdoc="{inner}"></iframe>{link}', more={"/second": "<p>2</p>"})
    for _ in range(7):  # a frame lives long
        assert "Dialog: alert '0' (accepted)" in agent.click("button 'In'") and "in all" not in agent.seen
    agent.do("fill", bid=agent.id_of("textbox"), value="8")
    seen = agent.click("button 'In'")
    assert "Dialog: alert '4'" in seen and "Dialog: alert '5'" not in seen and "Dialogs: 8 in all" in seen
    assert "Dialog: alert '9'" in agent.click("link 'New'")
    assert "Dialog" not in agent.do("tab_focus", index=0)


def test_a_page_that_is_left_says_nothing_to_the_next(make_env) -> None:  # type: ignore[no-untyped-def]
    agent = Agent(make_env())
    for _ in range(3):
        agent.open("""<script>for (const type of ['beforeunload', 'pagehide', 'unload', 'visibilitychange'])
            addEventListener(type, () => alert(type + confirm('leave?')));</script><p>One</p>""")
        agent.do("noop")
        assert "Dialog" not in agent.open("<p>Two</p>")
        agent.env.fork().close()


def test_what_a_page_sends_by_itself_is_no_dialog_without_bounds(agent: Agent) -> None:
    page = """<button onclick="send(['dialog', 'alert', 'y'.repeat(3000000)], 1); send(['dialog', 'shout', 'x'], 2);
      send({a: 1}, 3); send(['dialogs', '-1'], 4); send(['anything'], 5);">Go</button><script>
    const send = (what, seq) => { const list = (one) => Array.isArray(one) ? {a: one, id: 1} : {o: [], id: 1};
      try { __playwright__binding__(JSON.stringify({name: '__pivotTell', seq: 1000 + seq,
        serializedArgs: [list(what)]})); } catch { document.title = "nothing there"; } };</script>"""
    agent.open(page)
    seen = agent.click("button 'Go'")
    assert len(seen) < 3000 and "shout" not in seen and "in all" not in seen
    agent.env.fork().close()


def test_old_libraries_that_change_json_hear_of_no_dialog(agent: Agent) -> None:
    agent.open("""<script>Array.prototype.toJSON = String.prototype.toJSON = function () { return "x"; };
      addEventListener("unhandledrejection", () => { document.title = "rejected"; });</script>
      <button onclick="alert('Hello'); document.title = JSON.stringify([1])">Ask</button>""")
    assert "Dialog: alert 'Hello' (accepted)" in agent.click("button 'Ask'") and 'Title: "x"' in agent.seen


def test_time_and_chance_are_fixed(agent: Agent) -> None:
    page = """<p id=p></p><script>
    const show = () => { document.getElementById("p").textContent = [Date.now(), new Date().toISOString(),
      Math.random(), crypto.randomUUID ? 1 : 0, new Intl.DateTimeFormat().resolvedOptions().timeZone,
      navigator.language, performance.now()].join(" "); };
    show(); setTimeout(() => { document.title = "later " + performance.now(); }, 700);</script>"""
    first = agent.open(page)
    assert "2024-05-15T10:00:00.000Z" in first and "UTC en-US" in first
    assert "later" not in first
    assert "Title: later 700" in agent.do("noop", wait_ms=1000)
    assert agent.open(page) == first


def test_every_clock_of_a_page_is_its_own(agent: Agent) -> None:
    page = """<p id=p></p><button onclick="show()">Show</button><script>
    const show = () => {
      const format = new Intl.DateTimeFormat("en-GB", {dateStyle: "short", timeStyle: "medium"});
      const parts = new Intl.DateTimeFormat("en-GB").formatToParts().map((part) => part.value).join("");
      const shown = [format.format(), parts, [undefined, 0].map(format.format).join("+"), document.lastModified];
      if (window.Temporal) {
        const given = Temporal.Now;
        shown.push(given.instant().epochMilliseconds - Date.now(), given.zonedDateTimeISO("UTC").year,
          given.plainDateTimeISO().month, given.plainDateISO().year, given.plainTimeISO().second);
      }
      p.textContent = "<" + shown.join("|") + ">";
    };
    show();</script>"""
    seen = agent.open(page, clock=1_560_000_000_000)
    shown = seen.partition("<")[2].partition(">")[0].split("|")
    assert shown[:3] == ["08/06/2019, 13:20:00", "08/06/2019", "08/06/2019, 13:20:00+01/01/1970, 00:00:00"]
    assert shown[3] == "06/08/2019 13:20:00" and shown[4:] in ([], ["0", "2019", "6", "2019", "0"])
    agent.do("noop", wait_ms=2000)
    assert "08/06/2019, 13:20:02|" in agent.click("'Show'")


def test_storage_cookies_and_uploads(agent: Agent) -> None:
    agent.open(
        '<input type=file onchange="this.files[0].text().then((t) => { document.title = this.files[0].name + t; })">'
        "<script>localStorage.a = 1; sessionStorage.b = 2;</script>",
        files={"cv.txt": "content"},
    )
    seen = agent.do("upload_file", bid=agent.id_of("'Choose File"), file="/home/x/cv.txt")
    assert "Title: cv.txtcontent" in seen
    state = agent.env.browser.view.state if agent.env.browser.view is not None else {}
    assert state["storage"] == {"local": {"a": "1"}, "session": {"b": "2"}}
    assert "Cookie: none" in agent.do("goto", url="http://pages.test/cookie")
    assert "Cookie: session=abc" in agent.do("goto", url="http://pages.test/cookie")
    agent.open("<p>next episode</p>")
    assert "Cookie: none" in agent.do("goto", url="http://pages.test/cookie")


def test_clipboards_are_apart(make_env, agent: Agent) -> None:  # type: ignore[no-untyped-def]
    page = "<input aria-label=one value=secret><input aria-label=two>"
    other = Agent(make_env())
    agent.open(page)
    other.open(page)
    agent.do("press", bid=agent.id_of("'one'"), key_comb="Control+a")
    agent.do("press", bid=agent.id_of("'one'"), key_comb="Control+c")
    other.do("press", bid=other.id_of("'two'"), key_comb="Control+v")
    assert "textbox 'two' value" not in other.seen
    agent.do("press", bid=agent.id_of("'two'"), key_comb="Control+v")
    assert "textbox 'two' value='secret'" in agent.seen


def test_screenshot_is_a_picture_of_the_viewport(agent: Agent) -> None:
    agent.open("<body style='margin:0;background:rgb(0,128,0);height:2000px'>", viewport=(320, 200))
    picture = agent.env.screenshot()
    assert picture.startswith(b"\x89PNG") and int.from_bytes(picture[16:20], "big") == 320
    assert int.from_bytes(picture[20:24], "big") == 200
    from matplotlib.image import imread

    assert [round(float(part), 2) for part in imread(io.BytesIO(picture))[100, 100][:3]] == [0.0, 0.5, 0.0]
    assert int.from_bytes(agent.env.screenshot(full_page=True)[20:24], "big") == 2000


def test_text_interface(make_env) -> None:  # type: ignore[no-untyped-def]
    agent = Agent(make_env(interface="text"))
    agent.open("<button onclick=\"document.title = 'won'\">Win</button>")
    assert agent.env.tools == []
    _, reward, _, _, info = agent.env.step("I am not sure.")
    assert reward == 0 and "no call" in info["malformed"]
    first = agent.env.messages[1].text
    bid = next(line for line in first.splitlines() if "button 'Win'" in line).partition("[")[2].partition("]")[0]
    _, reward, terminated, _, info = agent.env.step(f"Winning.\n<action>click('{bid}')</action>")
    assert (reward, terminated, info["termination"]) == (1.0, True, "done")
    assert agent.env.messages[-1].role == "user"


def test_white_space_is_no_line_of_the_tree(agent: Agent) -> None:
    """Chromium lists it or not, by how its line was laid out when it first looked."""
    seen = agent.open(
        "<title>Gaps</title><label for=x>Name</label> <span>one</span> <b>two</b> <input id=x>&nbsp;<i>three</i>"
    )
    texts = [line.strip() for line in seen.splitlines() if "StaticText" in line]
    assert texts == ["StaticText 'Name'", "StaticText 'one'", "StaticText 'two'", "StaticText 'three'"]
