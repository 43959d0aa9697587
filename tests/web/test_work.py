"""The page as a place to work: layouts, filters, connections, imports, notes, files, studies."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from kadanoff.atlas import papers
from kadanoff.atlas.identity import Record
from kadanoff.atlas.store import Store
from kadanoff.atlas.studies import Registry
from tests.atlas.serving import served
from tests.atlas.test_desk import PDF
from tests.web.test_page import HOME, PHONE, place, visit

pytestmark = pytest.mark.browser


def shown(page: Any) -> int:
    return page.locator(".node:visible").count()


def test_layouts_are_in_the_address_and_survive_a_reload(page: Any, address: str) -> None:
    visit(page, address, HOME)
    force = place(page, '.node[data-id="jacot2018"]')
    page.get_by_role("button", name="Time").click()
    page.wait_for_url("**?layout=time")
    page.wait_for_selector("[data-layout=time][aria-pressed=true]")
    page.wait_for_timeout(200)
    old, new = (place(page, f'.node[data-id="{n}"]') for n in ("kadanoff1971", "jacot2018"))
    # years to the right, citations up
    assert old[0] < new[0]
    assert new[1] < old[1]
    page.reload()
    page.wait_for_selector(".node", state="attached")
    assert place(page, '.node[data-id="jacot2018"]') == new
    page.keyboard.press("3")
    page.wait_for_url("**?layout=similarity")
    middle = "document.querySelector('.node.current').style.transform === 'translate(0px, 0px)'"
    page.wait_for_function(f"() => {middle}")
    page.wait_for_timeout(200)
    # nearness can be read: of two papers the one with the larger number is nearer to the middle
    row = "rows => rows.map((r) => [r.dataset.id, Number(r.dataset.near)])"
    near = dict(page.locator("#papers tbody tr:visible").evaluate_all(row))
    ranked = sorted(near, key=near.__getitem__)
    far, close = (
        math.hypot(*place(page, f'.node[data-id="{n}"]')) for n in (ranked[0], ranked[-1])
    )
    assert close < 0.7 * far
    page.go_back()
    page.wait_for_url("**?layout=time")
    page.keyboard.press("1")
    page.wait_for_url(f"**{HOME}")
    page.wait_for_timeout(200)
    assert place(page, '.node[data-id="jacot2018"]') == force


def test_filters_narrow_map_and_table_and_survive_a_reload(page: Any, address: str) -> None:
    visit(page, address, f"{HOME}?rows=all")
    page.keyboard.press("f")
    page.get_by_label("From year").fill("2019")
    page.get_by_label("To year").fill("2022")
    page.wait_for_function("() => document.querySelector('#shown').textContent.includes('of 91')")
    count = shown(page)
    years = page.locator("#papers tbody tr:visible .y").all_inner_texts()
    assert set(years) <= {"2019", "2020", "2021", "2022"}
    assert count == len(years) + 1
    assert page.locator("#shown").inner_text() == f"{count} of 91 shown"
    page.get_by_role("checkbox", name="has a study").check()
    assert "study=1" in page.url
    few = shown(page)
    assert few < count
    page.reload()
    page.wait_for_selector(".node", state="attached")
    assert page.get_by_label("From year").input_value() == "2019"
    assert page.get_by_role("checkbox", name="has a study").is_checked()
    assert shown(page) == few
    page.get_by_role("button", name="Clear").click()
    assert shown(page) == 91
    page.get_by_label("Relation").select_option("cites")
    assert shown(page) == 9
    page.get_by_role("button", name="All", exact=True).click()
    assert "kind=" not in page.url
    page.get_by_role("checkbox", name="on my list").check()
    assert shown(page) == 1


def test_a_newcomer_finds_what_connects_the_lazy_neurons_with_the_book(
    page: Any, address: str
) -> None:
    visit(page, address)
    page.get_by_role("link", name="Connect", exact=True).click()
    for words in ("lazy neuron", "principles of deep learning theory"):
        page.wait_for_selector("body[data-ready]", state="attached")
        page.get_by_role("combobox", name="Add a paper").fill(words)
        page.get_by_role("button", name="Add", exact=True).click()
        page.wait_for_url(re.compile("paper="))
    page.wait_for_url("**/connect?paper=li2022lazy&paper=pdlt2021")
    chain = page.locator(".chain").first.inner_text()
    assert "Why is AI hard and Physics simple?" in chain
    assert chain.count("cites") == 2
    common = page.locator("#common-title ~ .results").inner_text()
    assert "Attention is all you need" in common
    # a third one: what do all three reference?
    page.get_by_role("combobox", name="Add a paper").fill("arXiv:2104.00008")
    page.get_by_role("combobox", name="Add a paper").press("Enter")
    page.wait_for_url("**paper=roberts2021")
    assert page.locator("#common-title ~ .results li").first.locator(".letter").count() == 3


def test_a_newcomer_finds_what_appeared_on_finite_width_since_2023(page: Any, address: str) -> None:
    visit(page, address)
    page.keyboard.press("/")
    page.keyboard.type("finite width year:2023-")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?**")
    page.get_by_label("Sort").select_option("year")
    page.wait_for_url("**sort=year")
    titles = page.locator(".results h2").all_inner_texts()
    assert any("Structures of Neural Network Effective Theories" in t for t in titles)
    years = [int(y) for y in page.locator(".results .year").all_inner_texts()]
    assert years == sorted(years, reverse=True)
    assert min(years) >= 2023
    page.get_by_text("Narrow a search").click()
    page.get_by_role("link", name="author:yaida", exact=True).click()
    page.wait_for_url("**author%3Ayaida")


LIBRARY = r"""@article{new1, title = {Entirely new on $\chi_\perp$}, author = {Ada, A.},
  year = 2020, volume = {7}, keywords = {rg, ml}, doi = {10.1000/new1}}
@misc{book, title = {The principles of deep learning theory}, author = {Yaida, S.}, note = {mine}}
@misc{wrong, title = {Cast iron cookery}, author = {Chef, S.}, eprint = {2104.00008}}
@misc{broken, title = {Never closed
"""


def test_import_with_a_look_before_and_undo_after(page: Any, address: str) -> None:
    visit(page, address)
    page.keyboard.press("i")
    page.wait_for_url("**/import")
    page.wait_for_selector("body[data-ready]", state="attached")
    page.get_by_label("Library", exact=True).fill(LIBRARY)
    page.get_by_role("button", name="Look at it").click()
    page.wait_for_url("**/import/*")
    page.wait_for_selector("body[data-ready]", state="attached")
    entries = page.locator("[data-entry]")
    assert entries.count() == 3
    assert entries.nth(0).locator("math").count() == 1
    assert entries.nth(1).locator("[data-action]").input_value() == "merge"
    assert "same title" in entries.nth(1).inner_text()
    assert "Why is AI hard" in entries.nth(2).inner_text()
    assert "look at this" in entries.nth(2).inner_text()
    broken = page.locator("#broken").inner_text()
    assert "never closed" in broken
    assert "5" in page.locator("#broken td").first.inner_text()
    # a decision is changed
    with page.expect_response("**/entries/3"):
        entries.nth(2).locator("[data-action]").select_option("skip")
    page.get_by_role("button", name="Import 2 works").click()
    page.wait_for_selector("[data-state=applied]")
    page.get_by_role("link", name="View").first.click()
    page.wait_for_selector("body[data-ready]", state="attached")
    assert page.locator("h1 math").count() == 1
    page.get_by_text("Details", exact=True).click()
    assert "rg; ml" in page.locator(".details").inner_text()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="RIS").click()
    text = Path(waiting.value.path()).read_text("utf-8")
    assert "KW  - rg" in text
    assert r"$\chi_\perp$" in text
    page.go_back()
    page.get_by_role("button", name="Undo this import").click()
    page.wait_for_selector("[data-state=undone]")
    assert page.request.get(f"{address}/api/papers/10.1000%2Fnew1").status == 404


def test_a_dropped_file_and_a_list_of_ids(page: Any, address: str, tmp_path: Path) -> None:
    items = [{"title": "From a dropped library", "type": "book", "author": [{"literal": "Ann"}]}]
    file = tmp_path / "my library.json"
    file.write_text(json.dumps(items))
    visit(page, address, "/import")
    page.locator("#library-file").set_input_files(file)
    page.wait_for_function("() => document.querySelector('#library').value.includes('dropped')")
    page.get_by_role("button", name="Look at it").click()
    page.wait_for_url("**/import/*")
    assert "Import of my library.json" in page.locator("h1").inner_text()
    visit(page, address, "/import")
    page.get_by_label("Library", exact=True).fill("arXiv:2104.00008\n10.1000/unknown, what")
    page.get_by_role("button", name="Look at it").click()
    page.wait_for_url("**/import/*")
    page.wait_for_selector("body[data-ready]", state="attached")
    actions = page.locator("[data-action]").evaluate_all("found => found.map((s) => s.value)")
    assert actions == ["skip", "fetch"]
    assert "what" in page.locator("#broken").inner_text()
    visit(page, address, "/import")
    page.get_by_label("Library", exact=True).fill("no library at all")
    page.get_by_role("button", name="Look at it").click()
    page.wait_for_selector("#library-status.bad")
    assert not page.locator("#library-status").inner_text().startswith("error")


def test_notes_tags_files_and_a_page_beside_a_comment(
    page: Any, address: str, tmp_path: Path
) -> None:
    visit(page, address, "/papers/wigner1960")
    page.keyboard.press("n")
    page.get_by_label("Your note").fill("Compare with $r = L/n$ and **why**.")
    page.reload()
    # what was not saved is still there
    page.wait_for_selector("body[data-ready]", state="attached")
    assert "Compare with" in page.get_by_label("Your note").input_value()
    page.get_by_role("button", name="Save note").click()
    page.wait_for_selector("#note-text math")
    page.get_by_label("Add to tags").fill("physics")
    page.get_by_label("Add to tags").press("Enter")
    page.wait_for_selector("[data-drop=physics]")
    page.get_by_label("Add to collections").fill("Thesis")
    page.get_by_label("Add to collections").press("Enter")
    page.wait_for_selector("[data-drop=Thesis]")
    file = tmp_path / "wigner.pdf"
    file.write_bytes(PDF)
    page.locator("#file-choose").set_input_files(file)
    page.wait_for_selector("#files a")
    page.get_by_label("Your comment").fill("The last sentence")
    page.get_by_label("Page of the PDF").fill("14")
    page.locator("#write [type=submit]").click()
    page.wait_for_selector(".leaf")
    link = page.locator("a.leaf")
    assert link.inner_text() == "page 14"
    assert re.fullmatch(r"/files/[0-9a-f]{64}#page=14", link.get_attribute("href"))
    page.reload()
    page.wait_for_selector("body[data-ready]", state="attached")
    assert page.locator("#note-text strong").inner_text() == "why"
    page.locator("#desk").get_by_role("link", name="physics").click()
    page.wait_for_url("**/search?q=tag**")
    assert page.locator(".results > li").count() == 1


def test_a_note_that_crosses_another_is_not_lost(page: Any, address: str) -> None:
    visit(page, address, "/papers/neal1996")
    other = page.context.new_page()
    visit(other, address, "/papers/neal1996")
    for window, text in ((page, "From one"), (other, "From two")):
        window.get_by_role("button", name="Write a note").click()
        window.get_by_label("Your note").fill(text)
    page.get_by_role("button", name="Save note").click()
    page.wait_for_selector("#note-form[hidden]", state="attached")
    other.get_by_role("button", name="Save note").click()
    other.wait_for_function(
        "() => document.querySelector('#note-status').textContent.includes('another window')"
    )
    assert other.locator("#note-text").inner_text() == "From one"
    assert other.get_by_label("Your note").input_value() == "From two"
    other.get_by_role("button", name="Save note").click()
    other.wait_for_selector("#note-form[hidden]", state="attached")
    assert other.locator("#note-text").inner_text() == "From two"


def test_studies_are_listed_with_their_verdicts(page: Any, address: str) -> None:
    visit(page, address, "/studies")
    page.get_by_role("link", name="Tiny study").click()
    page.wait_for_url(f"**{HOME}#studies")


def test_a_newcomer_finds_which_claims_were_checked_and_how(browser: Any, store: Store) -> None:
    with served(store, Registry()) as real:
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        visit(page, real, "/")
        page.keyboard.press("/")
        page.keyboard.type("zavatone pehlevan has:study")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search?**")
        page.locator(".results a").first.click()
        page.wait_for_selector("body[data-ready]", state="attached")
        assert page.url.endswith("/papers/zavatone2021")
        page.locator(".kicker .chip").click()
        page.wait_for_url("**#studies")
        panel = page.locator(".study-panel")
        # the figure and a paragraph first, then the claims by where they come from
        picture = panel.locator(".lead-in img").bounding_box()
        table = panel.locator(".claims").first.bounding_box()
        assert picture["width"] > 600
        assert picture["y"] < table["y"]
        assert len(panel.locator(".lead-in .prose").inner_text()) > 100
        assert "The paper's claims" in panel.locator("h4").first.inner_text()
        rows = panel.locator(".claims tbody tr")
        assert rows.count() >= 8
        for row in rows.all():
            assert row.locator(".verdict").inner_text() in ("holds", "fails", "undecided")
            # how: a measured number and what it had to be
            assert ", to be " in row.locator(".how").first.inner_text()
        page.goto(f"{real}/studies")
        assert page.locator(".results > li").count() == len(Registry().all())
        page.close()


def test_no_observer_of_a_dead_map_is_left(page: Any, address: str) -> None:
    page.add_init_script(
        """const Real = ResizeObserver;
        window.watching = 0;
        window.ResizeObserver = class extends Real {
          observe(...what) { window.watching += 1; super.observe(...what); }
          disconnect() { window.watching -= 1; super.disconnect(); }
        };"""
    )
    visit(page, address, HOME)
    for layout in ("Time", "Nearness", "Map", "Time"):
        page.get_by_role("button", name=layout, exact=True).click()
        page.wait_for_timeout(120)
    page.set_viewport_size({"width": 900, "height": 700})
    page.wait_for_timeout(100)
    assert page.evaluate("window.watching") == 1


@pytest.mark.parametrize(
    "path", [HOME, "/papers/pdlt2021?layout=time", f"{HOME}?layout=similarity"]
)
def test_names_lie_on_no_other_name_and_on_no_paper(page: Any, address: str, path: str) -> None:
    visit(page, address, path)
    for _ in range(2):
        page.wait_for_timeout(250)
        named = page.evaluate(
            """() => {
              const nodes = document.querySelector("#canvas").graph.nodes.filter((n) => n.box);
              const cut = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
              const told = nodes.filter((n) => n.nameBox);
              const bad = told.filter((n) => nodes.some((m) => m !== n
                && (cut(n.nameBox, m.box) || (m.nameBox && cut(n.nameBox, m.nameBox)))));
              return [told.length, bad.map((n) => n.name)];
            }"""
        )
        assert named[0] >= 10
        assert named[1] == []
        # a name keeps its size when one zooms
        page.get_by_role("button", name="Zoom in").click()
        page.wait_for_timeout(250)


def test_neither_legend_nor_card_lies_on_a_paper(page: Any, address: str) -> None:
    visit(page, address, f"{HOME}?show=banta2023")
    page.wait_for_selector("#card:not([hidden])")
    page.wait_for_timeout(250)
    hidden = page.evaluate(
        """() => [...document.querySelectorAll(".node")].filter((node) => {
          const box = node.getBoundingClientRect();
          const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
          return top && !top.closest("#canvas");
        }).map((node) => node.dataset.id)"""
    )
    assert hidden == []


@pytest.mark.parametrize("page", [PHONE], indirect=True, ids=["phone"])
def test_on_a_phone_the_map_is_on_the_first_screen_and_the_table_can_be_sorted(
    page: Any, address: str
) -> None:
    visit(page, address, HOME)
    box = page.locator("#canvas").bounding_box()
    assert box["y"] + 0.75 * box["height"] < 844
    for path in (HOME, "/papers/banta2023", "/import", "/connect", "/search"):
        visit(page, address, path)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path
    visit(page, address, HOME)
    page.get_by_label("Sort the table").select_option("-near")
    rows = page.locator("#papers tbody tr:visible")
    near = rows.evaluate_all("found => found.map((row) => row.dataset.near)")
    assert near == sorted(near, reverse=True)
    first = page.locator("#papers tbody tr:visible").first
    for cell in (".t", ".y", ".c", ".n", ".v"):
        found = first.locator(cell).bounding_box()
        assert found["x"] >= 0
        assert found["x"] + found["width"] <= 390


def test_wide_formulas_and_long_words_stay_inside(page: Any, address: str, store: Store) -> None:
    with store.write() as db:
        name = papers.save(
            db,
            Record(
                "A" * 120 + r" with $\frac{a+b+c+d+e+f+g+h+i+j+k+l+m+n}{o} = " + "x+" * 60 + "1$",
                ["B" * 90],
                2020,
                venue="V" * 120,
                abstract=r"So $" + r"\alpha\beta\gamma\delta" * 30 + "$.",
                key="wide",
            ),
        )
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        visit(page, address, f"/papers/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") == width
