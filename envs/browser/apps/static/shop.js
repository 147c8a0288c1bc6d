// What the shop's pages do beside what they do without scripts.
"use strict";

// Sizes and price follow the chosen colour.
const form = document.querySelector("form[data-options]");
if (form) {
  const options = JSON.parse(form.dataset.options);
  const colour = form.elements.colour, size = form.elements.size, price = document.getElementById("chosen-price");
  const all = Array.from(size.options).filter((option) => option.value).map((option) => option.value);
  const show = () => {
    const found = options[colour.value + "/" + size.value];
    price.textContent = found ? found[0] + (found[1] ? "" : " (sold out)") : "Choose colour and size";
  };
  const fit = () => {
    const old = size.value;
    size.replaceChildren(new Option("Choose a size", ""));
    for (const name of all) {
      const found = options[colour.value + "/" + name];
      if (colour.value && found && found[1] > 0) size.add(new Option(name, name));
    }
    size.value = Array.from(size.options).some((option) => option.value === old) ? old : "";
    show();
  };
  colour.addEventListener("change", fit);
  size.addEventListener("change", show);
  fit();

  // The count in the header follows at once; a refused form is sent the plain way, which shows what is wrong.
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { "X-Requested-With": "fetch" },
      redirect: "manual",
    }).then((answer) => {
      const type = answer.headers.get("Content-Type") || "";
      if (!answer.ok || !type.startsWith("application/json")) return form.submit();
      return answer.json().then((data) => {
        document.getElementById("cart-count").textContent = data.count;
        document.getElementById("live").textContent = data.notice;
      });
    });
  });
}

// Cancelling asks first.
const ask = document.querySelector("a[data-dialog]");
if (ask) {
  const dialog = document.getElementById(ask.dataset.dialog);
  ask.addEventListener("click", (event) => { event.preventDefault(); dialog.showModal(); });
  dialog.querySelector("button[value=close]").addEventListener("click", () => dialog.close());
}

// Fields of a new address are only there where they are needed.
const fresh = document.getElementById("new-address");
if (fresh) {
  const follow = () => { fresh.hidden = !document.getElementById("address-new").checked; };
  for (const box of document.querySelectorAll("input[name=address]")) box.addEventListener("change", follow);
  follow();
}
