# What the suites here share; read by `source`. Each runs against a gateway of its
# own, freshly built and started on free ports, and leaves nothing behind.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
# shellcheck disable=SC2046
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null; rm -rf "$work"' EXIT

# Installs what is missing: pairs of command:package.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "installing: ${missing[*]}"
    local as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# A free port of the loopback address.
port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Waits until somebody listens at a port.
until_open() {
    timeout 60 bash -c "until (exec 3<>/dev/tcp/127.0.0.1/$1) 2>/dev/null; do sleep 0.1; done"
}

# A certificate for localhost: $work/crt and $work/key.
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout "$work/key" -out "$work/crt" 2>/dev/null
}

# The lines with which a gateway speaks TLS.
tls_lines() {
    printf '[tls]\ncert_file = "%s"\nkey_file = "%s"\n' "$work/crt" "$work/key"
}

# Starts a gateway before 127.0.0.1:$1 with further lines $2 (whole tables) and, if
# given, lines for the head of the file $3; sets $door, $admin and $gateway.
start_gateway() {
    door=$(port) admin=$(port)
    printf 'listen = "127.0.0.1:%s"\norigin = "http://127.0.0.1:%s"\nstate_dir = ""\n%b\n[log]\naccess = false\n[admin]\nlisten = "127.0.0.1:%s"\n%b\n[[event]]\nid = "main"\n' \
        "$door" "$1" "${3:-}" "$admin" "${2:-}" >"$work/gateway-$door.toml"
    target/debug/sumun run --config "$work/gateway-$door.toml" >"$work/log-$door" 2>&1 &
    gateway=$!
    until target/debug/sumun health --admin "127.0.0.1:$admin" >/dev/null 2>&1; do
        kill -0 "$gateway" || { cat "$work/log-$door"; exit 1; }
        sleep 0.1
    done
}

# Ends a gateway, which has to go by itself once it is told.
stop_gateway() {
    kill "$1"
    wait "$1" || { echo "the gateway ended with $?"; exit 1; }
}
