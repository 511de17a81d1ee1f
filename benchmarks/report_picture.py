"""A picture of a report, by a headless Chromium (Debian: chromium and chromium-driver; selenium is in the test extra).

    python benchmarks/report_picture.py --page=runs/tiny/report.html --out=docs/report.png

`--width` and `--height` of the window, `--at=ID` to scroll to a section, `--dark` for the dark theme, `--whole` for all
of the page, `--print` for a PDF instead.
"""

import argparse
import base64
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextlib.contextmanager
def browser(width: int = 1280, height: int = 900, scale: float = 1.0) -> Iterator:
    """A Chromium with a new empty profile, driven by selenium; it keeps logs of its console and of its requests.

    Raises:
      FileNotFoundError: where there is no chromium or no chromedriver.
    """
    from selenium import webdriver

    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    for name, path in (("chromium", binary), ("chromedriver", driver := shutil.which("chromedriver"))):
        if path is None:
            raise FileNotFoundError(f"no {name} on this machine; apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            window(opened, width, height, scale)
            # A page behind nothing has the focus or not by chance, and without it hears of none.
            opened.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
            yield opened
        finally:
            opened.quit()


def window(driver, width: int, height: int, scale: float = 1.0) -> None:
    """Sets the size of what is seen, in CSS pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def media(driver, kind: str = "", scheme: str = "light") -> None:
    """What the page's media queries see: "screen" or "print", "light" or "dark"."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": features})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", type=Path, required=True, help="report.html or compare.html")
    parser.add_argument("--out", type=Path, required=True, help="a .png (a .pdf with --print)")
    parser.add_argument("--width", type=int, default=1240)
    parser.add_argument("--height", type=int, default=1530)
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the picture for each of the page")
    parser.add_argument("--at", default="", help="id of the element to scroll to")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--whole", action="store_true", help="all of the page, whatever --height says")
    parser.add_argument("--print", action="store_true", help="the printed page, as PDF")
    args = parser.parse_args()
    if not args.page.is_file():
        parser.error(f"there is no {args.page}")
    with browser(args.width, args.height, args.scale) as driver:
        media(driver, scheme="dark" if args.dark else "light")
        driver.get(args.page.resolve().as_uri())
        if args.print:
            found = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
        else:
            if args.whole:
                tall = driver.execute_script("return document.documentElement.scrollHeight")
                window(driver, args.width, tall, args.scale)
            if args.at:
                driver.execute_script("document.getElementById(arguments[0]).scrollIntoView()", args.at)
            found = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(base64.b64decode(found["data"]))
    print(args.out)


if __name__ == "__main__":
    main()
