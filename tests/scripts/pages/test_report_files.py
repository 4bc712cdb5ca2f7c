"""A report lies as JSON, page and pictures side by side."""

from pathlib import Path

from pages.report_files import picture_name, write_report


def test_files_lie_beside_each_other_under_the_names_that_the_page_uses(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "one.two"
    name = picture_name(out, "bars")
    assert name == "pictures/one.two-bars.svg"
    paths = write_report(out, json="{}\n", page="# t\n", pictures={name: "<svg/>"})
    assert [path.relative_to(out.parent).as_posix() for path in paths] == ["one.two.json", "one.two.md", name]
    assert [path.read_text() for path in paths] == ["{}\n", "# t\n", "<svg/>"]
    assert len(write_report(tmp_path / "plain", json="{}", page="")) == 2
    assert not (tmp_path / "pictures").exists()
