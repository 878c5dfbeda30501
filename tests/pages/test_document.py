"""The file of a page: nothing that is filled in can break out, and an installed package has its parts."""

import json
import re
import tomllib
from pathlib import Path

import co2s_cli
from co2s_cli.pages.document import document, facts_list, table

ROOT = Path(co2s_cli.__file__).parent


def test_no_text_can_end_the_script_or_the_title():
    evil = "</script></title><b>[[css]]"
    page = document(evil, [facts_list({evil: evil})], {"name": evil})
    assert page.count("</script>") == 2
    assert page.count("</title>") == 1
    assert "<b>" not in page
    data = re.search(r'id="page-data">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(data) == {"name": evil}


def test_a_table_says_what_it_is_before_it_scrolls():
    text = table(["a", "b"], [["x", "1"], ["y", '<td class="cell">2</td>']], "what & why")
    assert text.startswith('<p class="soft">what &amp; why</p>')
    assert '<th scope="row">y</th><td class="cell">2</td>' in text


def test_the_parts_of_a_page_are_in_an_installed_package():
    patterns = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in patterns["co2s_cli"] for path in ROOT.glob(pattern)}
    assert {path for path in (ROOT / "pages").iterdir() if path.suffix in (".html", ".css", ".js")} <= packed
