"""The page in a real Chromium: what a visitor clicks, and what is seen."""

import shutil

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from tests.serving.site import Gated, drawer, pixels_of, running, until

DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DRIVER is None, reason="no Chromium and its driver on this machine"),
]
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400")
SET = """
const element = document.getElementById(arguments[0]);
element.value = arguments[1];
element.dispatchEvent(new Event("change", { bubbles: true }));
"""


class Page:
    """The page as a visitor sees it."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)
        until(lambda: self.seen("#model option"))

    def seen(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, name):
        return self.driver.find_element(By.ID, name).text

    def click(self, name):
        element = self.driver.find_element(By.ID, name)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        self.driver.execute_script("arguments[0].click()", element)

    def set(self, name, value):
        self.driver.execute_script(SET, name, value)

    def pictures(self, selector):
        return [pixels_of(image.get_attribute("src")) for image in self.seen(selector)]

    def until_done(self):
        until(lambda: self.text("status").startswith("Done"), 120)
        assert not self.text("error")


@pytest.fixture
def driver():
    options = webdriver.ChromeOptions()
    for option in OPTIONS:
        options.add_argument(option)
    with webdriver.Chrome(options=options, service=Service(DRIVER)) as driver:
        yield driver


def test_images_grow_and_a_drawing_is_stopped(driver):
    gated = drawer(kind=Gated)
    with running(gated) as address:
        page = Page(driver, address)
        page.set("label", "dog")
        page.click("draw")
        gated.permits.release(2)  # loaded and started
        until(lambda: len(page.seen(".maps img")) == 1)
        first = page.pictures(".run img")
        assert "scale 2 of 3" in page.text("status")
        gated.permits.release()
        until(lambda: len(page.seen(".maps img")) == 2)
        assert any(np.any(one != other) for one, other in zip(first, page.pictures(".run img")))
        page.click("stop")
        until(lambda: page.text("status").startswith("Stopped"))
        gated.permits.release(100)
        until(lambda: gated.left)
        page.click("draw")
        page.until_done()
        assert len(page.seen(".maps img")) == 3 and len(page.seen(".run img")) == 4
        assert "--labels=dog" in page.text("command-lines")


def test_a_drawn_image_is_edited_under_a_painted_mask(driver):
    with running(drawer()) as address:
        page = Page(driver, address)
        page.click("draw")
        page.until_done()
        source = page.pictures(".run img")[1]
        driver.execute_script("document.querySelectorAll('figcaption button')[1].click()")
        until(lambda: page.seen("body.editing"))
        page.click("draw")
        until(lambda: page.text("error").startswith("Nothing is painted, so the whole image would"))
        board = driver.find_element(By.ID, "mask")
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", board)
        side = board.size["width"] // 3
        stroke = ActionChains(driver).move_to_element_with_offset(board, side, -20).click_and_hold()
        stroke.move_by_offset(0, 40).release().perform()
        page.set("label", "owl")
        page.click("draw")
        until(lambda: page.seen("#edited-files:not([hidden])"), 120)
        page.until_done()
        mask = pixels_of(driver.find_element(By.ID, "save-mask").get_attribute("href"))[..., 0]
        (edited,) = page.pictures(".run img")
        assert 0 < np.mean(mask == 255) < 0.5
        np.testing.assert_array_equal(edited[mask == 0], source[mask == 0])
        assert np.any(edited[mask == 255] != source[mask == 255])


def test_two_policies_stand_side_by_side_and_bad_input_is_said(driver):
    with running(drawer()) as address:
        page = Page(driver, address)
        page.click("compare")
        page.set("policy-1", "sliding_window")
        page.set("ratio-1", "0.5")
        page.click("draw")
        page.until_done()
        assert len(page.seen(".run")) == 2 and len(page.seen("#differences img")) == 4
        assert "PSNR of sliding_window 0.5 against all kept" in page.text("psnr")
        assert "KiB" in page.text("bytes-table")
        page.set("label", "fox")
        page.click("draw")
        until(lambda: "labels: got 'fox', expected class indices" in page.text("error"))
        assert page.text("status").startswith("Failed")


def test_wrong_fields_are_said_where_they_are_seen_and_nowhere_else(driver):
    with running(drawer()) as address:
        page = Page(driver, address)
        page.click("mode-edit")
        page.set("threshold", "7")
        page.set("columns", "")
        page.click("draw")
        until(lambda: page.text("error").startswith("Threshold: "))
        driver.execute_script("document.querySelector('[name=mode]').click()")
        page.click("draw")
        until(lambda: page.text("error").startswith("Images of each: "))
        page.set("columns", "1")
        page.click("draw")
        page.until_done()
