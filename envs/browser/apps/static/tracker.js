// What the tracker's pages do beside what they do without scripts.
"use strict";

// Components and milestones follow the chosen project.
const form = document.querySelector("form[data-follow]");
if (form) {
  const project = form.elements.project;
  const lists = [form.elements.component, form.elements.milestone];
  const all = lists.map((list) => Array.from(list.options));
  const fit = () => {
    lists.forEach((list, index) => {
      const old = list.value;
      list.replaceChildren(...all[index].filter((option) => !option.value || option.dataset.project === project.value));
      list.value = Array.from(list.options).some((option) => option.value === old) ? old : "";
      list.disabled = !project.value;
    });
  };
  project.addEventListener("change", fit);
  fit();
}

// One box for all tickets of the page, and a count of the chosen ones.
const every = document.getElementById("all");
if (every) {
  const boxes = Array.from(document.querySelectorAll("input[name=ticket]"));
  const show = () => {
    const number = boxes.filter((box) => box.checked).length;
    document.getElementById("chosen").textContent = number + " selected";
    if (number < boxes.length) every.checked = false;
  };
  every.addEventListener("change", () => { for (const box of boxes) box.checked = every.checked; show(); });
  for (const box of boxes) box.addEventListener("change", show);
  show();
}

// Deleting a comment asks first.
for (const button of document.querySelectorAll("button[data-dialog]")) {
  const dialog = document.getElementById(button.dataset.dialog);
  button.addEventListener("click", (event) => { event.preventDefault(); dialog.showModal(); });
  dialog.querySelector("button[value=close]").addEventListener("click", () => dialog.close());
}
