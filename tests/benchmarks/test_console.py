from __future__ import annotations

import pytest

from benchmarks.console import growth, loading, use
from benchmarks.console.changes import key_of, row_of
from benchmarks.console.growth import Sample
from benchmarks.console.loading import Times
from benchmarks.console.start import section as start_section
from benchmarks.console.static import ALL, COLUMNS, INERT, filled, page
from benchmarks.report import MeasurementError
from benchmarks.startup import Start

INSTANCE = dict.fromkeys(COLUMNS, 1) | {"model_name": "<m0>@llm", "drain": None}


def test_a_static_page_has_a_row_for_each_instance_and_escapes_names() -> None:
    text = page([INSTANCE] * 3)
    assert text.count("<tr><td>1</td><td>&lt;m0&gt;@llm</td>") == 3
    assert "<m0>" not in text
    assert "None" not in text


def test_a_static_page_is_filled_to_the_byte_behind_its_table() -> None:
    text = filled(page([INSTANCE]), 5000)
    assert len(text.encode()) == 5000
    assert text.index("</table>") < text.index("<script type=")


def test_a_static_page_is_not_filled_when_its_table_is_larger_already() -> None:
    with pytest.raises(MeasurementError, match="smaller than its table"):
        filled(page([INSTANCE] * 100), 5000)


def test_a_console_that_is_slower_than_a_static_page_of_as_many_bytes_misses_its_bound() -> None:
    times = {
        "instances": Times([400.0, 500.0], [400.0, 500.0]),
        "overview": Times([300.0, 300.0], [300.0, 300.0]),
        INERT: Times([90.0, 100.0], [90.0, 100.0]),
        ALL: Times([200.0, 200.0], [600.0, 600.0]),
    }
    section = loading.section(times, 5000, 1000, 2_000_000)
    assert [row.missed for row in section.rows] == [True, False, False, False]
    assert section.rows[0].cells[1:] == ("450", "95", "4.4 to 5.0")


def test_memory_is_compared_by_the_medians_of_the_first_and_last_quarter() -> None:
    flat = [Sample(4.0, 100, 10)] * 20
    grown = [Sample(4.0 + number / 10, 100, 10) for number in range(20)]
    rows = growth.section({"instances": flat, "events": grown}).rows
    assert [row.missed for row in rows] == [False, False, False, True, False, False]
    assert rows[3].cells == ("view of events: JavaScript heap, MB", "4.2", "5.7")


def test_a_start_is_compared_by_both_clocks() -> None:
    section = start_section([Start(0.5, 0.42)] * 3, [Start(0.5, 0.4)] * 3)
    assert [row.missed for row in section.rows] == [False, True]


def test_the_times_of_use_are_shown_with_their_spread() -> None:
    assert use.section({"a key": [12.4, 90.0, 20.0]}, 5000).rows[0].cells == ("a key", "20", "12", "90")


def test_a_row_is_found_by_the_key_that_the_page_gives_it() -> None:
    assert row_of(key_of(1001, 1000)) == 'main tbody tr[data-key="[\\"m1@llm\\",\\"10.0.3.233\\",8001]"]'
