#!/usr/bin/env python3
"""Makes the documents in tests/data/documents, which the tests of src/documents read.

Needs Debian's packages libreoffice-writer-nogui, libreoffice-calc-nogui, libreoffice-impress-nogui, python3-uno, pandoc,
texlive-latex-recommended, lmodern, ghostscript, qpdf, groff, fonts-dejavu and fonts-droid-fallback. Run it in any folder, with
the names of functions below (`articles`, `scripts`, …) to make only their documents; the results are committed, since
other versions of these programs write other bytes.

Each document is what its program makes of the sources below: nothing is written by hand here that a user would not write.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

OUT = pathlib.Path(__file__).parent / "documents"

ARTICLE = """---
title: The Kestrel Report
author: Ada Example
lang: en
---

# Introduction

Kestrels hover in the wind, which few other birds of prey can do. Their efficient flight was described in 1789 by
an affable officer from Tromsø; his final figures fill a file of five hundred pages.[^first]

[^first]: The file is kept in the archive of the city.

## Method

We counted birds on three mornings:

- at the lighthouse,
- in the old harbour,
    - near the fish market,
    - behind the customs house,
- on the moor.

1. Count before sunrise.
2. Count again at noon.

## Results

| Place      | Morning | Noon |
|------------|---------|------|
| Lighthouse | 12      | 7    |
| Harbour    | 3       | 0    |
| Moor       | 41      | 38   |

# Discussion

The moor has most of them. *Nobody* knows why, says Dr. Łukasz Żółć -- "not even the kestrels".

```sql
SELECT place, count(*)
  FROM birds
 GROUP BY place;
```
"""

SHEET = """<html><head><meta charset="utf-8"></head><body><table>
<tr><td>Item</td><td>Price</td><td>Sold on</td><td>Share</td></tr>
<tr><td>Lamp &amp; bulb</td><td sdval="19.5" sdnum="1033;0;0.00">19.50</td>
    <td sdval="45351" sdnum="1033;0;YYYY-MM-DD">2024-02-29</td><td sdval="0.125" sdnum="1033;0;0.00%">12.5%</td></tr>
<tr><td>Table</td><td sdval="240">240</td><td sdval="45352.75" sdnum="1033;0;YYYY-MM-DD HH:MM:SS">2024-03-01 18:00:00</td>
    <td sdval="0.875" sdnum="1033;0;0%">88%</td></tr>
</table></body></html>"""

COLUMNS = r"""\documentclass[twocolumn,10pt]{article}
\usepackage[T1]{fontenc}\usepackage{lmodern}
\title{Two Columns of Offices}\author{B. Sample}\date{}
\begin{document}
\maketitle
\section{First section}
%s
\section{Second section}
%s
\subsection{A part of it}
%s
\end{document}
"""

# Scripts that are not Latin, one of them from right to left, with a note, lists and a table.
SCRIPTS = """---
title: Многоязычный отчёт
author: Ωμέγα Παπαδοπούλου
lang: en
---

# Ελληνικά

Η γρήγορη αλεπού πηδάει πάνω από τον τεμπέλη σκύλο.[^greek] Οι αριθμοί είναι 12, 34 και 56.

[^greek]: Η σημείωση αυτή είναι στα ελληνικά.

- πρώτο στοιχείο
- δεύτερο στοιχείο

# Русский

Съешь же ещё этих мягких французских булок, да выпей чаю. Второе предложение стоит в той же строке.

## Подраздел

1. первый пункт
2. второй пункт

| Город  | Население |
|--------|-----------|
| Москва | 13 010    |
| Минск  | 1 996     |

# العربية

::: {dir=rtl}
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق. بيع منه 250 نسخة.
:::

# 中文

敏捷的棕色狐狸跳过了懒狗。这是第二句话，里面有标点符号。

# 日本語

いろはにほへと ちりぬるを。東京は日本の首都です。

# Latin

Zażółć gęślą jaźń. Årsmøte på Ærø. Ñandú, çedilha, ğüş, ő and ű; “quotes” – dashes — and an ellipsis…
"""

# Several pages, whose paragraphs and sentences go over the ends of pages.
CHAPTERS = "---\ntitle: Pages of Numbers\n---\n\n" + "".join(
    f"# Chapter {chapter}\n\n"
    + "".join(
        " ".join(f"Sentence {chapter}.{part}.{number} stands in part {part} of its chapter." for number in range(1, 13)) + "\n\n"
        for part in range(1, 8)
    )
    for chapter in range(1, 5)
)

WORDS = (
    "The efficient officer %d filed a difficult affidavit about waffles, whose flavour the confident chef defined as "
    "first class; misunderstandings notwithstanding, the extraordinary characterization of constituencies continued "
    "for a considerable time, because internationalization of refrigerators requires representatives. "
)


def run(*command, cwd=None):
    subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def office(kind, source, folder, *options):
    """Converts a file with LibreOffice; gives the new one."""
    profile = f"-env:UserInstallation=file://{folder}/profile"
    run("soffice", "--headless", profile, *options, "--convert-to", kind, "--outdir", str(folder / "out"), str(source))
    return folder / "out" / (pathlib.Path(source).stem + "." + kind.split(":")[0])


def encrypted_by_office(source, folder, target):
    """Opens a file with LibreOffice and stores it with a password, as its user would; a filter option cannot."""
    program = """
import sys, time, uno
from com.sun.star.beans import NamedValue, PropertyValue
source, target, pipe = sys.argv[1:]
local = uno.getComponentContext()
resolver = local.ServiceManager.createInstanceWithContext("com.sun.star.bridge.UnoUrlResolver", local)
for attempt in range(60):
    try:
        context = resolver.resolve(f"uno:pipe,name={pipe};urp;StarOffice.ComponentContext")
        break
    except Exception:
        time.sleep(0.5)
desktop = context.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", context)
def options(**values):
    return tuple(PropertyValue(name, 0, value, 0) for name, value in values.items())
document = desktop.loadComponentFromURL(f"file://{source}", "_blank", 0, options(Hidden=True))
values = NamedValue("CryptoType", "Standard"), NamedValue("OOXPassword", "secret")
password = uno.Any("[]com.sun.star.beans.NamedValue", values)
document.storeToURL(f"file://{target}", options(FilterName="MS Word 2007 XML", EncryptionData=password))
document.close(True)
desktop.terminate()
"""
    pipe = folder.name
    profile = f"-env:UserInstallation=file://{folder}/profile"
    server = subprocess.Popen(["soffice", "--headless", profile, f"--accept=pipe,name={pipe};urp;"])
    try:
        # Debian's own Python, which has the module.
        run("/usr/bin/python3", "-c", program, str(source), str(target), pipe)
        server.wait(timeout=60)
    finally:
        server.kill()


def articles(folder):
    article = folder / "article.md"
    article.write_text(ARTICLE)
    (OUT / "article.md").write_text(ARTICLE)
    for kind in ["docx", "epub", "html", "odt"]:
        run("pandoc", "--standalone", str(article), "-o", str(folder / f"article.{kind}"))
    shutil.copy(folder / "article.docx", OUT / "pandoc.docx")
    shutil.copy(folder / "article.epub", OUT / "pandoc.epub")
    shutil.copy(folder / "article.html", OUT / "pandoc.html")
    # The same text through LibreOffice, which has its own ways of writing lists, notes and styles.
    shutil.copy(office("docx", folder / "article.odt", folder), OUT / "libreoffice.docx")
    shutil.copy(office("pdf", folder / "article.odt", folder), OUT / "libreoffice.pdf")
    run("pandoc", str(article), "--pdf-engine=pdflatex", "-o", str(folder / "latex.pdf"))
    # Ghostscript makes other fonts of those of LaTeX, and a quarter of the bytes.
    run("gs", "-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=pdfwrite", f"-sOutputFile={OUT}/ghostscript.pdf", str(folder / "latex.pdf"))


def slides(folder):
    source = folder / "slides.md"
    source.write_text(
        "% Slides on Kestrels\n% Ada Example\n\n# Hovering\n\n- into the wind\n- over the moor\n\n::: notes\n"
        "Say something about the wind.\n:::\n\n# Numbers\n\n| Place | Birds |\n|---|---|\n| Moor | 41 |\n\n# Thanks\n\nQuestions?\n"
    )
    run("pandoc", str(source), "-o", str(folder / "slides.pptx"))
    shutil.copy(folder / "slides.pptx", OUT / "pandoc.pptx")
    shutil.copy(office("pptx:Impress MS PowerPoint 2007 XML", folder / "slides.pptx", folder), OUT / "libreoffice.pptx")


def sheets(folder):
    sheet = folder / "sheet.html"
    sheet.write_text(SHEET)
    options = ["--infilter=HTML (StarCalc)"]
    shutil.copy(office("xlsx", sheet, folder, *options), OUT / "libreoffice.xlsx")


def typeset(folder):
    columns = folder / "columns.tex"
    texts = ["".join(WORDS % (10 * part + number) for number in range(8)) for part in range(3)]
    columns.write_text(COLUMNS % tuple(texts))
    run("pdflatex", "-interaction=batchmode", "columns.tex", cwd=folder)
    shutil.copy(folder / "columns.pdf", OUT / "columns.pdf")
    page = folder / "page.ms"
    page.write_text(".TL\nOn Typesetting\n.PP\nA page by groff, with its own encoding of fonts: \\(lqquotes\\(rq and efficient ligatures.\n")
    with open(OUT / "groff.pdf", "wb") as out:
        subprocess.run(["groff", "-Tpdf", "-ms", str(page)], check=True, stdout=out)
    for name, password in [("encrypted_empty", ""), ("encrypted", "secret")]:
        run("qpdf", "--encrypt", password, "owner", "256", "--", str(OUT / "groff.pdf"), str(OUT / f"{name}.pdf"))


def scripts(folder):
    source = folder / "scripts.md"
    source.write_text(SCRIPTS)
    for kind in ["docx", "odt", "epub", "html", "pptx"]:
        run("pandoc", "--standalone", str(source), "-o", str(folder / f"scripts.{kind}"))
    for kind in ["odt", "epub", "html", "pptx"]:
        shutil.copy(folder / f"scripts.{kind}", OUT / f"scripts.{kind}")
    # Of pandoc's formats, DOCX is the one that keeps directions.
    shutil.copy(office("pdf", folder / "scripts.docx", folder), OUT / "scripts.pdf")
    shutil.copy(office("docx", folder / "scripts.odt", folder), OUT / "scripts.docx")


def chapters(folder):
    source = folder / "chapters.md"
    source.write_text(CHAPTERS)
    run("pandoc", "--standalone", str(source), "-o", str(folder / "chapters.odt"))
    shutil.copy(office("pdf", folder / "chapters.odt", folder), OUT / "chapters.pdf")


def locked(folder):
    source = folder / "locked.md"
    source.write_text("# Locked\n\nNobody reads this without the password.\n")
    run("pandoc", "--standalone", str(source), "-o", str(folder / "locked.odt"))
    encrypted_by_office(folder / "locked.odt", folder, OUT / "locked.docx")
    password = '{"EncryptFile":{"type":"boolean","value":"true"},"DocumentOpenPassword":{"type":"string","value":"secret"}}'
    shutil.copy(office(f"pdf:writer_pdf_Export:{password}", folder / "locked.odt", folder), OUT / "locked.pdf")


ALL = [articles, slides, sheets, typeset, scripts, chapters, locked]


def main(names):
    OUT.mkdir(exist_ok=True)
    for make in ALL:
        if not names or make.__name__ in names:
            with tempfile.TemporaryDirectory() as name:
                make(pathlib.Path(name))


if __name__ == "__main__":
    main(sys.argv[1:])
