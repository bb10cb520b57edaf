"""The page in a browser: nothing leaves it, tables sort, plots are drawn, axe finds nothing; names stay text."""

import functools
import io
import re
import shutil
from itertools import pairwise

import pytest
from PIL import Image

from tas_bench.report.example import METHODS, write_example
from tas_bench.report.source import read_source
from tas_bench.report.whole import write_report

HOSTILE = '<img src=x onerror="alert(1)"></script><b>&"\'{{7*7}}'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {"light": 1280, "dark": 390}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """The report of a small sweep, one of whose methods has a hostile name."""
    root = tmp_path_factory.mktemp("results")
    write_example(root, seeds=3, candidates=4, epochs=30, labels=METHODS | {"tas": HOSTILE})
    return write_report(read_source(root), root / "_report", figures=False)


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def open_page(browser, page_file):
    """The page with all its plots drawn; what the browser complained of and asked for is kept on it."""

    def open_as(how="light"):
        context = browser.new_context(
            color_scheme="dark" if how == "dark" else "light", viewport={"width": WIDTHS[how], "height": 800}
        )
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.on("request", lambda one: page.asked.append(one.url))
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=120_000)
        return page

    return open_as


@pytest.fixture(scope="module")
def kept(open_page):
    return functools.cache(open_page)


@pytest.fixture
def opened(kept, request):
    """One that other tests may have seen."""
    return kept(getattr(request, "param", "light"))


every_look = pytest.mark.parametrize("opened", WIDTHS, indirect=True)


@every_look
def test_it_is_quiet_whole_fitting_and_accessible(opened, page_file, request):
    how = request.node.callspec.params["opened"]
    assert opened.said == []
    assert opened.asked == [page_file.as_uri()]
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    drawn = opened.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('path, .point').length)"
    )
    assert len(drawn) >= 10
    assert min(drawn) > 3
    with Image.open(io.BytesIO(opened.screenshot())) as seen:
        brightness = sum(seen.convert("L").resize((40, 40)).tobytes()) / 1600
    assert (brightness < 80) if how == "dark" else (brightness > 170)
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()


def test_headings_and_names(opened):
    levels = [
        int(tag[1]) for tag in opened.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName)")
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    unnamed = "[...document.querySelectorAll('.plot')].filter(p => !p.getAttribute('aria-label')).length"
    assert opened.evaluate(unnamed) == 0
    assert opened.evaluate("[...document.querySelectorAll('table')].every(t => t.caption.textContent)")


def test_hostile_names_are_text(opened):
    first = opened.locator("#accuracies tbody th").all_text_contents()
    assert f"{HOSTILE} w/ KD" in first
    assert opened.locator("img").count() == 0
    legend = opened.locator(".legendtext").all_text_contents()
    assert any("<img" in text for text in legend)


def test_tables_sort_by_number_and_by_text(opened):
    table = opened.locator("#accuracies table").first
    title = table.locator("thead button", has_text="Accuracy % (ours)")

    def values():
        shown = table.locator("tbody tr td:nth-child(4)").all_text_contents()
        return [float(re.match(r"[\d.]+", text)[0]) for text in shown]

    unsorted = values()
    title.click()
    assert values() == sorted(unsorted)
    assert table.locator("th[aria-sort=ascending]").count() == 1
    title.click()
    assert values() == sorted(unsorted, reverse=True)
    assert unsorted != values()
    table.locator("thead button", has_text="Macs (paper)").click()
    cells = table.locator("tbody tr td:nth-child(7)").all_text_contents()
    assert cells[0] != ""
    assert cells[-1] == ""  # blanks last
    table.locator("thead button", has_text="Method").click()
    names = table.locator("tbody th").all_text_contents()
    assert names.index("CMA-ES") < names.index("Pre-defined") < names.index("Random Search")


def test_plots_follow_the_colour_scheme(opened):
    def ink():
        return opened.evaluate("document.querySelector('.plot .xtick text').style.fill")

    light = ink()
    opened.emulate_media(color_scheme="dark")
    opened.wait_for_function(
        "before => document.querySelector('.plot .xtick text').style.fill !== before", arg=light
    )
    opened.emulate_media(color_scheme="light")


def test_long_tables_are_folded_and_printed(opened):
    folded = "[...document.querySelectorAll('details')].map(d => d.open)"
    assert not any(opened.evaluate(folded))
    opened.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert all(opened.evaluate(folded))
