# Sourced by bin/harness, bin/test and bin/lock: makes and refreshes .venv. POSIX sh.

# ensure_venv ROOT run|test: .venv as pyproject.toml and requirements/ want it, with the test tools for `test`.
ensure_venv() {
    _root=$1 _kind=$2
    _venv=$_root/.venv
    is_current "$_kind" && return 0
    (
        # One at a time: two commands started at once must not both install. A file that was removed while we waited
        # (git clean) is not the one that others lock now.
        for _ in 1 2 3 4 5 6 7 8 9; do
            exec 9>"$_root/.venv.lock"
            flock 9 2>/dev/null || break
            if [ /proc/self/fd/9 -ef "$_root/.venv.lock" ]; then break; fi
        done
        is_current "$_kind" && exit 0
        _python=$(find_python) || exit $?
        [ -x "$_venv/bin/python" ] && "$_venv/bin/python" -c '' 2>/dev/null || {
            echo "harness: making .venv" >&2
            "$_python" -m venv --clear "$_venv" >/dev/null 2>&1 || {
                install_venv_module || exit $?
                "$_python" -m venv --clear "$_venv" >&2 || exit 3
            }
        }
        rm -f "$_venv"/.stamp-*
        install_packages || exit $?
        wanted run >"$_venv/.stamp-run" # what tests need includes what the harness needs
        [ "$_kind" = run ] || wanted "$_kind" >"$_venv/.stamp-$_kind"
    )
}

wanted() {
    cat "$_root/pyproject.toml" "$_root/requirements/$1.lock" | cksum
}

is_current() {
    [ -x "$_venv/bin/python" ] && [ -f "$_venv/.stamp-$1" ] && [ "$(cat "$_venv/.stamp-$1")" = "$(wanted "$1")" ]
}

# The exact versions that CI tests, checked by their hashes. Where they do not fit (another Python, a package index that
# lacks one of them), what pyproject.toml allows; .venv/.locked is there in the first case only.
install_packages() {
    echo "harness: installing the Python packages of requirements/$_kind.lock" >&2
    rm -f "$_venv/.locked"
    if pip_install --require-hashes -r "$_root/requirements/$_kind.lock" >"$_venv/pip.log" 2>&1 &&
        pip_install --no-deps --no-build-isolation -e "$_root" >>"$_venv/pip.log" 2>&1; then
        : >"$_venv/.locked"
        return 0
    fi
    if grep -q 'DO NOT MATCH THE HASHES' "$_venv/pip.log"; then
        echo "harness: the package index delivers other files than requirements/$_kind.lock has hashes of:" >&2
        tail -n 8 "$_venv/pip.log" >&2
        echo "harness: see where they come from; after you have convinced yourself of them, bin/lock writes the hashes anew" >&2
        return 3
    fi
    echo "harness: these exact versions do not fit here ($_venv/pip.log says why); installing what pyproject.toml allows" >&2
    _extra=; [ "$_kind" = test ] && _extra='[test]'
    pip_install -e "$_root$_extra" >"$_venv/pip-ranges.log" 2>&1 || {
        echo "harness: pip could not install them; the last lines of $_venv/pip-ranges.log:" >&2
        tail -n 8 "$_venv/pip-ranges.log" >&2
        return 3
    }
}

pip_install() {
    "$_venv/bin/python" -m pip install -q --disable-pip-version-check "$@"
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
