// Runs in every document after inpage.js, which gives Date the page's clock: whatever else tells a page the time, or
// does something when its time has come, goes by that clock too.
((LASTING) => {
  const { now, parse } = Date, { apply } = Reflect, { assign, defineProperty, getOwnPropertyDescriptor } = Object;
  const text = String, { replace } = text.prototype;
  const changed = (owner, name, change) => {
    const old = getOwnPropertyDescriptor(owner, name);
    defineProperty(owner, name, { ...old, ...change(old) });
  };

  // Cookies that scripts set, as cookies.py has it for those that sites set.
  const lasting = (line) => {
    const age = /;\s*max-age\s*=\s*(-?\d+)\s*(?=;|$)/gi, date = /;\s*expires\s*=\s*([^;]*)/gi;
    let left = NaN;
    apply(replace, line, [date, (_, value) => { const at = parse(value); if (at === at) left = at - now(); }]);
    apply(replace, line, [age, (_, value) => { left = +value; }]);
    if (left !== left) return line;
    return `${apply(replace, apply(replace, line, [date, ""]), [age, ""])}; Max-Age=${left > 0 ? LASTING : 0}`;
  };
  changed(Document.prototype, "cookie", ({ set }) => ({
    set(line) { apply(set, this, [lasting(text(line))]); },
  }));
  const NEVER = Date.UTC(2100), LONG_AGO = 1;
  if (window.CookieStore) changed(CookieStore.prototype, "set", ({ value }) => ({
    value: function set(...given) {
      const [one] = given;
      const dated = one && typeof one === "object" && typeof one.expires === "number";
      if (dated) given = [assign({}, one, { expires: one.expires > now() ? NEVER : LONG_AGO })];
      return apply(value, this, given);
    },
  }));

  // Formats of no date in particular are of this moment.
  const formats = Intl.DateTimeFormat.prototype;
  changed(formats, "format", ({ get }) => ({
    get() {
      const format = apply(get, this, []);
      return (date) => format(date === undefined ? now() : date);
    },
  }));
  changed(formats, "formatToParts", ({ value }) => ({
    value: function formatToParts(date) { return apply(value, this, [date === undefined ? now() : date]); },
  }));

  // A document of which nobody says when it was changed, was changed this second: such a one tells the machine's time.
  const pad = (number) => apply(text.prototype.padStart, text(number), [2, "0"]);
  const moment = () => {
    const at = new Date(now());
    const day = [at.getMonth() + 1, at.getDate(), at.getFullYear()].map(pad).join("/");
    return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(pad).join(":")}`;
  };
  const empty = document.implementation.createHTMLDocument("");
  changed(Document.prototype, "lastModified", ({ get }) => ({
    get() {
      const [before, found, after] = [apply(get, empty, []), apply(get, this, []), apply(get, empty, [])];
      return found === before || found === after ? moment() : found;
    },
  }));

  if (!window.Temporal) return;
  const { Instant, Now } = Temporal, zone = Now.timeZoneId;
  const instant = () => Instant.fromEpochMilliseconds(now());
  const zoned = (where = zone()) => instant().toZonedDateTimeISO(where);
  const instead = {
    instant,
    zonedDateTimeISO: (where) => zoned(where),
    plainDateTimeISO: (where) => zoned(where).toPlainDateTime(),
    plainDateISO: (where) => zoned(where).toPlainDate(),
    plainTimeISO: (where) => zoned(where).toPlainTime(),
  };
  for (const name in instead) changed(Now, name, () => ({ value: instead[name] }));
})
