// A page with a table of 200 rows, made anew for every request.

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

const orders = Array.from({ length: 200 }, (_, index) => ({
  number: 1000 + index,
  customer: `Customer <${index}> & Sons`,
  total: (index * 7919) % 100000 / 100,
  paid: index % 3 !== 0,
}));

export default {
  fetch() {
    return new Response(page("Orders", orders), {
      headers: { "content-type": "text/html; charset=utf-8" },
    });
  },
};

function page(title, rows) {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${escaped(title)}</title></head>
<body>
<h1>${escaped(title)}</h1>
<table>
<tr><th>Number</th><th>Customer</th><th>Total</th><th>State</th></tr>
${rows.map(row).join("\n")}
</table>
</body>
</html>
`;
}

function row({ number, customer, total, paid }) {
  const state = paid ? "paid" : "open";
  return `<tr class="${state}"><td>${number}</td><td>${escaped(customer)}</td><td>${total.toFixed(2)}</td><td>${state}</td></tr>`;
}

function escaped(text) {
  return text.replace(/[&<>"]/g, (character) => ESCAPES[character]);
}
