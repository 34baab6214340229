# Read with `.` by the other scripts: where the project's environment is and what is in it.
# Needs `repo`, the root of the clone; sets `venv` and `python`.
# shellcheck shell=sh

: "${repo:?}"
venv=${FAIRVISOR_VENV:-.venv}
case $venv in
    /*) ;;
    *) venv=$repo/$venv ;;
esac
python=$venv/bin/python

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# Print the first Python >= 3.11 on PATH.
find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# Create the environment unless a working one is there.
make_venv() {
    if "$python" -c 'import pip' 2>/dev/null; then
        return
    fi
    base=$(find_python) || fail \
        'needs Python 3.11 or newer, and none is on PATH (Debian: apt-get install python3 python3-venv)'
    "$base" -c 'import ensurepip, venv' 2>/dev/null || fail \
        "$base has no venv module (Debian: apt-get install python3-venv)"
    printf 'creating %s\n' "$venv" >&2
    "$base" -m venv --clear "$venv" || fail "cannot create an environment in $venv"
}

# install_project SPEC: install the clone, editable, as SPEC says: `.` or `.[test]`.
# Does nothing while pyproject.toml is as it was and the clone where it was at the last install.
install_project() {
    make_venv
    stamp="$venv/.installed$1"
    if { printf '%s\n' "$repo"; cat pyproject.toml; } | cmp -s - "$stamp"; then
        return
    fi
    printf 'installing %s into %s\n' "$1" "$venv" >&2
    "$python" -m pip install --quiet --disable-pip-version-check --editable "$1" ||
        fail 'installation failed (see above)'
    { printf '%s\n' "$repo"; cat pyproject.toml; } >"$stamp"
}

# Where the conformance vectors are: FAIRVISOR_VECTORS, else beside the clone.
find_vectors() {
    if [ -z "${FAIRVISOR_VECTORS:-}" ] && [ -d "$repo/../shared/vectors" ]; then
        FAIRVISOR_VECTORS=$(cd "$repo/../shared/vectors" && pwd)
    fi
    [ -z "${FAIRVISOR_VECTORS:-}" ] || export FAIRVISOR_VECTORS
}
