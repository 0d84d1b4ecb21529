#!/usr/bin/env bash
# Sets up on first use, then hands the options to `asr-kd run`.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$root/.venv

usage() {
    cat <<'EOF'
Distil an ensemble of acoustic models into one network: from recordings to a table of frame accuracy and WER.

usage: ./run.sh [--recipe FILE] [--stage N] [--stop-stage M] [--exp DIR] [--set KEY.PATH=VALUE]...
                [--device cpu|cuda] [--jobs J] [--repair] [--no-page]
                [--executor local|ray] [--address HOST:PORT]
       ./run.sh --test

  --recipe FILE         what to run                       [recipes/default.yaml: the embedded corpus]
  --stage N             first stage                       [0]
  --stop-stage M        last stage                        [8]
  --exp DIR             where its files go                [exp/NAME below the current directory]
  --set KEY.PATH=VALUE  override a recipe key; may be repeated
  --device DEVICE       cpu or cuda                       [cpu]
  --jobs J              worker processes                  [the machine's cores]
  --repair              check every file, and make damaged ones anew
  --no-page             leave out report.html; asr-kd report makes it later
  --executor WHERE      where tasks run: on this machine, or on Ray's workers (docs/cluster.md)   [local]
  --address HOST:PORT   that of a running Ray             [RAY_ADDRESS, or a Ray on this machine alone]
  --test                run the tests instead
  --help                this text

stages: 0 prepare   corpus to manifests                5 targets  the ensemble's posteriors on the training frames
        1 features  filterbanks and MFCC               6 student  one network trained on them
        2 lang      lexicon and language model         7 decode   graphs and search
        3 align     GMM-HMM, one tied state per frame  8 score    results.json, report.html
        4 teachers  the ensemble's networks

A stage that is done with the same recipe keys and inputs is skipped, so the same command resumes an interrupted run.

examples:
  ./run.sh                                                   the embedded corpus, from nothing to the table
  ./run.sh --recipe recipes/libri_mini.yaml                  real speech (its first lines say what it needs)
  ./run.sh --set student.temperature=4 --exp exp/t4          another temperature, in an experiment of its own
  ./run.sh --stop-stage 3 --jobs 2                           up to the alignment, with two workers

The first run makes .venv beside this script (Python 3.11) and installs the package there; an active environment
that has the package already is used instead.
EOF
}

fail() {
    echo "run.sh: $*" >&2
    exit 2
}

find_python() {
    local candidate
    for candidate in $(type -aP python3.11 python3); do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 and finds no python3.11; install it or activate an environment that has the package"
}

install() {
    local base log=$venv/setup.log
    base=$(find_python)
    echo "run.sh: installing into $venv (some minutes and gigabytes on first use; log: $log)" >&2
    mkdir -p "$venv"
    if ! {
        "$base" -m venv "$venv" &&
            "$venv/bin/python" -m pip install --upgrade 'pip>=25.1' &&
            (cd "$root" && "$venv/bin/python" -m pip install --editable . --group dev)
    } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        fail "the installation failed; the log is $log"
    fi
}

# Sets `bin`: that of the active environment if it has the package (-P: not merely in the current directory), or .venv's.
set_up() {
    local active=${VIRTUAL_ENV:-$venv} stamp=$venv/installed wanted
    if [[ $active != "$venv" ]] && "$active/bin/python" -P -c 'import asr_kd' 2>/dev/null; then
        bin=$active/bin
        return
    fi
    # An editable installation is tied to its directory and to what pyproject.toml asks for.
    wanted=$(echo "$root" | cat - "$root/pyproject.toml" | cksum)
    if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
        install
        echo "$wanted" >"$stamp"
    fi
    bin=$venv/bin
}

recipe=$root/recipes/default.yaml test=false options=()
while (($#)); do
    case $1 in
        --help | -h) usage; exit ;;
        --test) test=true; shift ;;
        --repair | --no-page) options+=("$1"); shift ;;
        --recipe | --stage | --stop-stage | --exp | --set | --device | --jobs | --executor | --address)
            (($# > 1)) || fail "$1 needs a value; see --help"
            if [[ $1 == --recipe ]]; then recipe=$2; else options+=("$1" "$2"); fi
            shift 2
            ;;
        *) fail "unknown option $1; see --help" ;;
    esac
done

set_up
if $test; then
    cd "$root"
    exec "$bin/python" -m pytest
fi
# A recipe of this project may be named from any directory.
[[ -e $recipe || ! -e $root/$recipe ]] || recipe=$root/$recipe
exec "$bin/asr-kd" run --recipe "$recipe" "${options[@]}"
