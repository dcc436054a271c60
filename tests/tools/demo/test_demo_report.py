"""The report and the picture: whole, self-contained, and showing the run's figures."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from demo_recording import recorded_events, state_of, without_accuracy, write_run
from rich.console import Console

from fedsparse.errors import DataError
from tools.demo.charts import Series, score_chart, traffic_chart
from tools.demo.report import write_picture, write_report
from tools.demo.views import PlainView, render

VOID = {"meta", "br", "rect", "path", "circle"}
FETCHING = ("src", "href", "action", "data", "srcset", "poster")


class StrictParser(HTMLParser):
    """Checks that tags nest, and collects text and whatever could be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [f"{name}={value}" for name, value in attrs if name in FETCHING]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{name}={value}" for name, value in attrs if name in FETCHING]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(folder: Path) -> tuple[str, StrictParser]:
    html = write_report(folder).read_text(encoding="utf-8")
    parser = StrictParser()
    parser.feed(html)
    parser.close()
    return html, parser


@pytest.mark.parametrize("rounds", [1, 3, 40])
def test_the_report_is_well_formed_and_fetches_nothing(tmp_path: Path, rounds: int) -> None:
    html, parser = parse(write_run(tmp_path, rounds))
    assert parser.open == []
    assert parser.fetched == []
    assert not {"script", "link", "iframe", "img"} & set(parser.tags)
    assert not re.search(r"//|@import|url\(", html)


def test_the_report_shows_the_figures_and_the_reasons(tmp_path: Path) -> None:
    _, parser = parse(write_run(tmp_path))
    text = " ".join(parser.text)
    for expected in ("85.0 %", "80.0 %", "100,100", "0.70 s", "jetson-orin-nano", "64 MB",
                     "shares the board with a camera program", "model-0.05.onnx"):  # fmt: skip
        assert expected in text


def test_a_reason_cannot_become_markup(tmp_path: Path) -> None:
    html, parser = parse(write_run(tmp_path))
    assert "big <fits> & is quick" in parser.text
    assert "<fits>" not in html


def test_a_level_has_one_line_with_a_point_a_round(tmp_path: Path) -> None:
    html, _ = parse(write_run(tmp_path, 5))
    paths = re.findall(r'class="line s\d" d="M([^"]*)"', html)
    assert [path.count("L") for path in paths] == [4, 4, 4]


def test_higher_accuracy_is_drawn_higher() -> None:
    chart = score_chart(
        [Series(label="x", colour=0, points=((1, 0.2), (2, 0.9)))], width=500, height=300
    )
    match = re.search(r'class="line s0" d="M[\d.]+ ([\d.]+)L[\d.]+ ([\d.]+)"', chart)
    assert match
    assert float(match[1]) > float(match[2])


def test_a_model_without_right_and_wrong_is_shown_by_its_loss(tmp_path: Path) -> None:
    html, parser = parse(write_run(tmp_path, accuracy=False))
    text = " ".join(parser.text)
    assert "Test loss per round" in text
    assert "loss 0.15" in text
    assert "85.0 %" not in text
    assert "ccuracy" not in html
    state = state_of(without_accuracy(recorded_events()))
    console = Console(width=160)
    with console.capture() as capture:
        console.print(render(state, 160))
    assert "density 0.2: loss 0.15" in capture.get()


def test_a_higher_loss_is_drawn_higher_and_the_axis_ends_above_it() -> None:
    series = [Series(label="a", colour=0, points=((1, 7.0), (2, 3.5)))]
    chart = score_chart(series, width=400, height=200, is_loss=True)
    heights = [float(y) for y in re.findall(r'halo" cx="[\d.]+" cy="([\d.]+)"', chart)]
    assert 14 < heights[0] < 160
    assert "3.5" in chart
    assert "%" not in chart


def test_charts_without_a_round_are_still_drawn() -> None:
    ET.fromstring(score_chart([], width=400, height=200))  # noqa: S314
    ET.fromstring(traffic_chart([], 1000, width=400, height=200, times=""))  # noqa: S314


def test_columns_add_up_to_the_bytes_of_a_round(tmp_path: Path) -> None:
    html, _ = parse(write_run(tmp_path))
    titles = re.findall(r"<title>round (\d+): ([^<]*)</title>", html)
    # (80.4 + 40.4 + 20.4) kB both ways, 600 B a device, and 5 kB of mask a device in round 1
    assert dict(titles) == {"0": "0.2 MB", "1": "0.3 MB", "2": "0.3 MB", "3": "0.3 MB"}


def test_the_picture_is_a_picture_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "images" / "demo.svg"
    write_picture(write_run(tmp_path), path)
    root = ET.parse(path).getroot()  # noqa: S314
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "density 0.05" in "".join(root.itertext())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished run"):
        write_report(tmp_path)


@pytest.mark.parametrize(("width", "has_reason"), [(160, True), (80, False)])
def test_the_live_table_fits_the_terminal(width: int, has_reason: bool) -> None:
    console = Console(width=width, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render(state_of(recorded_events()), width))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "density 0.2: 85.0 %" in text
    assert ("is quick" in text) is has_reason


def test_plain_progress_is_one_line_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    state = state_of(recorded_events())
    view = PlainView()
    view.update(state)
    view.update(state)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("round")]) == 4
    assert "small (board-small): density 0.05: small <fits> & is quick" in lines
    assert "accuracy 0.400 at density 0.2" in lines[-2]


def test_a_round_that_waits_is_seen_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = {
        "event": "round_waiting", "round": 0, "stage": "sense", "ready": 0, "needed": 2,
        "not_ready": {}, "way_out": "lower sense_devices",
    }  # fmt: skip
    state, view = state_of([*recorded_events()[:2], waiting]), PlainView()
    view.update(state)
    view.update(state)
    text = "round 0 waits: 0 of 2 devices are ready; lower sense_devices"
    assert capsys.readouterr().err.splitlines() == [text]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(render(state, 120))
    assert text in capture.get()


def test_plain_progress_tells_the_loss_where_there_is_no_accuracy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    PlainView().update(state_of(without_accuracy(recorded_events())))
    lines = capsys.readouterr().err.splitlines()
    assert "test loss 0.600 at density 0.2" in lines[-2]
    assert not any("accuracy" in line for line in lines)
