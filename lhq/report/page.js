"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const viewer = document.getElementById("viewer");
  let shown = null;

  function show(button) {
    const fact = facts[button.dataset.row];
    shown = button;
    viewer.querySelector(".stage").replaceChildren(button.querySelector(".frame").cloneNode(true));
    viewer.querySelector("h2").textContent = fact.title;
    const papers = viewer.querySelector(".papers");
    papers.textContent = [fact.author, fact.licence, fact.query && `found by “${fact.query}”`, fact.id].filter(Boolean).join(" · ");
    if (fact.page) {
      const link = document.createElement("a");
      link.href = fact.page;
      link.rel = "noreferrer noopener";
      link.textContent = `page at ${fact.source}`;
      papers.append(" · ", link);
    }
    viewer.querySelector("tbody").replaceChildren(...fact.verdicts.map(([name, kept, words]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      const verdict = document.createElement("td");
      verdict.textContent = kept ? "keeps" : "drops";
      verdict.className = kept ? "keep" : "drop";
      const why = document.createElement("td");
      why.textContent = words;
      row.append(head, verdict, why);
      return row;
    }));
    if (!viewer.open) viewer.showModal();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".tile button");
    if (button) show(button);
    else if (event.target === viewer) viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !shown) return;
    const row = [...shown.closest(".mosaic").querySelectorAll(".tile button")];
    show(row[(row.indexOf(shown) + step + row.length) % row.length]);
    event.preventDefault();
  });
  viewer.addEventListener("close", () => shown && shown.focus());

  const theme = document.getElementById("theme");
  const prefers = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (prefers.matches ? "dark" : "light")) === "dark";
  const tell = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.hidden = false;
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  prefers.addEventListener("change", tell);
  tell();
})();
