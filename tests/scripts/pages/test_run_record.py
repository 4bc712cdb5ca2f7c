"""What a report says of how it came about."""

import hashlib
from pathlib import Path

import pytest
from pages.run_record import RunRecord, sha256_of

from lenses.errors import SourceError


def test_equal_configurations_have_equal_hashes_and_others_do_not() -> None:
    def sha256(**settings: object) -> str:
        return RunRecord.begin(["python", "x.py"], settings).configuration_sha256

    assert sha256(a=1, b="x") == sha256(b="x", a=1)
    assert sha256(a=1) != sha256(a=2)


def test_a_record_names_command_run_commit_hardware_and_versions() -> None:
    record = RunRecord.begin(["python", "scripts/x.py", "--seed", "1"], {"seed": 1})
    found = record.to_json()
    assert found["command"] == "python scripts/x.py --seed 1"
    assert record.run.endswith(record.configuration_sha256[:8])
    assert record.commit
    assert record.hardware["cores"]
    assert record.versions.keys() >= {"python", "torch", "numpy", "transformers"}


def test_the_hash_of_files_is_of_their_bytes_in_order_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    files = [tmp_path / "a", tmp_path / "b"]
    assert sha256_of(files) == hashlib.sha256(b"onetwo").hexdigest()
    assert sha256_of(files[::-1]) != sha256_of(files)
    with pytest.raises(SourceError, match="nowhere"):
        sha256_of([tmp_path / "nowhere"])
