import { equal, match } from "node:assert/strict";
import { Marked, marked } from "marked";
import { program } from "./program";

const headings: string[] = [];
const own = new Marked({
  renderer: {
    heading({ tokens, depth }) {
      const text = this.parser.parseInline(tokens);
      headings.push(text);
      return `<h${depth} id="${text.toLowerCase()}">${text}</h${depth}>\n`;
    },
  },
});

const page = `# Weather

Wind *and* **rain**, see [here](https://example.com "title").

1. one
2. two
   - inside

| a | b |
|---|:-:|
| 1 | \`2\` |

> quoted

\`\`\`js
const a = 1 < 2;
\`\`\`
`;

export default program(async () => {
  const html = await marked.parse(page);
  match(html, /^<h1>Weather<\/h1>\n<p>Wind <em>and<\/em> <strong>rain<\/strong>, see <a href="https:\/\/example.com" title="title">here<\/a>\.<\/p>/);
  match(html, /<ol>\n<li>one<\/li>\n<li>two<ul>\n<li>inside<\/li>/);
  match(html, /<th align="center">b<\/th>/);
  match(html, /<td align="center"><code>2<\/code><\/td>/);
  match(html, /<pre><code class="language-js">const a = 1 &lt; 2;\n<\/code><\/pre>/);
  equal(await own.parse("## Rain"), '<h2 id="rain">Rain</h2>\n');
  // An instance for each request: what another left is not here.
  equal(headings.join(), "Rain");
});
