"""Where an option comes from, and what a wrong one says."""

from pathlib import Path

import pytest

from serving.config import ServerConfig, load_config, split_address
from serving.errors import StartupError
from serving.limits import ClientLimits


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text("models: from-file\nmax_beam: 5\nmax_contents: 6\n")
    return path


def test_flags_beat_the_file_which_beats_variables_which_beat_defaults(file: Path) -> None:
    config = load_config(
        ["--config", str(file), "--max-beam", "7"],
        {"DRAGOMAN_MAX_BEAM": "3", "DRAGOMAN_MAX_CONTENTS": "4", "DRAGOMAN_THREADS": "2"},
    )
    assert (config.max_beam, config.max_contents, config.threads) == (7, 6, 2)
    assert config.models == Path("from-file")
    assert config.drain_timeout == ServerConfig.model_fields["drain_timeout"].default


def test_the_file_itself_can_be_named_by_a_variable(file: Path) -> None:
    assert load_config([], {"DRAGOMAN_CONFIG": str(file)}).max_beam == 5


def test_every_option_can_come_from_every_place(tmp_path: Path) -> None:
    wanted = ServerConfig(
        models=Path("m"),
        default_model="en-fr",
        listen="[::1]:0",
        max_calls_per_second=2.5,
        allowed_hosts=("a.example", "b.example"),
        tls_cert=Path("c"),
        tls_key=Path("k"),
        tls_client_ca=Path("ca"),
        admin="127.0.0.1:3",
        watch=True,
        run_timeout=1.5,
        otlp_endpoint="http://collector:4317",
        trace_ratio=0.5,
        client_limits=ClientLimits(calls=3, rate=0.5),
        max_memory_bytes=7,
        tokens=Path("t"),
        insecure=True,
        reflection=False,
    )
    values = {key: str(value) for key, value in wanted.model_dump().items()}
    path = tmp_path / "all.yaml"
    path.write_text("".join(f"{key}: '{value}'\n" for key, value in values.items()))
    flags = []
    for key, value in values.items():
        name = key.replace("_", "-")
        flags += {"True": [f"--{name}"], "False": [f"--no-{name}"]}.get(value, [f"--{name}", value])
    assert load_config(flags, {}) == wanted
    assert load_config(["--config", str(path)], {}) == wanted
    assert load_config([], {f"DRAGOMAN_{key.upper()}": value for key, value in values.items()}) == wanted


CERTIFICATE = ["--tls-cert", "c", "--tls-key", "k"]


@pytest.mark.parametrize("port", ["--listen", "--http"])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "[2001:db8::1]", "example.com"])
def test_other_machines_need_more_than_an_address(port: str, host: str) -> None:
    exposed = ["--models", "m", port, f"{host}:1"]
    for less in ([], CERTIFICATE, ["--tokens", "t"]):
        with pytest.raises(StartupError) as caught:
            load_config([*exposed, *less], {})
        assert str(caught.value).startswith(f"other machines can reach {host}:1: ")
        for way in ("127.0.0.1", "--tls-cert", "--tokens", "--insecure"):
            assert way in str(caught.value)
    for enough in ([*CERTIFICATE, "--tokens", "t"], [*CERTIFICATE, "--tls-client-ca", "ca"], ["--insecure"]):
        load_config([*exposed, *enough], {})
    load_config(exposed, {"DRAGOMAN_INSECURE": "true"})


def test_an_admin_port_for_other_machines_needs_tokens() -> None:
    exposed = ["--models", "m", "--admin", "0.0.0.0:1", *CERTIFICATE, "--tls-client-ca", "ca"]
    with pytest.raises(StartupError, match=r"other machines can reach --admin 0\.0\.0\.0:1 and there are no tokens"):
        load_config(exposed, {})
    load_config([*exposed, "--tokens", "t"], {})
    load_config([*exposed, "--insecure"], {})
    assert load_config(["--models", "m"], {}).admin is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"])
def test_this_machine_needs_no_more_than_an_address(host: str) -> None:
    load_config(["--models", "m", "--listen", f"{host}:1", "--http", f"{host}:2"], {})


def test_variables_of_others_are_none_of_our_business() -> None:
    environment = {"DRAGOMAN_DATA": "corpora", "DRAGOMAN_TOKEN": "of the client", "PATH": "/bin", "MAX_BEAM": "x"}
    assert load_config(["--models", "m"], environment).models == Path("m")


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "models is not set; give --models"),
        (["--models", "m"], {"DRAGOMAN_MAX_BEEM": "4"}, "DRAGOMAN_MAX_BEEM; did you mean DRAGOMAN_MAX_BEAM?"),
        (["--models", "m"], {"DRAGOMAN_XYZZY": "4"}, "DRAGOMAN_XYZZY; remove it, or use one of DRAGOMAN_ADMIN,"),
        (["--models", "m", "--max-beam", "0"], {}, "--max-beam = '0': should be greater than or equal to 1"),
        (["--models", "m"], {"DRAGOMAN_THREADS": "two"}, "DRAGOMAN_THREADS = 'two': should be a valid integer"),
        (["--models", "m", "--device", "tpu"], {}, "--device = 'tpu': should be 'auto', 'cpu' or 'cuda'"),
        (["--models", "m", "--drain-timeout", "nan"], {}, "--drain-timeout = 'nan'"),
        (["--models", "m", "--listen", "localhost"], {}, "'localhost' is not HOST:PORT"),
        (["--models", "m", "--http", "localhost:70000"], {}, "'localhost:70000' is not HOST:PORT"),
        (["--models", "m", "--client-limits", "calls"], {}, "--client-limits = 'calls': limits are words like calls=4"),
        (["--models", "m", "--tls-cert", "c"], {}, "tls_cert and tls_key belong together"),
        (["--models", "m", "--tls-client-ca", "c"], {}, "tls_client_ca needs TLS"),
        (["--models", "m"], {"DRAGOMAN_INSECURE": "maybe"}, "DRAGOMAN_INSECURE = 'maybe': should be a valid boolean"),
        (["--models", "m", "--config", "absent.yaml"], {}, "cannot read the configuration absent.yaml"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(arguments: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError) as caught:
        load_config(arguments, environment)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("max_beem: 4", "unknown key 'max_beem' in"),
        ("- models", "is not a YAML mapping"),
        ("models: [", "cannot read the configuration"),
        ("models: m\nmax_contents: many", "max_contents in"),
    ],
)
def test_a_wrong_file_is_one_clear_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(content)
    with pytest.raises(StartupError, match=message) as caught:
        load_config(["--config", str(path)], {})
    assert str(path) in str(caught.value)


def test_unknown_flags_end_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        load_config(["--max-beem", "4"], {})
    assert "--max-beem" in capsys.readouterr().err


def test_addresses() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("0.0.0.0:0") == ("0.0.0.0", 0)
