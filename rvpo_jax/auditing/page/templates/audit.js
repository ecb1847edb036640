"use strict";
// Opens sections; filters, order and the what-if of the cases. Writes with textContent only; reads numbers, no texts.
(() => {
  const POSITIVE = 1e-5; // diagnostics.POSITIVE: above the residue of a sum that should be 0
  const EPS = 1e-6; // added to every standard deviation
  // A link opens what it leads into. In a notebook the page is a frame without an address of its
  // own, where "#x" would leave it.
  document.querySelectorAll('a[href^="#"]').forEach((link) => {
    link.addEventListener("click", (event) => {
      const target = document.querySelector(link.getAttribute("href"));
      for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
      if (location.protocol !== "about:") return;
      event.preventDefault();
      target.scrollIntoView();
    });
  });
  const sections = [...document.querySelectorAll("details.section")];
  const openAll = document.getElementById("open-all");
  openAll.hidden = false;
  openAll.addEventListener("click", () => {
    const open = openAll.getAttribute("aria-pressed") !== "true";
    sections.forEach((section) => { section.open = open; });
    openAll.setAttribute("aria-pressed", String(open));
    openAll.textContent = open ? "Close all sections" : "Open all sections";
  });
  const data = JSON.parse(document.getElementById("audit-data").textContent);
  if (data === null) return; // no cases
  const grid = data.k.map((k) => (k === "inf" ? Infinity : k));
  const byId = (id) => document.getElementById(id);
  const list = byId("case-list");
  const cards = [...list.children].map((element, index) => ({
    element,
    index,
    ...data.cases[index],
    text: element.textContent.toLowerCase(),
    whatIf: null,
  }));

  // ---- the rules -----------------------------------------------------------------------------
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const signed = (value, digits) =>
    value === null ? "–" : ((value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits));

  // Z of the scored channels: [channel, score]; a constant channel has std exactly 0 and Z = 0.
  const scoresOf = (item) =>
    item.rewards
      .map((raw, m) => [m, raw, item.mean[m], item.std[m]])
      .filter(([, raw]) => raw !== null)
      .map(([m, raw, center, std]) => [m, std === 0 ? 0 : (raw - center) / (std + EPS)]);

  // -(1/k) log mean exp(-k z), relative to the smallest score so that nothing overflows.
  function softMinimum(z, k) {
    const low = Math.min(...z);
    if (k === Infinity) return low;
    if (k === 0) return mean(z);
    const excess = mean(z.map((value) => Math.expm1(-k * (value - low))));
    const log = excess < -0.5 ? Math.log(mean(z.map((v) => Math.exp(-k * (v - low))))) : Math.log1p(excess);
    return low - log / k;
  }

  // Gradient of the soft minimum; equal minima share it at k = infinity.
  function softWeights(z, k) {
    const low = Math.min(...z);
    const parts = z.map((value) => (k === Infinity ? Number(value === low) : Math.exp(-k * (value - low))));
    const total = parts.reduce((sum, part) => sum + part, 0);
    return parts.map((part) => part / total);
  }

  function recompute(item, method, position) {
    const scores = scoresOf(item);
    const weights = item.rewards.map(() => null);
    if (!scores.length) return { aggregate: null, advantage: null, weights };
    const z = scores.map(([, score]) => score);
    if (method === "grpo") {
      const sum = item.rewards.reduce((total, raw) => total + (raw ?? 0), 0);
      const aggregate = item.sum_std === 0 ? 0 : (sum - item.sum_mean) / (item.sum_std + EPS);
      for (const [m] of scores) weights[m] = item.sum_std === 0 ? 0 : item.std[m] / item.sum_std;
      return { aggregate, advantage: aggregate, weights };
    }
    const k = { gdpo: 0, hard_min: Infinity }[method] ?? grid[position];
    const aggregate = softMinimum(z, k);
    softWeights(z, k).forEach((weight, place) => { weights[scores[place][0]] = weight; });
    const batch = data.batches[item.batch][method];
    const [center, std] = method === "rvpo" ? [batch.mean[position], batch.std[position]] : [batch.mean, batch.std];
    const known = Number.isFinite(center) && Number.isFinite(std);
    return { aggregate, advantage: known ? (aggregate - center) / (std + EPS) : null, weights };
  }

  // ---- what if -------------------------------------------------------------------------------
  const rule = byId("rule");
  const slider = byId("k");
  const kText = (k) => (k === Infinity ? "∞" : String(k));

  function fill(cell, value, text) {
    cell.textContent = text;
    if (value === null) delete cell.dataset.value;
    else cell.dataset.value = String(value);
  }

  // As forms.percent: more digits close to 0 % and 100 %; ties go to the even digit, as in Python.
  const forms = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat("en", {
    minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven", useGrouping: false,
  }));

  function percent(share) {
    if (share === null || share === undefined) return "–";
    const rest = Math.min(Math.abs(share), 10 * Math.abs(1 - Math.abs(share)));
    const digits = rest < 1e-6 || rest >= 0.0995 ? 0 : rest >= 0.001 ? 1 : rest >= 0.0001 ? 2 : 3;
    return `${forms[digits].format(100 * share)} %`;
  }

  function updateTable(method, position) {
    document.querySelectorAll("td.swept").forEach((cell) => {
      const values = data.tables[method][cell.dataset.sweep];
      const value = (method === "rvpo" ? values[position] : values)?.[Number(cell.dataset.channel)] ?? null;
      fill(cell, value, cell.dataset.sweep === "gap" ? signed(value, 2) : percent(value));
    });
  }

  function updateWhatIf() {
    const method = rule.value;
    const position = Number(slider.value);
    const k = kText(grid[position]);
    slider.disabled = method !== "rvpo";
    slider.setAttribute("aria-valuetext", `k = ${k}`);
    byId("k-value").textContent = method === "rvpo" ? k : "unused";
    let flips = 0;
    let compared = 0;
    for (const card of cards) {
      const result = recompute(card, method, position);
      card.whatIf = result.advantage;
      const used = card.advantages[data.in_use];
      const comparable = used !== null && result.advantage !== null;
      const flipped = comparable && used > POSITIVE !== result.advantage > POSITIVE;
      compared += Number(comparable);
      flips += Number(flipped);
      card.element.classList.toggle("flips", flipped);
      const mark = card.element.querySelector(".flip-mark");
      mark.hidden = !flipped;
      mark.lastChild.textContent = result.advantage > POSITIVE ? " would be reinforced" : " would not be reinforced";
      fill(card.element.querySelector("td.advantage"), result.advantage, signed(result.advantage, 3));
      card.element.querySelectorAll("td.weight").forEach((cell) => {
        const weight = result.weights[Number(cell.dataset.channel)];
        fill(cell, weight, percent(weight));
      });
      card.element.dataset.aggregate = String(result.aggregate);
    }
    const name = method === "rvpo" ? `soft minimum, k = ${k}.` : `${rule.selectedOptions[0].textContent}.`;
    updateTable(method, position);
    byId("what-if-name").textContent = name;
    byId("flips").textContent =
      `${flips} of the ${compared} completions below change sign against the rule in use: ${name}`;
  }

  // ---- order and filters ---------------------------------------------------------------------
  function sortKey(card, by) {
    if (by === "") return card.index;
    if (by === "step" || by === "row") return card[by];
    return by === "what-if" ? card.whatIf : card.advantages[Number(by)];
  }

  function arrange() {
    const by = byId("sort").value;
    const direction = Number(byId("direction").value);
    const order = [...cards].sort((a, b) => {
      const [x, y] = [sortKey(a, by), sortKey(b, by)];
      if (x === null || y === null) return Number(x === null) - Number(y === null) || a.index - b.index;
      return direction * (x - y) || a.index - b.index;
    });
    list.append(...order.map((card) => card.element));
    const failed = byId("failed").value;
    const wanted = byId("search").value.toLowerCase();
    let shown = 0;
    for (const card of cards) {
      const fits = (failed === "" || card.failed.includes(Number(failed))) && card.text.includes(wanted);
      card.element.hidden = !fits;
      shown += Number(fits);
    }
    byId("shown").textContent = `${shown} of ${cards.length} completions shown.`;
  }

  // ---- texts ---------------------------------------------------------------------------------
  const button = byId("open-texts");
  if (button) {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-pressed") !== "true";
      list.querySelectorAll("details.text, details.card").forEach((text) => { text.open = open; });
      button.setAttribute("aria-pressed", String(open));
      button.textContent = open ? "Close all texts" : "Open all texts";
    });
  }

  // ---- start ---------------------------------------------------------------------------------
  slider.max = String(grid.length - 1);
  slider.value = String(data.start);
  document.querySelectorAll(".what-if").forEach((element) => { element.hidden = false; });
  byId("controls").hidden = false;
  byId("filters").hidden = false;
  for (const control of [rule, slider]) {
    control.addEventListener("input", () => {
      updateWhatIf();
      if (byId("sort").value === "what-if") arrange();
    });
  }
  for (const id of ["failed", "search", "sort", "direction"]) byId(id).addEventListener("input", arrange);
  updateWhatIf();
  arrange();
})();
