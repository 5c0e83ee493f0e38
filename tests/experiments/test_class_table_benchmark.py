"""The benchmark of the class table runs at a small size (experiments.benchmarks.class_table)."""

import pytest

from experiments.benchmarks import class_table


@pytest.mark.long
def test_bytes_a_device_and_seconds_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(class_table, "TABLE_VIDEOS", 64)
    class_table.main(classes=4000, size=8, hidden=4, videos=16, samples=32, models=(1, 4), rounds=1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    one, four = (line for line in lines if line and line[0] in "14" and "loss" in line)
    together = 5
    assert one[2] == four[2] == "MB"
    assert float(four[together]) < float(one[together]) / 2
    first, last = (float(one[place]) for place in (-3, -1))
    assert last < first


def test_what_is_sent_is_read_from_the_program():
    class Program:
        def as_text(self):
            return """
ENTRY %main (x: f32[100,8]) -> f32[50,8] {
  %x = f32[100,8]{1,0} parameter(0)
  %y = f32[4,8]{1,0} slice(%x)
  %z = u8[7]{0} bitcast(%x)
  %a = f32[100,8]{1,0} all-reduce(%x), replica_groups={{0},{1}}, use_global_device_ids=true
  %b = (f32[4,8]{1,0}, u8[7]{0}) all-reduce(%y, %z), replica_groups={{0,1}}
  %c = f32[50,8]{1,0} fusion(%x)
}"""

        def memory_analysis(self):
            class Analysis:
                argument_size_in_bytes, temp_size_in_bytes = 3, 4

            return Analysis()

    found = class_table.sizes(Program())
    assert found.largest_sent == 4 * 8 * 4
    assert (found.arguments, found.temporaries) == (3, 4)
