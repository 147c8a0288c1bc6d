// Runs in every document before the page's own scripts: a clock that only moves when told to, seeded random numbers,
// dialogs that answer themselves, and what the environment needs to find elements and to read the page's state.
// Everything used later is taken here, before the page can replace it.
((SEED, START) => {
  if (window.__pivot) return;
  const own = (what, ...names) => Object.fromEntries(names.map((name) => [name, what[name]]));
  const N = {
    Date, Promise, String, Event, DataTransfer, File,
    Array: own(Array, "from"), JSON: own(JSON, "stringify"), Math: own(Math, "max", "min", "floor", "imul"),
    Reflect: own(Reflect, "apply", "construct"),
    Object: own(Object, "getOwnPropertyDescriptor", "defineProperty", "freeze", "assign"),
    setTimeout: window.setTimeout.bind(window),
    frame: window.requestAnimationFrame.bind(window),
    wall: performance.now.bind(performance),
    report: typeof reportError === "function" ? reportError.bind(window) : () => {},
  };
  // A map whose methods stay what they are.
  const pinned = (map) => {
    for (const name of ["get", "set", "has", "delete", "clear", "values"]) {
      if (map[name]) N.Object.defineProperty(map, name, { value: map[name] });
    }
    return map;
  };
  const getter = (owner, name) => {
    const get = N.Object.getOwnPropertyDescriptor(owner, name).get;
    return (object) => N.Reflect.apply(get, object, []);
  };
  const method = (owner, name) => {
    const call = owner[name];
    return (object, ...rest) => N.Reflect.apply(call, object, rest);
  };
  const all = method(Document.prototype, "querySelectorAll");
  const allIn = method(DocumentFragment.prototype, "querySelectorAll");
  const shadowOf = getter(Element.prototype, "shadowRoot");
  const tagOf = getter(Element.prototype, "tagName");
  const parentOf = getter(Node.prototype, "parentNode");
  const connected = getter(Node.prototype, "isConnected");
  const rectOf = method(Element.prototype, "getBoundingClientRect");
  const rectsOf = method(Element.prototype, "getClientRects");
  const styleOf = window.getComputedStyle.bind(window);
  const showIt = method(Element.prototype, "scrollIntoViewIfNeeded");
  const closest = method(Element.prototype, "closest");
  const atPoint = method(Document.prototype, "elementFromPoint");
  const atPointIn = method(ShadowRoot.prototype, "elementFromPoint");
  const send = method(EventTarget.prototype, "dispatchEvent");
  const outer = getter(Element.prototype, "outerHTML");
  const frameOf = getter(HTMLIFrameElement.prototype, "contentDocument");
  const text = getter(Node.prototype, "textContent");

  // The clock -------------------------------------------------------------------------------------------------------
  let now = 0, next = 1;
  const timers = pinned(new Map());
  const channel = new MessageChannel(), waiting = [];
  channel.port1.onmessage = () => { const go = waiting.shift(); if (go) go(); };
  const post = method(MessagePort.prototype, "postMessage");
  const tick = () => new N.Promise((go) => { waiting.push(go); post(channel.port2, 0); });
  const flush = () => new N.Promise((go) => N.setTimeout(go, 0));

  const add = (what, delay, rest, every) => {
    const wait = N.Math.max(every ? 1 : 0, +delay || 0);
    timers.set(next, { id: next, due: now + wait, what, rest, every: every ? wait : 0 });
    return next++;
  };
  const drop = (id) => { timers.delete(+id); };
  const frame = () => (N.Math.floor(now / 16) + 1) * 16 - now;
  const patch = (owner, name, value) =>
    N.Object.defineProperty(owner, name, { value, writable: true, configurable: true, enumerable: true });
  patch(window, "setTimeout", function setTimeout(what, delay, ...rest) { return add(what, delay, rest, false); });
  patch(window, "setInterval", function setInterval(what, delay, ...rest) { return add(what, delay, rest, true); });
  patch(window, "clearTimeout", function clearTimeout(id) { drop(id); });
  patch(window, "clearInterval", function clearInterval(id) { drop(id); });
  patch(window, "requestAnimationFrame", function requestAnimationFrame(what) {
    return add(() => what(now), frame(), [], false);
  });
  patch(window, "cancelAnimationFrame", function cancelAnimationFrame(id) { drop(id); });
  patch(window, "requestIdleCallback", function requestIdleCallback(what) {
    return add(() => what({ didTimeout: false, timeRemaining: () => 50 }), 1, [], false);
  });
  patch(window, "cancelIdleCallback", function cancelIdleCallback(id) { drop(id); });

  const time = () => START + N.Math.floor(now);
  const RealDate = N.Date;
  function FixedDate(...given) {
    if (!new.target) return new RealDate(time()).toString();
    return N.Reflect.construct(RealDate, given.length ? given : [time()], new.target);
  }
  FixedDate.prototype = RealDate.prototype;
  FixedDate.now = () => time();
  FixedDate.parse = RealDate.parse;
  FixedDate.UTC = RealDate.UTC;
  N.Object.defineProperty(FixedDate, "name", { value: "Date" });
  N.Object.defineProperty(FixedDate, "length", { value: 7 });
  N.Object.defineProperty(RealDate.prototype, "constructor", { value: FixedDate, writable: true, configurable: true });
  patch(window, "Date", FixedDate);
  patch(Performance.prototype, "now", function () { return now; });
  N.Object.defineProperty(Performance.prototype, "timeOrigin", { get: () => START, configurable: true });
  N.Object.defineProperty(Event.prototype, "timeStamp", { get: () => now, configurable: true });

  const fire = (timer) => {
    try {
      if (typeof timer.what === "function") N.Reflect.apply(timer.what, window, timer.rest);
      else (0, eval)(N.String(timer.what));
    } catch (error) { N.report(error); }
  };
  // A document that is being left does nothing more: when exactly it ends is not in our hands.
  let leaving = false, passed = null;
  if (window.navigation) {
    navigation.addEventListener("navigate", (event) => {
      if (!event.destination.sameDocument && event.downloadRequest === null) leaving = true;
    });
  }
  // An element that is hidden or disabled while it has the focus loses it with one of the next frames, whenever that is.
  const drawn = () => new N.Promise((go) => { N.frame(() => go()); N.setTimeout(go, 500); });
  // What comes to lie under the mouse without a movement is told so with one of the next frames, whenever that is.
  const leftOf = getter(MouseEvent.prototype, "clientX"), topOf = getter(MouseEvent.prototype, "clientY");
  let mouse = null, over = null, toShow = false;
  const see = (event) => {
    if (!event.isTrusted) return;
    mouse = [leftOf(event), topOf(event)];
    over = event.type === "mouseout" ? event.relatedTarget : event.target;
  };
  for (const type of ["mouseover", "mouseout", "mousemove", "mousedown", "mouseup"]) {
    EventTarget.prototype.addEventListener.call(window, type, see, true);
  }
  const hovered = async () => {
    for (let tries = 3; tries > 0 && mouse && atPoint(document, mouse[0], mouse[1]) !== over; tries--) await drawn();
  };
  const refocus = async () => {
    for (let tries = 4; tries > 0; tries--) {
      const element = document.activeElement;
      if (!element || element === document.body || element === document.documentElement) return;
      if (rectsOf(element).length && !element.disabled && styleOf(element).visibility === "visible") return;
      await drawn();
    }
  };
  // What the browser is still asked for on a page's behalf, and what that is asked for in turn.
  const after = method(N.Promise.prototype, "then");
  let asked = 0;
  window.__pivotAsk = (promise) => {
    const done = () => { asked--; };
    asked++;
    after(promise, done, done);
    return promise;
  };
  const answered = async () => {
    for (const began = N.wall(); asked > 0 && N.wall() - began < 2000;) await new N.Promise((go) => N.setTimeout(go, 2));
  };
  // Lets `ms` pass, once for each `step`. Each callback is a task of its own, so promises settle between two of them as
  // they should. Says "leaving" where another document was asked for, "loading" where this one is not complete yet.
  const advance = async (ms, step, anyway = false, calls = 20000, seconds = 4) => {
    leaving = false;
    await tick();
    await flush();
    await answered();
    if (leaving) return "leaving";
    if (document.readyState !== "complete" && !anyway) return "loading";
    if (passed === step) return "";
    passed = step;
    // Whoever listens to scrolling, or watches what comes into view, is told with the next frame, and then acts.
    for (let frames = toShow ? 2 : 0; frames > 0; frames--) await drawn();
    toShow = false;
    await hovered();
    await refocus();
    const target = now + ms, began = N.wall();
    while (calls-- > 0 && N.wall() - began < seconds * 1000) {
      let first = null;
      for (const timer of timers.values()) if (first === null || timer.due < first.due) first = timer;
      if (first === null || first.due > target) break;
      now = N.Math.max(now, first.due);
      if (first.every) {
        timers.delete(first.id);  // last in order among those due at the same time
        timers.set(first.id, first);
        first.due = now + first.every;
      } else timers.delete(first.id);
      fire(first);
      await tick();
      if (leaving) return "leaving";
    }
    now = N.Math.max(now, target);
    for (const below of frames(document)) {
      try { await below.defaultView.__pivot.advance(ms, step, anyway, calls, seconds); } catch { /* not ours to look into */ }
    }
    await flush();
    await answered();
    await hovered();
    await refocus();
    sayNoMore();
    return leaving ? "leaving" : "";
  };

  // Randomness ------------------------------------------------------------------------------------------------------
  let state = SEED >>> 0;
  const random32 = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = N.Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + N.Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  patch(Math, "random", function random() { return random32() / 4294967296; });
  patch(Crypto.prototype, "getRandomValues", function getRandomValues(array) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let index = 0; index < bytes.length; index++) bytes[index] = random32() & 255;
    return array;
  });
  patch(Crypto.prototype, "randomUUID", function randomUUID() {
    const digits = N.Array.from({ length: 32 }, () => (random32() & 15).toString(16)).join("");
    const parts = [digits.slice(0, 8), digits.slice(8, 12), "4" + digits.slice(13, 16), "8" + digits.slice(17, 20)];
    return [...parts, digits.slice(20)].join("-");
  });

  // Dialogs and pop-ups ---------------------------------------------------------------------------------------------
  // They are told at once: frames and documents that are left by the same action are never asked what was said in them.
  const binding = window.__pivotTell, caught = method(N.Promise.prototype, "catch");
  const kinds = [Array.prototype, Object.prototype, String.prototype];
  delete window.__pivotTell;
  const tell = (...what) => {
    // Old libraries have their own idea of how lists become JSON, and what is told goes that way.
    const own = kinds.map((kind) => N.Object.getOwnPropertyDescriptor(kind, "toJSON"));
    for (const kind of kinds) delete kind.toJSON;
    try { if (binding) caught(binding(what), () => {}); } catch { /* nobody listens any more */ }
    kinds.forEach((kind, index) => { if (own[index]) N.Object.defineProperty(kind, "toJSON", own[index]); });
  };
  let said = 0, opened = 0, ending = false;
  const MAX_SAID = 5, MAX_OPENED = 3;
  // As in every browser, a document that is being left has no dialogs any more.
  for (const [type, end] of [["beforeunload", true], ["pagehide", true], ["unload", true], ["pageshow", false]]) {
    EventTarget.prototype.addEventListener.call(window, type, () => {
      ending = end;
      if (type === "beforeunload") N.setTimeout(() => { ending = false; }, 0);  // it may stay
    }, true);
  }
  const say = (kind, message, reply, refusal) => {
    if (ending) return refusal;
    if (said++ < MAX_SAID) tell("dialog", kind, N.String(message ?? "").slice(0, 500));
    return reply;
  };
  const sayNoMore = () => {
    if (said > MAX_SAID) tell("dialogs", N.String(said - MAX_SAID));
    said = 0;
  };
  patch(window, "alert", function alert(message) { say("alert", message); });
  patch(window, "confirm", function confirm(message) { return say("confirm", message, true, false); });
  patch(window, "prompt", function prompt(message, reply) { return say("prompt", message, N.String(reply ?? ""), null); });
  patch(window, "print", function print() { say("print", ""); });
  const realOpen = window.open;
  patch(window, "open", function open(...given) {
    return navigator.userActivation.isActive && opened++ < MAX_OPENED ? N.Reflect.apply(realOpen, window, given) : null;
  });

  // What came before ------------------------------------------------------------------------------------------------
  // A document can be opened again on its own as long as it does not ask for what a fresh tab lacks (`history`), and
  // keeps nothing where nobody looks (`stores`). Both are told at once: the document may be gone the next moment.
  const told = pinned(new Map());
  const aside = (what) => { if (!told.has(what)) { told.set(what, true); tell(what); } };
  const telling = (owner, what, ...names) => {
    for (const name of owner ? names : []) {
      const found = N.Object.getOwnPropertyDescriptor(owner, name);
      for (const part of ["get", "value"]) {
        const own = found && found[part];
        if (typeof own !== "function") continue;
        found[part] = { [name](...given) { aside(what); return N.Reflect.apply(own, this, given); } }[name];
        N.Object.defineProperty(owner, name, found);
      }
    }
  };
  telling(History.prototype, "history", "length", "back", "forward", "go");
  telling(window.Navigation && Navigation.prototype, "history", "entries", "currentEntry", "canGoBack", "canGoForward",
    "back", "forward", "traverseTo");
  telling(window.UserActivation && UserActivation.prototype, "history", "hasBeenActive");
  telling(window.IDBFactory && IDBFactory.prototype, "stores", "open", "databases", "deleteDatabase");
  telling(window.CacheStorage && CacheStorage.prototype, "stores", "open", "keys", "has", "match", "delete");
  telling(window.StorageManager && StorageManager.prototype, "stores", "getDirectory");
  const MAX_STORED = 1000000;
  const whole = (which) => {
    const found = {};
    let size = 0;
    try {
      const store = window[which];
      for (let index = 0; index < store.length; index++) {
        const key = store.key(index), value = N.String(store.getItem(key));
        size += key.length + value.length;
        if (size > MAX_STORED) return null;
        found[key] = value;
      }
    } catch { /* a document without an origin has none */ }
    return found;
  };
  const born = window.top !== window ? null : {
    url: location.href, referrer: document.referrer, name: window.name, opened: window.opener !== null,
    local: whole("localStorage"), session: whole("sessionStorage"), state: history.state !== null,
  };
  let actions = 0;

  // Elements --------------------------------------------------------------------------------------------------------
  const ids = pinned(new WeakMap()), byId = pinned(new Map()), prefixes = pinned(new WeakMap()), counts = pinned(new Map());
  const MAX_ELEMENTS = 30000;
  const isFrame = (element) => { const tag = tagOf(element); return tag === "IFRAME" || tag === "FRAME"; };
  const inner = (element) => {
    try { return tagOf(element) === "IFRAME" ? frameOf(element) : element.contentDocument; } catch { return null; }
  };
  function frames(root) {
    const found = [];
    for (const element of all(root, "iframe, frame")) { const one = inner(element); if (one) found.push(one); }
    return found;
  }
  const letters = (index) => (index < 26 ? "" : letters(N.Math.floor(index / 26) - 1)) +
    N.String.fromCharCode(97 + (index % 26));
  const visit = (list, root, prefix, out) => {
    for (const element of list) {
      if (out.length >= MAX_ELEMENTS) return;
      let id = ids.get(element);
      if (id === undefined) {
        const count = counts.get(prefix) || 0;
        counts.set(prefix, count + 1);
        id = prefix + count;
        ids.set(element, id);
      }
      byId.set(id, element);
      out.push(id);  // behind a frame's id stands whether it could be entered
      const shadow = shadowOf(element);
      if (shadow) visit(allIn(shadow, "*"), shadow, prefix, out);
      if (isFrame(element)) {
        const below = inner(element);
        out.push(below ? "+" : "-");
        if (!below) continue;
        let own = prefixes.get(below);
        if (own === undefined) {
          const key = prefix + "frames", count = counts.get(key) || 0;
          counts.set(key, count + 1);
          own = prefix + letters(count);
          prefixes.set(below, own);
        }
        visit(all(below, "*"), below, own, out);
      }
    }
  };
  // Numbers the elements in document order; new ones get the next numbers.
  const mark = () => {
    const out = [];
    byId.clear();
    visit(all(document, "*"), document, "", out);
    return out;
  };
  const find = (id) => {
    const element = byId.get(id);
    if (!element || !connected(element)) throw `there is no element with id ${N.JSON.stringify(id)} on the page`;
    return element;
  };
  const offsetOf = (element) => {
    let x = 0, y = 0, view = element.ownerDocument.defaultView;
    while (view && view !== window) {
      const box = rectOf(view.frameElement);
      x += box.left + view.frameElement.clientLeft;
      y += box.top + view.frameElement.clientTop;
      view = view.parent;
    }
    return [x, y];
  };
  const name = (element) => {
    const id = ids.get(element);
    return `<${tagOf(element).toLowerCase()}>` + (id === undefined ? "" : ` [${id}]`);
  };
  const above = (element) => {
    const parent = parentOf(element);
    return parent instanceof ShadowRoot || (parent && parent.host) ? parent.host : parent;
  };
  const within = (part, whole) => {
    for (let one = part; one; one = above(one)) if (one === whole) return true;
    return false;
  };
  const hit = (root, x, y) => {
    let found = atPoint(root, x, y);
    for (let shadow = found && shadowOf(found); shadow; shadow = found && shadowOf(found)) {
      const deeper = atPointIn(shadow, x, y);
      if (!deeper || deeper === found) break;
      found = deeper;
    }
    return found;
  };
  // Where to put the mouse for an element: scrolled into view, not disabled, not covered.
  const point = (id, force) => {
    const element = find(id);
    if (element.disabled && !force) throw `${name(element)} is disabled`;
    showIt(element, true);
    const owner = element.ownerDocument, view = owner.defaultView;
    let best = null;
    const boxes = [...rectsOf(element)];
    for (const box of boxes.length ? boxes : [rectOf(element)]) {
      const left = N.Math.max(box.left, 0), right = N.Math.min(box.right, view.innerWidth);
      const top = N.Math.max(box.top, 0), bottom = N.Math.min(box.bottom, view.innerHeight);
      if (right > left && bottom > top) { best = [(left + right) / 2, (top + bottom) / 2]; break; }
    }
    if (best === null) throw `${name(element)} is not visible`;
    if (!force) {
      const target = closest(element, "button, a, [role=button], [role=link]") || element;
      const found = hit(owner, best[0], best[1]);
      const label = element.labels ? [...element.labels] : [];
      const control = element.control;
      const right = found && (within(found, target) || label.some((one) => within(found, one)) ||
        (control && within(found, control)));
      if (!right) throw `${name(element)} is covered by ${found ? name(found) : "something outside the page"}`;
    }
    const [x, y] = offsetOf(element);
    return [best[0] + x, best[1] + y];
  };
  const TYPED = ["color", "date", "datetime-local", "month", "range", "time", "week"];
  const NOT_TEXT = ["button", "checkbox", "file", "hidden", "image", "radio", "reset", "submit"];
  const changed = (element) => {
    send(element, new N.Event("input", { bubbles: true, composed: true }));
    send(element, new N.Event("change", { bubbles: true }));
  };
  // Makes a field ready to be typed into; true where that was all there is to do.
  const fill = (id, value) => {
    let element = find(id);
    if (tagOf(element) === "LABEL" && element.control) element = element.control;
    const tag = tagOf(element);
    if (tag === "SELECT") throw `${name(element)} is a <select>: use select_option`;
    const field = tag === "INPUT" || tag === "TEXTAREA";
    if (!field && !element.isContentEditable) throw `${name(element)} is no text field`;
    if (element.disabled) throw `${name(element)} is disabled`;
    if (element.readOnly) throw `${name(element)} is read-only`;
    if (!rectsOf(element).length) throw `${name(element)} is not visible`;
    const type = tag === "INPUT" ? element.type : "";
    if (NOT_TEXT.includes(type)) throw `${name(element)} is an input of type ${type}: it takes no text`;
    showIt(element, true);
    if (TYPED.includes(type)) {
      element.focus();
      const owner = element.ownerDocument.defaultView.HTMLInputElement.prototype;
      N.Object.getOwnPropertyDescriptor(owner, "value").set.call(element, value);
      if (element.value !== value) throw `${name(element)} (${type}) does not take the value ${N.JSON.stringify(value)}`;
      changed(element);
      return true;
    }
    if (field) { element.select(); element.focus(); }
    else {
      element.focus();
      const range = element.ownerDocument.createRange(), selection = element.ownerDocument.defaultView.getSelection();
      range.selectNodeContents(element);
      selection.removeAllRanges();
      selection.addRange(range);
    }
    return false;
  };
  const choose = (id, wanted) => {
    let element = find(id);
    if (tagOf(element) === "LABEL" && element.control) element = element.control;
    if (tagOf(element) === "OPTION") element = closest(element, "select") || element;
    if (tagOf(element) !== "SELECT") throw `${name(element)} is no <select>`;
    if (element.disabled) throw `${name(element)} is disabled`;
    const plain = (one) => N.String(one).replace(/\s+/g, " ").trim(), options = [...element.options], picked = [];
    for (const want of wanted) {
      const option = options.find((one) => one.value === want) || options.find((one) => plain(one.label) === plain(want));
      if (!option) throw `${name(element)} has no option ${N.JSON.stringify(want)}`;
      if (option.disabled) throw `option ${N.JSON.stringify(want)} of ${name(element)} is disabled`;
      picked.push(option);
    }
    if (!element.multiple && picked.length > 1) throw `${name(element)} takes one option only`;
    for (const option of options) option.selected = picked.includes(option);
    changed(element);
    return true;
  };
  const upload = (id, files) => {
    const element = find(id);
    if (tagOf(element) !== "INPUT" || element.type !== "file") throw `${name(element)} is no file input`;
    if (element.disabled) throw `${name(element)} is disabled`;
    if (files.length > 1 && !element.multiple) throw `${name(element)} takes one file only`;
    const data = new N.DataTransfer();
    for (const [file, content] of files) data.items.add(new N.File([content], file, { lastModified: START }));
    element.files = data.files;
    changed(element);
    return true;
  };
  const focus = (id) => {
    const element = find(id);
    showIt(element, true);
    element.focus();
    return true;
  };
  // As the wheel does: what lies under the mouse and can be scrolled that way, else what it lies in, else the page.
  const scroll = (x, y) => {
    let element = mouse ? atPoint(document, mouse[0], mouse[1]) : null;
    for (; element && element !== document.body && element !== document.documentElement; element = element.parentElement) {
      const style = styleOf(element), left = element.scrollLeft, top = element.scrollTop;
      if (!/auto|scroll/.test(style.overflowX + style.overflowY)) continue;
      if (/auto|scroll/.test(style.overflowX)) element.scrollBy({ left: x, behavior: "instant" });
      if (/auto|scroll/.test(style.overflowY)) element.scrollBy({ top: y, behavior: "instant" });
      if (element.scrollLeft !== left || element.scrollTop !== top) return (toShow = true);
    }
    window.scrollBy({ left: x, top: y, behavior: "instant" });
    return (toShow = true);
  };
  const acts = { point, fill, choose, upload, focus, scroll };

  // The page's state ------------------------------------------------------------------------------------------------
  const hash = (string) => {
    let one = 0xdeadbeef, two = 0x41c6ce57;
    for (let index = 0; index < string.length; index++) {
      const code = string.charCodeAt(index);
      one = N.Math.imul(one ^ code, 2654435761);
      two = N.Math.imul(two ^ code, 1597334677);
    }
    return ((two >>> 0) * 4294967296 + (one >>> 0)).toString(16);
  };
  const stored = (which) => {
    const found = {};
    try {
      const store = window[which];
      for (let index = 0; index < store.length; index++) {
        const key = store.key(index);
        const value = N.String(store.getItem(key));
        found[key] = value.length > 10000 ? `${value.slice(0, 10000)}… ${hash(value)}` : value;
      }
    } catch { /* a document without an origin has none */ }
    return found;
  };
  const fields = (list) => {
    const found = {};
    for (const id of list) {
      const element = byId.get(id), tag = element ? tagOf(element) : "";
      if (tag === "INPUT") {
        const type = element.type;
        if (type === "checkbox" || type === "radio") found[id] = element.checked;
        else if (type === "file") found[id] = [...element.files].map((file) => file.name);
        else found[id] = element.value;
      } else if (tag === "TEXTAREA") found[id] = element.value;
      else if (tag === "SELECT") found[id] = [...element.selectedOptions].map((option) => option.value);
    }
    return found;
  };
  const scrolled = (list) => {
    const found = {};
    if (window.scrollX || window.scrollY) found.page = [window.scrollX, window.scrollY];
    for (const id of list) {
      const element = byId.get(id);
      if (element && (element.scrollTop || element.scrollLeft) && element !== document.documentElement &&
        element !== document.body) found[id] = [element.scrollLeft, element.scrollTop];
    }
    return found;
  };
  const focused = () => {
    let element = document.activeElement;
    for (;;) {
      const deeper = element && (shadowOf(element)?.activeElement || (isFrame(element) && inner(element)?.activeElement));
      if (!deeper) break;
      element = deeper;
    }
    return element ? ids.get(element) ?? null : null;
  };
  let saves = 0;
  const size = () => {
    const root = document.documentElement;
    return [all(document, "*").length, root ? text(root).length : 0, clip, location.href, document.title, saves];
  };
  const nameOf = getter(window, "name");
  const report = () => {
    const list = mark();
    return {
      ids: list, url: location.href, title: document.title, focus: focused(), fields: fields(list),
      scroll: scrolled(list), local: stored("localStorage"), session: stored("sessionStorage"),
      selection: N.String(window.getSelection() ?? "").slice(0, 2000), now,
      dom: document.documentElement ? hash(outer(document.documentElement)) : "",
      view: [window.innerWidth, window.innerHeight], name: nameOf(window), born: actions ? null : born,
    };
  };

  // The clipboard ---------------------------------------------------------------------------------------------------
  // Chromium has one for all its contexts; here each environment has its own, which the environment hands in and out.
  let clip = "";
  const listen = method(EventTarget.prototype, "addEventListener"), halt = method(Event.prototype, "preventDefault");
  const silence = method(Event.prototype, "stopImmediatePropagation");
  const command = method(Document.prototype, "execCommand");
  const prevented = getter(Event.prototype, "defaultPrevented");
  // Links that save what they lead to: nothing tells when that is under way.
  listen(window, "click", (event) => {
    try { if (closest(event.target, "a[download]")) saves += 1; } catch { /* not at an element */ }
  }, true);
  const chosen = () => {
    const field = document.activeElement;
    if (field && typeof field.selectionStart === "number") {
      return field.value.slice(field.selectionStart, field.selectionEnd);
    }
    return N.String(window.getSelection() ?? "");
  };
  const Paste = ClipboardEvent;
  const take = (event) => {
    const own = prevented(event);
    const given = own ? event.clipboardData.getData("text/plain") : chosen();
    halt(event);
    if (given) clip = given;
    event.clipboardData.clearData();
    if (!own && event.type === "cut" && given) command(document, "delete");
  };
  listen(window, "copy", take);
  listen(window, "cut", take);
  listen(window, "paste", (event) => {
    if (!event.isTrusted) return;
    halt(event);
    silence(event);
    const data = new N.DataTransfer();
    data.setData("text/plain", clip);
    const again = new Paste("paste", { clipboardData: data, bubbles: true, cancelable: true, composed: true });
    if (send(event.target, again) && clip) command(document, "insertText", false, clip);
  }, true);

  const calm = new CSSStyleSheet();
  calm.replaceSync("*, *::before, *::after { transition: none !important; animation: none !important; " +
    "caret-color: transparent !important; scroll-behavior: auto !important; }");
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, calm];

  // One call begins an action and does its part in the page; what that throws is the action's error.
  const act = (held, kind, ...given) => {
    opened = 0; clip = held; actions++;
    mark();
    try { return { done: kind ? acts[kind](...given) : true }; } catch (error) { return { error: N.String(error) }; }
  };
  N.Object.defineProperty(window, "__pivot", {
    value: N.Object.freeze({ advance, act, report, size }),
    enumerable: false, configurable: false, writable: false,
  });
})
