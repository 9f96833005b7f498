-- html_to_markdown
SELECT html_to_markdown('<h1>Title</h1><p>A <b>bold</b> and <em>slanted</em> word, and <code>code</code>.</p>');
SELECT html_to_markdown('<ul><li>one</li><li>two<ul><li>inner</li></ul></li></ul><ol><li>first</li><li>second</li></ol>');
SELECT html_to_markdown('<pre class="programlisting">SELECT 1;
  SELECT &lt;2&gt;;</pre>');
SELECT html_to_markdown('<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>x | y</td></tr></table>');
SELECT html_to_markdown('<p>see <a href="indexes.html">indexes</a> &amp; <a href="#top">top</a> &copy; &#8364; &nbsp;end</p>');
SELECT html_to_markdown('<html><head><title>t</title><script>alert(1)</script><style>p {}</style></head><body><nav>menu</nav><p>text</p><!-- comment --><footer>foot</footer></body></html>');
SELECT html_to_markdown('<p>first</p>

<p>second<br>line</p><hr><blockquote><p>quoted</p></blockquote>');

-- What is not HTML, or broken, is no error.
SELECT html_to_markdown('plain text'), html_to_markdown('') = '' AS empty, html_to_markdown(NULL) IS NULL AS null;
SELECT html_to_markdown('<p>open <b>tags <i>everywhere');
SELECT html_to_markdown('</p></div>closed &unknown; & alone < b');
SELECT length(html_to_markdown(repeat('<div>', 20000) || 'deep')) AS nested;
SELECT html_to_markdown(repeat('<p>x</p>', 1000)) = rtrim(repeat(E'x\n\n', 1000), E'\n') OR length(html_to_markdown(repeat('<p>x</p>', 1000))) BETWEEN 2998 AND 3000 AS many;
