// The small part of Markdown that model cards use, as elements. HTML in it stays text, links stay text.
import { el } from "./dom.js";

export function markdown(text) {
  const out = [];
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  for (let i = 0; i < lines.length; ) {
    const line = lines[i];
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (!line.trim()) i += 1;
    else if (heading) {
      out.push(el(heading[1].length < 2 ? "h3" : "h4", {}, inline(heading[2])));
      i += 1;
    } else if (line.startsWith("```")) {
      const end = after(lines, i + 1, (next) => next.startsWith("```"));
      out.push(el("pre", { tabindex: "0" }, el("code", {}, lines.slice(i + 1, end).join("\n"))));
      i = end + 1;
    } else if (line.startsWith("|")) {
      const end = after(lines, i, (next) => !next.startsWith("|"));
      out.push(table(lines.slice(i, end)));
      i = end;
    } else if (/^\s*[-*]\s+/.test(line)) {
      const end = after(lines, i, (next) => !/^(\s*[-*]\s+|\s{2,}\S)/.test(next));
      const items = [];
      for (const next of lines.slice(i, end)) {
        if (/^\s*[-*]\s+/.test(next)) items.push(next.replace(/^\s*[-*]\s+/, ""));
        else items[items.length - 1] += ` ${next.trim()}`;
      }
      out.push(el("ul", {}, items.map((item) => el("li", {}, inline(item)))));
      i = end;
    } else {
      const end = after(lines, i + 1, (next) => !next.trim() || /^(#|```|\||\s*[-*]\s)/.test(next));
      out.push(el("p", {}, inline(lines.slice(i, end).join(" "))));
      i = end;
    }
  }
  return out;
}

function after(lines, from, ends) {
  let at = from;
  while (at < lines.length && !ends(lines[at])) at += 1;
  return at;
}

function table(lines) {
  const rows = lines.map((line) => line.replace(/^\||\|\s*$/g, "").split("|").map((cell) => cell.trim()));
  const ruled = rows.length > 1 && rows[1].every((cell) => /^:?-+:?$/.test(cell));
  const body = (ruled ? rows.slice(2) : rows).map((row) => el("tr", {}, row.map((cell) => el("td", {}, inline(cell)))));
  const head = ruled ? el("thead", {}, el("tr", {}, rows[0].map((cell) => el("th", { scope: "col" }, inline(cell))))) : null;
  return el("div", { class: "scroll-x", tabindex: "0" }, el("table", {}, head, el("tbody", {}, body)));
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).filter(Boolean).map((part) => {
    if (/^`.+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return el("strong", {}, part.slice(2, -2));
    return part;
  });
}
