// Runs in every document after inpage.js, which gives Date the page's clock: cookies, formats of dates, lastModified and
// Temporal go by that clock too. What does not is listed in docs/browser.md, under Limits.
((LASTING) => {
  const { now, UTC } = Date, { apply } = Reflect, { assign, defineProperty, getOwnPropertyDescriptor } = Object;
  const text = String, { replace } = text.prototype;
  const changed = (owner, name, change) => {
    const old = getOwnPropertyDescriptor(owner, name);
    defineProperty(owner, name, { ...old, ...change(old) });
  };

  // A cookie's date, see cookie_date in cookies.py.
  const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
  const { match, slice, toLowerCase } = text.prototype, { indexOf } = MONTHS;
  const dated = (line) => {
    let time = null, day = null, month = -1, year = null;
    for (const token of apply(match, line, [/[^\t\x20-/;-@[-`{-~]+/g]) ?? []) {
      const found = (pattern) => apply(match, token, [pattern]);
      const named = apply(indexOf, MONTHS, [apply(toLowerCase, apply(slice, token, [0, 3]), [])]);
      let one = null;
      if (time === null && (one = found(/^(\d{1,2}):(\d{1,2}):(\d{1,2})(?!\d)/))) time = [+one[1], +one[2], +one[3]];
      else if (day === null && (one = found(/^(\d{1,2})(?!\d)/))) day = +one[1];
      else if (month < 0 && named >= 0) month = named;
      else if (year === null && (one = found(/^(\d{2,4})(?!\d)/))) year = +one[1];
    }
    if (time === null || day === null || month < 0 || year === null) return NaN;
    year += year >= 100 ? 0 : year >= 70 ? 1900 : 2000;
    const [hour, minute, second] = time, days = new Date(UTC(year, month + 1, 0)).getUTCDate();
    if (year < 1601 || day < 1 || day > days || hour > 23 || minute > 59 || second > 59) return NaN;
    return UTC(year, month, day, hour, minute, second);
  };

  // Cookies that scripts set, as cookies.py has it for those that sites set.
  const lasting = (line) => {
    const age = /;\s*max-age\s*=\s*(-?\d+)\s*(?=;|$)/gi, date = /;\s*expires\s*=\s*([^;]*)/gi;
    let left = NaN;
    apply(replace, line, [date, (_, value) => { const at = dated(value); if (at === at) left = at - now(); }]);
    apply(replace, line, [age, (_, value) => { left = +value; }]);
    if (left !== left) return line;
    return `${apply(replace, apply(replace, line, [date, ""]), [age, ""])}; Max-Age=${left > 0 ? LASTING : 0}`;
  };
  changed(Document.prototype, "cookie", ({ set }) => ({
    set(line) { apply(set, this, [lasting(text(line))]); },
  }));
  const ask = window.__pivotAsk ?? ((promise) => promise);
  delete window.__pivotAsk;
  const NEVER = Date.UTC(2100), LONG_AGO = 1;
  if (window.CookieStore) changed(CookieStore.prototype, "set", ({ value }) => ({
    value: function set(...given) {
      const [one] = given, expires = one && typeof one === "object" ? one.expires ?? null : null;
      if (expires !== null) given = [assign({}, one, { expires: expires > now() ? NEVER : LONG_AGO })];
      return ask(apply(value, this, given));
    },
  }));
  if (window.CookieStore) changed(CookieStore.prototype, "delete", ({ value }) => ({
    value: { delete(...given) { return ask(apply(value, this, given)); } }.delete,
  }));
  const timeless = (one) => one && assign({}, one, "expires" in one ? { expires: null } : {});
  if (window.CookieStore) for (const name of ["get", "getAll"]) changed(CookieStore.prototype, name, ({ value }) => ({
    value: { async [name](...given) {
      const found = await ask(apply(value, this, given));
      return name === "get" ? timeless(found) : found.map(timeless);
    } }[name],
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
