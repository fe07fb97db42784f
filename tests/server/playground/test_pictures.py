"""What the playground shows of models of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from embedrt import Embedder
from embedrt.pictures.generated import generated_pictures
from tests.browsers import NEEDS_CHROMIUM
from tests.server.playground.page import Page
from tests.server.serving import Served, serving

pytestmark = NEEDS_CHROMIUM


def test_pictures_are_dropped_and_found_by_words(browser, clip_bundle: Path, tmp_path: Path):
    """Where the model embeds both; in the order of the library's cosines, and in Korean."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, pixels in zip(paths, generated_pictures(5, seed=3), strict=True):
        Image.fromarray(pixels).save(path)
    with serving(f"clip={clip_bundle}", variant="fp32") as server, Embedder(clip_bundle, variant="fp32") as library:
        page = Page(browser, server.url, "ko")
        assert len(page.all("#pictures img")) == 5  # the page's own, as an example
        assert page.one("#picture-query").get_attribute("value") == "the sun over the sea"  # the model knows no Korean
        assert page.all("#pictures figcaption")[0].text.lstrip("-").startswith("0.")
        page.one("#picture-files").send_keys("\n".join(map(str, paths)))
        names = "return [...document.querySelectorAll('#pictures img')].map((image) => image.alt)"
        mine = sorted(path.name for path in paths)
        page.wait(lambda: sorted(browser.execute_script(names)) == mine and page.one("#compare").is_enabled())
        assert page.all("#pictures img")[0].get_attribute("naturalWidth") != "0"
        page.write("#picture-query", "서울의 여우")
        page.press("#picture-search button")
        page.wait(lambda: page.all("#pictures figcaption")[0].text.lstrip("-").startswith("0."))
        scores = library.similarity(library.encode("서울의 여우"), library.encode(paths))[0]
        order = [paths[i].name for i in np.argsort(-scores)]
        assert [image.get_attribute("alt") for image in page.all("#pictures img")] == order
        shown = [float(caption.text) for caption in page.all("#pictures figcaption")]
        np.testing.assert_allclose(shown, np.sort(scores)[::-1], atol=6e-4)
        page.shoot("pictures")


def test_a_model_of_texts_has_no_place_for_pictures(browser, served: Served):
    page = Page(browser, served.url)
    assert not page.one("#picture-query").is_displayed()
