"""The report page in a real browser: Chromium, driven by tools/chromium.py; skipped where there is none.

Run with: pytest tests/report/test_browser.py
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from report import report_fixtures
from report.report_fixtures import ONLY_FROZEN, make_params, make_project
from thaw import paths
from thaw.report.build import write_report

sys.path.append(str(ROOT / "tools"))

from chromium import Tab, find_chromium

written = report_fixtures.written

WIDTHS_PX = (390, 768, 1440)


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    with Tab(program) as opened:
        yield opened


def open_page(tab: Tab, root: Path, *, width_px: int = 1440, fragment: str = "") -> None:
    tab.events.clear()
    tab.resize(width_px, 900)
    tab.open(root / paths.COMPARISON_HTML, fragment)


def list_complaints(tab: Tab) -> list[str]:
    """Errors and warnings of the console, and requests for anything but the page and what is inside it."""
    tab.run("new Promise(done => setTimeout(done))")
    complaints = []
    for event in tab.events:
        if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            complaints.append(str(event["params"]))
        elif event["method"] == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                complaints.append(url)
    return complaints


def open_all(tab: Tab) -> None:
    tab.run("document.querySelectorAll('details').forEach(details => { details.open = true })")


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_it_fits_the_screen_and_the_console_is_silent(tab: Tab, written: Path, width_px: int) -> None:
    open_page(tab, written, width_px=width_px)
    open_all(tab)
    assert tab.run("document.documentElement.scrollWidth") <= width_px
    assert tab.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert list_complaints(tab) == []


def test_the_policy_stops_what_an_archive_might_smuggle_in(tab: Tab, written: Path) -> None:
    open_page(tab, written)
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.org/x.png\">')")
    tab.run("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))")
    complaints = " ".join(list_complaints(tab))
    assert complaints.count("violates the following Content Security Policy directive") == 2
    assert tab.run("window.ran === undefined")


def test_the_answer_and_its_plot_are_on_the_first_screen(tab: Tab, written: Path) -> None:
    open_page(tab, written)
    for selector in (".decision", ".plot svg", ".first dl"):
        assert tab.run(f"document.querySelector({selector!r}).getBoundingClientRect().bottom") < 900
    assert tab.run("[...document.querySelectorAll('details[open] > summary h2')].map(h => h.textContent)") == [
        "Results"
    ]
    for width_px, shown in ((390, "narrow"), (1440, "wide")):
        open_page(tab, written, width_px=width_px)
        plots = "[...document.querySelectorAll('.plot .chart')].filter(chart => chart.offsetHeight)"
        assert tab.run(f"{plots}.map(chart => chart.classList[1])") == [shown]


@pytest.mark.parametrize("scripts", [True, False])
def test_an_address_opens_its_section(tab: Tab, written: Path, scripts: bool) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=not scripts)
    try:
        open_page(tab, written, fragment="calibration")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    opened = tab.run("[...document.querySelectorAll('details[open] > .body')].map(body => body.id)")
    assert opened == ["results", "calibration"]
    assert 0 <= tab.run("document.getElementById('calibration').getBoundingClientRect().top") < 200


def test_every_link_leads_to_a_section(tab: Tab, written: Path) -> None:
    open_page(tab, written)
    targets = tab.run("[...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
    assert targets == tab.run("[...document.querySelectorAll('details.section > .body')].map(body => body.id)")
    ids = tab.run("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))


def read_column(tab: Tab, section: str, column: int) -> list[str]:
    cells: list[str] = tab.run(
        f"[...document.querySelector('#{section} table').tBodies[0].rows].map(row => row.cells[{column}].textContent)"
    )
    return cells


def test_a_table_sorts_by_number_and_by_text(tab: Tab, written: Path) -> None:
    open_page(tab, written, fragment="runs")
    head = "document.querySelector('#runs table').tHead.rows[0].cells"
    first = read_column(tab, "runs", 0)
    tab.run(f"{head}[2].querySelector('button').focus()")
    tab.press("Enter")
    ascending = [float(cell.removesuffix(" %")) for cell in read_column(tab, "runs", 2)]
    assert ascending == sorted(ascending)
    assert len(set(ascending)) > 1
    tab.press("Enter")
    assert [float(cell.removesuffix(" %")) for cell in read_column(tab, "runs", 2)] == ascending[::-1]
    assert tab.run(f"[...{head}].map(head => head.ariaSort)")[:4] == [None, None, "descending", None]
    # By variant, in the alphabet's order; equal ones stay as they were, and those were sorted by accuracy.
    tab.run(f"{head}[0].querySelector('button').click()")
    assert read_column(tab, "runs", 0) == sorted(first)
    of_frozen = [float(cell.removesuffix(" %")) for cell in read_column(tab, "runs", 2)[3:6]]
    assert of_frozen == sorted(of_frozen, reverse=True)


def test_units_and_intervals_sort_as_numbers_and_sums_stay_last(tab: Tab, written: Path) -> None:
    open_page(tab, written)
    texts = ["5.6 TFLOP", "\N{MINUS SIGN}3.3 to 0.5", "+1.2", "1,234 MiB", "900 GFLOP", "± 0.3", "1.2e-05", "0 : 3"]
    assert tab.run(f"{texts!r}.map(readNumber)") == [5.6e12, -3.3, 1.2, 1234, 9e11, 0.3, 1.2e-05, 0]
    assert tab.run("readNumber('not needed')") is None
    tab.run("document.querySelector('#data table').tHead.rows[0].cells[0].querySelector('button').click()")
    tab.run("document.querySelector('#data table').tHead.rows[0].cells[0].querySelector('button').click()")
    assert read_column(tab, "data", 0) == ["Dog", "Cat"]
    assert tab.run("document.querySelector('#data table').tFoot.textContent").startswith("all")


def test_an_image_is_enlarged_and_escape_closes_it(tab: Tab, written: Path) -> None:
    open_page(tab, written, fragment="images")
    tab.run("document.querySelectorAll('#images button.frame')[1].focus()")
    tab.press("Enter")
    assert tab.run("document.querySelector('dialog').open")
    assert tab.run("document.querySelector('dialog img').getBoundingClientRect().width") > 400
    caption = tab.run("document.querySelector('dialog p').textContent")
    assert tab.run("document.querySelector('dialog img').alt") != ""
    tab.press("ArrowRight")
    third = "document.querySelectorAll('#images figcaption')[2].textContent"
    assert tab.run("document.querySelector('dialog p').textContent") == tab.run(third)
    tab.press("ArrowLeft")
    assert tab.run("document.querySelector('dialog p').textContent") == caption
    tab.press("Escape")
    assert not tab.run("document.querySelector('dialog').open")
    assert tab.run("document.activeElement === document.querySelectorAll('#images button.frame')[1]")


def test_all_sections_are_printed(tab: Tab, written: Path) -> None:
    open_page(tab, written)
    shown = "document.getElementById('methods').checkVisibility()"
    assert not tab.run(shown)
    tab.resize(1440, 900, media="print")
    assert tab.run(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_figures_stands_out_in_light_and_dark(tab: Tab, written: Path, scheme: str) -> None:
    open_page(tab, written)
    tab.resize(1440, 900, scheme=scheme)
    open_all(tab)
    contrast = """
      (() => {
        const WEIGHTS = [.2126, .7152, .0722];
        const channels = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const linear = c => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
        const luminance = color => channels(color).map(linear).reduce((sum, c, i) => sum + c * WEIGHTS[i], 0);
        const card = luminance(getComputedStyle(document.querySelector('.card')).backgroundColor);
        const texts = document.querySelectorAll('.plot text, #curves text, .hint, td, thead th, a');
        const ratios = [...texts].map(element => {
          const style = getComputedStyle(element);
          const ink = luminance(element instanceof SVGElement ? style.fill : style.color);
          return (Math.max(ink, card) + .05) / (Math.min(ink, card) + .05);
        });
        return Math.min(...ratios);
      })()
    """
    # The Web Content Accessibility Guidelines ask for 4.5.
    assert tab.run(contrast) > 4.5


SCRIPTS = ("猫", "قطة", "बिल्ली", "кошка", "🐈 cat", "\u202eevil", "a" * 60, "<b>bold", 'x">y')


def test_class_names_in_any_script_are_text(tab: Tab, tmp_path: Path) -> None:
    params = make_params(seeds=[0], variants=ONLY_FROZEN)
    make_project(tmp_path, params, classes=SCRIPTS, per_class=8, mistakes={"frozen": [[1, 2, 17]]})
    write_report(tmp_path, params=params, run_ids={})
    for width_px in WIDTHS_PX:
        open_page(tab, tmp_path, width_px=width_px, fragment="confusion")
        open_all(tab)
        assert tab.run("document.documentElement.scrollWidth") <= width_px
    labels = tab.run("[...document.querySelectorAll('#confusion svg text')].map(text => text.textContent)")
    assert set(SCRIPTS) <= set(labels)
    assert list_complaints(tab) == []
    assert tab.run("document.querySelector('main b b')") is None
    # What stands beside a name that turns round the direction of writing keeps its place.
    assert tab.run("getComputedStyle(document.querySelector('figcaption b')).unicodeBidi") == "isolate"


@pytest.mark.parametrize("classes", [10, 200])
def test_many_classes_are_readable(tab: Tab, tmp_path: Path, classes: int) -> None:
    names = [f"class_{number:03}_of_many" for number in range(classes)]
    params = make_params(seeds=[0], variants=ONLY_FROZEN)
    make_project(tmp_path, params, classes=names, per_class=8, mistakes={"frozen": [[0, 1, 2, 17, 30]]})
    write_report(tmp_path, params=params, run_ids={})
    assert (tmp_path / paths.COMPARISON_HTML).stat().st_size < 5_000_000
    for width_px in WIDTHS_PX:
        open_page(tab, tmp_path, width_px=width_px, fragment="confusion")
        open_all(tab)
        assert tab.run("document.documentElement.scrollWidth") <= width_px
        # Names of classes that break after each letter would make the rows of the confused pairs ten lines high.
        assert tab.run("document.querySelectorAll('#confusion table')[1].tBodies[0].rows[0].offsetHeight") < 80
    assert tab.run("document.querySelectorAll('#confusion svg').length") == (1 if classes <= 20 else 0)
    assert len(read_column(tab, "confusion", 0)) == min(classes, 20)
    assert read_column(tab, "confusion", 2)[0] == "25.0 %"
    confused = tab.run("document.querySelectorAll('#confusion table')[1].tBodies[0].rows[0].textContent")
    assert confused == "class_000_of_manyclass_001_of_many3"
    # 20 classes, the others in one row, and the sums.
    assert tab.run("document.querySelector('#data table').rows.length") <= 24
