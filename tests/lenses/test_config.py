"""A pack's configuration says only what the format allows, and its identity is its content."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenses.config import HostConfig, InputConfig, LensConfig, PackConfig
from lenses.errors import ConfigError, PackFormatError

DIGEST = "0123456789abcdef" * 4
SOURCE = "some/config.json"


def some_config(**changes) -> PackConfig:
    lens = changes.pop("lens", LensConfig("mlp", (4, 3), "bf16", 2))
    names = ["concepts.jsonl", "families.json", "heads.safetensors", *lens.shard_names, "host/config.json"]
    fields = {
        "host": HostConfig("owner/model", "abc123", 16, 4, "bf16"),
        "site": "resid_post.2",
        "input": InputConfig("rms", 1e-6, "ema:0.9"),
        "lens": lens,
        "base_levels": (0, 1),
        "concepts": 21,
        "families": 10,
        "sha256": dict.fromkeys(names, DIGEST),
        "provenance": {"made": ["by", {"hand": None}], "é": 1.5},
        "licence": "apache-2.0",
    }
    return PackConfig(**{**fields, **changes})


def as_json(**changes) -> dict:
    return {**json.loads(some_config().to_bytes()), **changes}


def read(value: object) -> PackConfig:
    return PackConfig.from_bytes(json.dumps(value).encode(), SOURCE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    kind=st.sampled_from(["mlp", "linear", "compact"]),
    dtype=st.sampled_from(["bf16", "fp32", "int8"]),
    norm=st.sampled_from(["none", "rms", "layer"]),
    pooling=st.sampled_from(["token", "mean", "ema:0.5", "ema:.99", "ewm:0.9"]),
    widths=st.tuples(st.integers(1, 999), st.integers(1, 999), st.integers(1, 999)),
    shards=st.integers(1, 5),
    levels=st.integers(1, 6),
    provenance=st.dictionaries(st.text(), json_values, max_size=3),
)
def test_any_configuration_survives_a_round_trip(
    kind, dtype, norm, pooling, widths, shards, levels, provenance
):
    lens = LensConfig(kind, widths[: {"mlp": 2, "linear": 0, "compact": 3}[kind]], dtype, shards)
    input = InputConfig(norm, 1e-5, pooling)
    config = some_config(lens=lens, input=input, base_levels=tuple(range(levels)), provenance=provenance)
    again = PackConfig.from_bytes(config.to_bytes(), SOURCE)
    assert again == config
    assert again.to_bytes() == config.to_bytes()
    assert again.identity == config.identity


def test_identity_is_of_the_content_and_not_of_its_spelling():
    value = as_json()
    shuffled = dict(reversed(value.items()))
    assert read(shuffled).identity == some_config().identity
    assert read(as_json(site="resid_post.1")).identity != some_config().identity


def test_what_a_configuration_says_of_its_site_host_and_pooling():
    config = some_config()
    assert config.block == 2
    assert config.host_files == ("host/config.json",)
    assert config.input.decay == 0.9
    assert replace(config.input, pooling="mean").decay is None
    assert config.lens.h1 == 4
    assert config.lens.columns(16) == 16
    assert config.lens.describe(16) == "mlp 16-4-3-1"
    linear = LensConfig("linear", ())
    assert (linear.h1, linear.columns(16), linear.describe(16)) == (1, 16, "linear 16-1")
    compact = LensConfig("compact", (5, 4, 3))
    assert (compact.h1, compact.columns(16)) == (4, 5)
    assert compact.describe(16) == "compact 16-5-4-3-1 (one projection to R = 5 for all)"
    assert config.lens.shard_names == (
        "lenses-00001-of-00002.safetensors",
        "lenses-00002-of-00002.safetensors",
    )


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "the format is list"),
        (b'{"format":"other"}', "the format is 'other', expected 'phoropter-lens-pack'"),
        (b'{"format":"a\\nb"}', "the format is 'a\\nb'"),
        (b'{"format":"phoropter-lens-pack","version":1,"version":1}', "'version' stands twice"),
        (b'{"format":"phoropter-lens-pack","version":Infinity}', "Infinity"),
        (b'{"n":' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_damaged_json_is_one_line(one_line, raw, part):
    with pytest.raises(PackFormatError) as caught:
        PackConfig.from_bytes(raw, SOURCE)
    one_line(caught, SOURCE, part)


@pytest.mark.parametrize("version", [2, 0, "1", True, 1.0, None])
def test_an_unknown_version_is_refused(one_line, version):
    with pytest.raises(PackFormatError) as caught:
        read(as_json(version=version))
    one_line(caught, SOURCE, "version", "expected 1", "upgrade phoropter")


@pytest.mark.parametrize(
    "path", [("colour",), ("host", "colour"), ("input", "colour"), ("lens", "colour")], ids=".".join
)
def test_an_unknown_field_is_refused(one_line, path):
    value = as_json()
    place = value if len(path) == 1 else value[path[0]]
    place["colour"] = "red"
    with pytest.raises(PackFormatError) as caught:
        read(value)
    one_line(caught, SOURCE, f"'{'.'.join(path)}' is unknown", "upgrade phoropter")


@pytest.mark.parametrize("name", sorted(as_json().keys() - {"format", "version"}))
def test_a_missing_field_is_refused(one_line, name):
    value = as_json()
    del value[name]
    with pytest.raises(PackFormatError) as caught:
        read(value)
    one_line(caught, SOURCE, f"'{name}' is missing")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("host", []),
        ("host.id", ""),
        ("host.id", 7),
        ("host.revision", 7),
        ("host.revision", "two\nlines"),
        ("host.hidden_size", 0),
        ("host.hidden_size", "16"),
        ("host.hidden_size", True),
        ("host.hidden_size", 10**400),
        ("host.blocks", -1),
        ("host.dtype", "int4"),
        ("site", "resid_post.4"),
        ("site", "resid_pre.1"),
        ("site", "resid_post.01"),
        ("site", 2),
        ("input", None),
        ("input.norm", "batch"),
        ("input.norm", []),
        ("input.eps", 0),
        ("input.eps", "small"),
        ("input.eps", 10**400),
        ("input.pooling", "max"),
        ("input.pooling", "ema:1"),
        ("input.pooling", "ewm:1"),
        ("input.pooling", "ema:0.0"),
        ("input.pooling", "ema:nan"),
        ("input.pooling", None),
        ("lens.kind", "resnet"),
        ("lens.widths", [4]),
        ("lens.widths", [5, 4, 3]),
        ("lens.widths", []),
        ("lens.widths", [4, 0]),
        ("lens.widths", "43"),
        ("lens.dtype", "fp16"),
        ("lens.dtype", ["int8"]),
        ("lens.shards", 0),
        ("lens.shards", 10**9),
        ("base_levels", []),
        ("base_levels", [1]),
        ("base_levels", [0, 2]),
        ("base_levels", [False]),
        ("base_levels", 0),
        ("top_k", 0),
        ("top_k", True),
        ("load_threshold", 0.0),
        ("load_threshold", 1),
        ("load_threshold", "0.3"),
        ("concepts", 0),
        ("concepts", 2.0),
        ("families", 22),
        ("calibration_prior", 1),
        ("calibration_prior", "half"),
        ("provenance", []),
        ("licence", ""),
        ("sha256", []),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(one_line, name, wrong):
    value = as_json()
    if isinstance(wrong, int) and wrong > 2**64:
        wrong = int("9" * 400)
    *above, last = name.split(".")
    place = value[above[0]] if above else value
    place[last] = wrong
    with pytest.raises(PackFormatError) as caught:
        read(value)
    one_line(caught, SOURCE, name, "expected")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "host/../../x",
        "/etc/passwd",
        "host/..",
        "host\\..\\x",
        "C:x",
        "host//x",
        "./concepts.jsonl",
        "host/",
    ],
)
def test_a_file_name_that_leads_out_of_the_pack_is_refused(one_line, name):
    value = as_json()
    value["sha256"][name] = DIGEST
    with pytest.raises(PackFormatError) as caught:
        read(value)
    one_line(caught, SOURCE, name.replace("\\", "\\"), "leads out of the pack", "do not use this pack")


@pytest.mark.parametrize("name", ["", "a\nb", "host/\x1b"])
def test_a_file_name_that_is_no_name_is_refused(one_line, name):
    value = as_json()
    value["sha256"][name] = DIGEST
    with pytest.raises(PackFormatError) as caught:
        read(value)
    one_line(caught, SOURCE, "the name of a file in the pack")


def test_a_file_that_the_format_does_not_have_is_refused(one_line):
    value = as_json()
    value["sha256"]["model.pickle"] = DIGEST
    with pytest.raises(PackFormatError) as caught:
        read(value)
    one_line(caught, SOURCE, "'model.pickle'", "names a file that the format does not have")


def test_a_data_file_without_a_hash_is_refused(one_line):
    value = as_json()
    del value["sha256"]["heads.safetensors"]
    with pytest.raises(PackFormatError) as caught:
        read(value)
    one_line(caught, SOURCE, "'heads.safetensors'", "has no hash")


@pytest.mark.parametrize("digest", ["", "abc", DIGEST.upper(), 7])
def test_a_hash_that_is_none_is_refused(one_line, digest):
    value = as_json()
    value["sha256"]["heads.safetensors"] = digest
    with pytest.raises(PackFormatError) as caught:
        read(value)
    one_line(caught, SOURCE, "sha256 of heads.safetensors", "64 hexadecimal digits")


@pytest.mark.parametrize("provenance", ['"\\ud800"', "[" * 600 + "]" * 600])
def test_provenance_that_has_no_canonical_bytes_is_refused(one_line, provenance):
    raw = json.dumps(as_json(provenance={"x": "HERE"})).replace('"HERE"', provenance)
    with pytest.raises(PackFormatError) as caught:
        PackConfig.from_bytes(raw.encode(), SOURCE)
    one_line(caught, SOURCE)


def test_a_part_that_cannot_hold_is_a_config_error_when_made_in_python():
    with pytest.raises(ConfigError):
        LensConfig("mlp", ())
    with pytest.raises(ConfigError):
        some_config(site="resid_post.9")
