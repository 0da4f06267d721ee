# Sourced by bin/harness and bin/test: makes and refreshes .venv. POSIX sh.

# ensure_venv ROOT run|test: .venv as pyproject.toml wants it, with the test tools for `test`.
ensure_venv() {
    _root=$1 _kind=$2
    _venv=$_root/.venv
    _stamp=$_venv/.stamp-$_kind
    _want=$(cksum <"$_root/pyproject.toml")
    [ -x "$_venv/bin/python" ] && [ -f "$_stamp" ] && [ "$(cat "$_stamp")" = "$_want" ] && return 0
    (
        # one at a time: two commands started at once must not both install
        exec 9>"$_root/.venv.lock"
        flock 9 2>/dev/null || :
        [ -f "$_stamp" ] && [ "$(cat "$_stamp")" = "$_want" ] && exit 0
        _python=$(find_python) || exit $?
        [ -x "$_venv/bin/python" ] && "$_venv/bin/python" -c '' 2>/dev/null || {
            echo "harness: making .venv" >&2
            "$_python" -m venv --clear "$_venv" >/dev/null 2>&1 || {
                install_venv_module || exit $?
                "$_python" -m venv --clear "$_venv" >&2 || exit 3
            }
        }
        _extra=; [ "$_kind" = test ] && _extra='[test]'
        echo "harness: installing the Python packages that pyproject.toml names" >&2
        "$_venv/bin/python" -m pip install -q --disable-pip-version-check -e "$_root$_extra" >"$_venv/pip.log" 2>&1 || {
            echo "harness: pip could not install them; the last lines of $_venv/pip.log:" >&2
            tail -n 8 "$_venv/pip.log" >&2
            exit 3
        }
        rm -f "$_venv"/.stamp-*
        printf '%s' "$_want" >"$_stamp"
        [ "$_kind" = test ] && printf '%s' "$_want" >"$_venv/.stamp-run"
        :
    )
}

find_python() {
    for _candidate in python3 python3.13 python3.12 python3.11; do
        if "$_candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$_candidate"
            return 0
        fi
    done
    echo "harness: expected Python 3.11 or newer on PATH, found $(python3 --version 2>&1); install it" >&2
    return 3
}

# Debian keeps the venv module in a package of its own.
install_venv_module() {
    if [ "$(id -u)" = 0 ]; then _sudo=; elif sudo -n true 2>/dev/null; then _sudo='sudo -n'; else _sudo=none; fi
    if [ "$_sudo" = none ] || ! command -v apt-get >/dev/null; then
        echo "harness: Python's venv module is missing; install it: sudo apt-get install python3-venv" >&2
        return 3
    fi
    echo "harness: installing python3-venv" >&2
    { $_sudo apt-get -qq update && $_sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv; } >/dev/null 2>&1 || {
        echo "harness: apt-get could not install python3-venv; try: apt-get install python3-venv" >&2
        return 3
    }
}
