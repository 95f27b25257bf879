# shellcheck shell=bash
# Takes away what the installer and the appliance made, and leaves the models, the settings and, unless purged, the cache. Knows their places only.

uninstall() {
    local models settings
    if ((with_service)); then
        check_service_manager 'Remove'
        remove_service
    elif [[ -n "$prefix" && -e "$SERVICE_UNIT" ]] && grep -qF "$venv_dir/" "$SERVICE_UNIT"; then
        die 'Uninstall' "The service runs from $prefix. Remove it too: ./install.sh --uninstall --service --prefix $prefix"
    fi
    remove_environment
    if ((with_purge)); then
        remove "$cache_dir"
    fi
    models=$(detect_xdg XDG_DATA_HOME .local/share)/appliance/models
    settings=$HOME/.config/appliance
    if ((with_service)) && [[ "$system" == Linux ]]; then
        models=$SERVICE_STATE/models
        settings=$(dirname -- "$SERVICE_SETTINGS")
    else
        remove "$(detect_xdg XDG_STATE_HOME .local/state)/appliance"
    fi
    say 'Uninstalled. These remain:'
    say_left 'models' "$models"
    say_left 'settings' "$settings"
    say_left 'built wheels and logs' "$cache_dir"
}

# Only an environment that we made; another may hold other people's work.
remove_environment() {
    local name
    if [[ -n "$prefix" ]]; then
        for name in appliance appliance-convert; do
            if is_our_link "$prefix/bin/$name"; then
                remove "$prefix/bin/$name"
            fi
        done
    fi
    if [[ -f "$venv_dir/$MADE_MARK" ]]; then
        remove "$venv_dir"
        if [[ "$venv_dir" == "$CHECKOUT/.venv" ]]; then
            remove "$CHECKOUT/$KERNELS_PLACE" "$CHECKOUT/build/kernels"
        fi
    elif [[ -e "$venv_dir" ]]; then
        say "  note  $venv_dir was not created by install.sh, so it stays. Remove it yourself if you do not need it."
    fi
    if [[ -n "$prefix" ]]; then
        rmdir "$prefix/bin" "$prefix/lib" "$prefix" 2>/dev/null || true # only where nothing else is in them
    fi
}

remove() {
    local path
    for path in "$@"; do
        if [[ -e "$path" || -L "$path" ]]; then
            rm -rf -- "$path"
            say "  ok    Removed $path"
        fi
    done
}

say_left() {
    if [[ -e "$2" ]]; then
        say "  $1 in $2"
    else
        say "  no $1 ($2 does not exist)"
    fi
}
